"""A computational graph, and reverse-mode differentiation on it: at any node, gradient = upstream × local (lecture row 163, S2:399-408).

Each node keeps its value, its parents, and the local derivative of its value by each of them. Backwards from the output, an edge
carries ∂output/∂child × ∂child/∂parent, and a node's gradient is the sum of what its edges carry.

The rules of S2:281, whose superscripts are lost there (erratum E5; row 44): e^x → e^x, 1/x → -1/x², a·x → a, a + x → 1.

Values may be arrays, of one shape throughout a graph: then every entry is a graph of its own. All of it can be jitted.

>>> x, y, z = variable(-1.0, "x"), variable(3.0, "y"), variable(2.0, "z")
>>> f = (x + y) * (y - z)
>>> gradients = backward(f).nodes
>>> [float(gradients[node]) for node in (x, y, z)]
[1.0, 3.0, -2.0]

Source: Linnainmaa 1970; Rumelhart, Hinton, Williams 1986, doi:10.1038/323533a0.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from jaxnn import activations
from jaxnn.types import InputError


@dataclass(frozen=True, eq=False)
class Node:
    """A value, and how it depends on the values it was computed from. Two nodes are equal where they are the same one."""

    value: Float[Array, "*shape"]
    operation: str = ""
    """What made it of its parents; empty for a variable."""
    parents: tuple["Node", ...] = ()
    locals: tuple[Float[Array, "*shape"], ...] = ()
    """∂value/∂parent, entry by entry."""
    name: str = ""

    def __add__(self, other: "Node | float") -> "Node":
        if not isinstance(other, Node):
            return _of(f"+ {other:g}", self.value + other, (self, 1.0))
        return _of_two("+", jnp.add, (self, 1.0), (other, 1.0))

    def __mul__(self, other: "Node | float") -> "Node":
        if not isinstance(other, Node):
            return _of(f"× {other:g}", self.value * other, (self, other))
        return _of_two("×", jnp.multiply, (self, other.value), (other, self.value))

    def __sub__(self, other: "Node | float") -> "Node":
        if not isinstance(other, Node):
            return self + -other
        return _of_two("−", jnp.subtract, (self, 1.0), (other, -1.0))

    def __truediv__(self, other: "Node | float") -> "Node":
        return self * (reciprocal(other) if isinstance(other, Node) else 1 / other)

    def __neg__(self) -> "Node":
        return self * -1.0

    __radd__, __rmul__ = __add__, __mul__

    def __rsub__(self, other: float) -> "Node":
        return -self + other

    def __rtruediv__(self, other: float) -> "Node":
        return reciprocal(self) * other

    def named(self, name: str) -> "Node":
        """The same node under a name, for use in its place."""
        return replace(self, name=name)


def variable(value: ArrayLike, name: str = "") -> Node:
    """A node without parents."""
    return Node(jnp.asarray(value, float), name=name)


def exp(x: Node) -> Node:
    """e^x → e^x."""
    value = jnp.exp(x.value)
    return _of("exp", value, (x, value))


def log(x: Node) -> Node:
    """ln x → 1/x."""
    return _of("ln", jnp.log(x.value), (x, 1 / x.value))


def reciprocal(x: Node) -> Node:
    """1/x → -1/x²."""
    value = 1 / x.value
    return _of("1/x", value, (x, -value * value))


def sigmoid(x: Node) -> Node:
    """σ(x) → σ(1 - σ): h_2 … h_6 of the lecture's second graph as one node."""
    value = activations.sigmoid(x.value)
    return _of("σ", value, (x, value * (1 - value)))


def tanh(x: Node) -> Node:
    """tanh x → 1 - tanh² x."""
    value = jnp.tanh(x.value)
    return _of("tanh", value, (x, 1 - value * value))


def relu(x: Node) -> Node:
    """max(0, x) → 1 for x > 0, else 0."""
    return _of("relu", jnp.maximum(x.value, 0), (x, jnp.where(x.value > 0, 1.0, 0.0)))


class Backward(NamedTuple):
    """What flows back from an output."""

    nodes: dict[Node, Array]
    """∂output/∂node of every node, parents before their children."""
    edges: dict[tuple[Node, int], Array]
    """(child, i) -> what flows from the child to its i-th parent: ∂output/∂child × ∂child/∂parent."""


def backward(output: Node) -> Backward:
    """∂output/∂node = Σ over the edges to its children of upstream × local, for every node that the output depends on."""
    nodes = in_order(output)
    gradients = {node: jnp.zeros_like(node.value) for node in nodes}
    gradients[output] = jnp.ones_like(output.value)
    edges = {}
    for child in reversed(nodes):
        for number, (parent, local) in enumerate(zip(child.parents, child.locals, strict=True)):
            edges[child, number] = gradients[child] * local
            gradients[parent] = gradients[parent] + edges[child, number]
    return Backward(gradients, edges)


def in_order(output: Node) -> list[Node]:
    """Every node that the output depends on, once, parents before their children."""
    done: dict[Node, None] = {}
    waiting = [(output, False)]
    while waiting:  # and no recursion: a graph may be deeper than Python's stack
        node, parents_done = waiting.pop()
        if parents_done:
            done[node] = None
        elif node not in done:
            waiting += [(node, True), *((parent, False) for parent in reversed(node.parents))]
    return list(done)


Edge = tuple[Node, ArrayLike]
"""A parent, and the local derivative by it."""


def _of_two(operation: str, function: Callable[[Array, Array], Array], a: Edge, b: Edge) -> Node:
    """Raises `InputError` for values of two shapes."""
    shapes = [parent.value.shape for parent, _ in (a, b)]
    if shapes[0] != shapes[1]:
        raise InputError(f"the values of a graph have one shape, but {operation} was given {shapes[0]} and {shapes[1]}")
    return _of(operation, function(a[0].value, b[0].value), a, b)


def _of(operation: str, value: Array, *edges: Edge) -> Node:
    locals = tuple(jnp.broadcast_to(jnp.asarray(local, value.dtype), value.shape) for _, local in edges)
    return Node(value, operation, tuple(parent for parent, _ in edges), locals)
