"""jaxnn.graph against jax.grad on random graphs, and lecture rows 42-44 and 163."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxnn import graph
from jaxnn.graph import backward, in_order, variable
from jaxnn.types import InputError

OPERATIONS = {
    "add": (lambda a, b: a + b, lambda a, b: a + b),
    "subtract": (lambda a, b: a - b, lambda a, b: a - b),
    "multiply": (lambda a, b: a * b, lambda a, b: a * b),
    "divide": (lambda a, b: a / (b * b + 1.0), lambda a, b: a / (b * b + 1)),
    "divide a number": (lambda a, b: 2.0 / (a * a + 1.0), lambda a, b: 2 / (a * a + 1)),
    "subtract from a number": (lambda a, b: 3.0 - a, lambda a, b: 3 - a),
    "subtract and divide by numbers": (lambda a, b: (a - 0.5) / 4.0, lambda a, b: (a - 0.5) / 4),
    "negate": (lambda a, b: -a, lambda a, b: -a),
    "exp": (lambda a, b: graph.exp(graph.tanh(a)), lambda a, b: jnp.exp(jnp.tanh(a))),
    "log": (lambda a, b: graph.log(a * a + 1.0), lambda a, b: jnp.log(a * a + 1)),
    "reciprocal": (lambda a, b: graph.reciprocal(graph.exp(graph.tanh(a))), lambda a, b: jnp.exp(-jnp.tanh(a))),
    "sigmoid": (lambda a, b: graph.sigmoid(a), lambda a, b: jax.nn.sigmoid(a)),
    "tanh": (lambda a, b: graph.tanh(a), lambda a, b: jnp.tanh(a)),
    "relu": (lambda a, b: graph.relu(a), lambda a, b: jax.nn.relu(a)),
}
few = settings(max_examples=20, deadline=None, database=None)
programs = st.lists(st.tuples(st.sampled_from(list(OPERATIONS)), st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=7)
numbers = st.lists(st.floats(-1.5, 1.5, width=32), min_size=3, max_size=3)


def ours(program, values):
    """The nodes of a program: three variables, then one for each line, of any two before it."""
    nodes = [variable(value) for value in values]
    for name, i, j in program:
        nodes.append(OPERATIONS[name][0](nodes[i % len(nodes)], nodes[j % len(nodes)]))
    return nodes


def by_jax(program, values, nudges):
    """The same program, each of its values moved by a nudge: the gradient by the nudges is that at every node."""
    kept = [value + nudge for value, nudge in zip(values, nudges, strict=False)]
    for (name, i, j), nudge in zip(program, nudges[3:], strict=True):
        kept.append(OPERATIONS[name][1](kept[i % len(kept)], kept[j % len(kept)]) + nudge)
    return kept[-1]


@few
@given(programs, numbers)
def test_row_163_the_gradient_at_any_node_is_that_of_jax(program, values):
    nodes = ours(program, values)
    flow = backward(nodes[-1])
    expected = jax.grad(by_jax, argnums=2)(program, values, [0.0] * len(nodes))
    for node, gradient in zip(nodes, expected, strict=True):
        np.testing.assert_allclose(flow.nodes.get(node, 0.0), gradient, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(nodes[-1].value, by_jax(program, values, [0.0] * len(nodes)), rtol=1e-5, atol=1e-6)


def test_row_163_an_edge_carries_upstream_times_local_and_a_node_sums_its_edges():
    x = variable(2.0, "x")
    square = (x * x).named("square")
    f = square * x + square
    flow = backward(f)
    assert flow.nodes[square] == 3.0  # x + 1
    assert flow.nodes[x] == 16.0  # 3x² + 2x
    for (child, number), carried in flow.edges.items():
        assert carried == flow.nodes[child] * child.locals[number]
    into_x = [carried for (child, number), carried in flow.edges.items() if child.parents[number] is x]
    assert sorted(map(float, into_x)) == [4.0, 6.0, 6.0]
    order = list(flow.nodes)
    assert all(order.index(parent) < order.index(child) for child in order for parent in child.parents)


def test_row_42_the_graph_of_two_sums():
    """f = (x + y)(y - z) at (-1, 3, 2): ∂f/∂y comes along two paths."""
    x, y, z = variable(-1.0), variable(3.0), variable(2.0)
    h1, h2 = x + y, y - z
    f = h1 * h2
    assert [float(node.value) for node in (h1, h2, f)] == [2.0, 1.0, 2.0]
    flow = backward(f)
    assert [float(flow.nodes[node]) for node in (h1, h2, x, y, z)] == [1.0, 2.0, 1.0, 3.0, -2.0]
    assert (flow.edges[h1, 1], flow.edges[h2, 0]) == (1.0, 2.0)  # the paths through h1 and h2


def test_erratum_3_the_local_derivatives_of_the_first_graph():
    x, y, z = variable(-1.0), variable(3.0), variable(2.0)
    h1, h2 = x + y, y - z
    assert h1.parents == (x, y)
    assert h2.parents == (y, z)  # no x: the slide's ∂h2/∂x = -1 is ∂h2/∂z
    assert [float(local) for local in (*h1.locals, *h2.locals)] == [1, 1, 1, -1]


def neuron(x, w0, w1, y):
    """The nodes h1 … h6 and f of y / (1 + e^-(w0 + w1 x)), after the variables."""
    x, w0, w1, y = (variable(value) for value in (x, w0, w1, y))
    h1 = x * w1
    h2 = w0 + h1
    h3 = h2 * -1.0
    h4 = graph.exp(h3)
    h5 = h4 + 1.0
    h6 = graph.reciprocal(h5)
    return (x, w0, w1, y), (h1, h2, h3, h4, h5, h6), h6 * y


def test_row_43_the_graph_of_a_neuron():
    variables, h, f = neuron(-2.0, 3.0, 1.0, 1.0)
    np.testing.assert_allclose([node.value for node in h], [-2, 1, -1, 0.367879, 1.367879, 0.731059], atol=5e-7)
    assert f.value == pytest.approx(0.731059, abs=5e-7)
    gradients = backward(f).nodes
    of_h = [0.196612, 0.196612, -0.196612, -0.534447, -0.534447, 1]
    np.testing.assert_allclose([gradients[node] for node in h], of_h, atol=5e-7)
    np.testing.assert_allclose([gradients[node] for node in variables], [0.196612, 0.196612, -0.393224, 0.731059], atol=5e-7)
    shown = (f"{f.value:.2f}", f"{gradients[variables[0]]:.2f}", f"{gradients[f]:.2f}")
    assert shown == ("0.73", "0.20", "1.00")  # as on the slide


def test_erratum_4_with_the_weights_swapped_f_is_another():
    assert neuron(-2.0, 1.0, 3.0, 1.0)[2].value == pytest.approx(0.00669, abs=5e-6)


def test_erratum_5_the_gradient_of_w1_is_negative_and_h1_a_product():
    (_, _, w1, _), (h1, *_), f = neuron(-2.0, 3.0, 1.0, 1.0)
    gradient = backward(f).nodes[w1]
    assert gradient == pytest.approx(-0.393224, abs=5e-7)
    assert f"{gradient:.2f}" == "-0.39"  # the slide's 0.40 is (-2)·0.20 without its sign, rounded before it is doubled
    assert (-2) * 0.20 == -0.40
    assert h1.value == -2.0  # x + w1 would be -1


def test_row_44_the_four_rules():
    x = variable(1.7)
    for made, rule in ((graph.exp(x), np.exp(1.7)), (graph.reciprocal(x), -1 / 1.7**2), (x * 3.5, 3.5), (3.5 + x, 1.0)):
        assert made.locals[0] == pytest.approx(rule, rel=1e-6)
    assert graph.log(x).locals[0] == pytest.approx(1 / 1.7, rel=1e-6)


def test_the_lecture_s_chain_is_the_sigmoid_in_one_node():
    _, (_, h2, *_), f = neuron(-2.0, 3.0, 1.0, 1.0)
    one = graph.sigmoid(h2)
    assert one.value == pytest.approx(float(f.value), rel=1e-6)
    assert one.locals[0] == pytest.approx(float(backward(f).nodes[h2]), rel=1e-6)


def test_arrays_are_many_graphs_at_once_and_can_be_jitted():
    def slope(x):
        node = variable(x)
        return backward(graph.tanh(node * node)).nodes[node]

    x = jnp.linspace(-2, 2, 6).reshape(2, 3)
    expected = jax.vmap(jax.vmap(jax.grad(lambda x: jnp.tanh(x * x))))(x)
    np.testing.assert_allclose(slope(x), expected, atol=1e-6)
    np.testing.assert_allclose(jax.jit(slope)(x), expected, atol=1e-6)


def test_a_chain_deeper_than_python_s_stack():
    x = node = variable(1.0)
    for _ in range(2000):
        node = -node
    assert len(in_order(node)) == 2001
    assert backward(node).nodes[x] == 1.0


def test_two_shapes_in_one_graph_are_refused():
    with pytest.raises(InputError, match=r"× was given \(3,\) and \(2,\)"):
        variable(jnp.ones(3)) * variable(jnp.ones(2))
