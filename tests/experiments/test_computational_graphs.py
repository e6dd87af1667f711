import numpy as np
import pytest

from experiments import computational_graphs
from experiments.computational_graphs import Config, figures_of
from jaxnn.types import InputError


@pytest.fixture(scope="module")
def kept(run_once):
    return run_once(computational_graphs, "", "computational_graphs")


def of_nodes(kept, name, what):
    return dict(zip(kept.meta["graphs"][name]["nodes"], np.round(kept.history[f"{name}/{what}"], 6).tolist(), strict=True))


def of_edges(kept, name, what):
    nodes = kept.meta["graphs"][name]["nodes"]
    ends = [(nodes[parent], nodes[child]) for parent, child in kept.history[f"{name}/edge"]]
    return dict(zip(ends, np.round(kept.history[f"{name}/{what}"], 6).tolist(), strict=True))


def test_row_42_the_numbers_drawn_at_the_first_graph(kept):
    assert of_nodes(kept, "product", "value") == {"x": -1, "y": 3, "z": 2, "h1": 2, "h2": 1, "f": 2}
    assert of_nodes(kept, "product", "gradient") == {"x": 1, "y": 3, "z": -2, "h1": 1, "h2": 2, "f": 1}
    gradients = of_edges(kept, "product", "edge_gradient")
    assert gradients == {("x", "h1"): 1, ("y", "h1"): 1, ("y", "h2"): 2, ("z", "h2"): -2, ("h1", "f"): 1, ("h2", "f"): 2}
    assert gradients["y", "h1"] + gradients["y", "h2"] == 3  # the sum of two paths


def test_erratum_3_the_local_derivatives_that_the_experiment_records(kept):
    local = of_edges(kept, "product", "local")
    assert local == {("x", "h1"): 1, ("y", "h1"): 1, ("y", "h2"): 1, ("z", "h2"): -1, ("h1", "f"): 1, ("h2", "f"): 2}


def test_row_43_the_numbers_drawn_at_the_second_graph(kept):
    values, gradients = (of_nodes(kept, "neuron", what) for what in ("value", "gradient"))
    expected = {
        "x": -2,
        "w0": 3,
        "w1": 1,
        "y": 1,
        "h1": -2,
        "h2": 1,
        "h3": -1,
        "h4": 0.367879,
        "h5": 1.367879,
        "h6": 0.731059,
        "f": 0.731059,
    }
    assert values == pytest.approx(expected, abs=2e-6)
    expected = {"x": 0.196612, "w0": 0.196612, "w1": -0.393224, "y": 0.731059, "h1": 0.196612, "h2": 0.196612, "h3": -0.196612}
    assert gradients == pytest.approx(expected | {"h4": -0.534447, "h5": -0.534447, "h6": 1, "f": 1}, abs=2e-6)


def test_erratum_4_the_swapped_weights_at_the_command_line(quick):
    swapped = computational_graphs.run(Config(neuron=(-2.0, 1.0, 3.0, 1.0)))
    nodes = swapped.about["graphs"]["neuron"]["nodes"]
    assert swapped.history["neuron/value"][nodes.index("f")] == pytest.approx(0.00669, abs=5e-6)


def test_erratum_5_the_gradient_of_w1_stands_beside_the_slide_s(kept):
    (ours,) = (c for c in kept.comparisons if c.what == "neuron: ∂f/∂w1")
    assert (ours.published, round(ours.median, 4)) == (0.40, -0.3932)


def test_row_163_every_edge_carries_upstream_times_local_as_jax_grad_has_it(kept):
    for name, words in kept.meta["graphs"].items():
        part = {key.partition("/")[2]: values for key, values in kept.history.items() if key.startswith(name)}
        np.testing.assert_allclose(part["edge_gradient"], part["gradient"][part["edge"][:, 1]] * part["local"], rtol=1e-6)
        sums = np.bincount(part["edge"][:, 0], part["edge_gradient"], minlength=len(words["nodes"]))
        inner = [number for number, node in enumerate(words["nodes"]) if node != "f"]
        np.testing.assert_allclose(sums[inner], part["gradient"][inner], rtol=1e-6)
        variables = [words["nodes"].index(variable) for variable in words["variables"]]
        np.testing.assert_allclose(part["gradient"][variables], part["autodiff"], rtol=1e-5)


def test_every_node_has_a_place_and_every_edge_its_numbers(kept):
    figure = computational_graphs.plot(kept)["computational_graphs"]
    for ax, name in zip(figure.axes, ("product", "neuron"), strict=True):
        texts = [text.get_text() for text in ax.texts]
        for value in (*kept.history[f"{name}/value"], *kept.history[f"{name}/edge_gradient"]):
            assert figures_of(float(value)) in texts


def test_numbers_that_are_not_finite_are_refused():
    with pytest.raises(InputError, match="--neuron must be finite numbers"):
        Config(neuron=(float("nan"), 1.0, 1.0, 1.0))
