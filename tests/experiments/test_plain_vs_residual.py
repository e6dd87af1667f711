"""Row 108: nets with shortcuts and without, trained alike."""

import numpy as np
import pytest

from experiments import plain_vs_residual
from experiments.plain_vs_residual import Config, compare_all
from experiments.residual_training import KINDS
from jaxnn.train import History, Run
from jaxnn.types import InputError

SMALL = "--data mnist_5k --depths 8 14 --images 60 --batch-size 18 --epochs 2 --validation --recipe paper --seeds 2"


@pytest.fixture(scope="module")
def kept(quick, run_once):
    """Nets that have the depth as their error (plain) or 22 less it (residual), and the second seed to 1 more; test_cifar_resnet trains."""

    def made_up(training, data, inputs, depth, kind, keep):
        assert [part.source.count for part in data] == [54, 6]
        np.testing.assert_allclose(inputs.mean, data[0].arrays["image"].mean(0) / 255, atol=1e-6)  # that of the paper's recipe
        assert inputs.scale.item() == 1
        right = 1 - (np.arange(2)[:, None] + (depth if kind == "plain" else 22 - depth)) / 100
        history = History(
            {"loss": np.ones((2, 6)), "accuracy": np.broadcast_to(right, (2, 6))},
            {"accuracy": np.broadcast_to(right - 0.1, (2, 3))},
            np.arange(3),
            np.full(2, -1),
            1.0,
            2.0,
        )
        return Run(None, history)

    quick.setattr(plain_vs_residual, "train_all", made_up)
    return run_once(plain_vs_residual, SMALL, "degradation")


def test_row_108_all_four_nets_are_in_the_record(kept):
    assert {name.split("/", 1)[1] for name in kept.history} == {f"{kind}/{depth}" for kind in ("plain", "residual") for depth in (8, 14)}
    np.testing.assert_allclose(kept.history["train_error/plain/14"], [[14, 14], [15, 15]])
    np.testing.assert_allclose(kept.history["validation_error/residual/14"], [[18, 18, 18], [19, 19, 19]])
    assert kept.meta["comparable"] is False


def test_row_108_what_is_said_of_the_deepest_and_the_shallowest(kept):
    said = {line["what"].removesuffix(" (curve only, no claim)"): line["median"] for line in kept.meta["comparisons"]}
    assert said["plain: training error of 14 layers above that of 8, points"] == pytest.approx(6)
    assert said["residual: training error of 14 layers above that of 8, points"] == pytest.approx(-6)
    assert said["plain, 8 layers: validation error, %"] == pytest.approx(18.5)
    assert said["residual, 8 layers: error in the last epoch of training, %"] == pytest.approx(14.5)


def test_row_108_published_errors_are_of_residual_nets_alone():
    nets = [f"{kind}/{depth}" for kind in ("plain", "residual") for depth in (20, 56)]
    history = {f"{what}/{net}": np.ones((3, 2)) for what in ("test_error", "train_error") for net in nets}
    history |= {f"diverged_at/{net}": np.full(3, -1) for net in nets}
    rows = [*compare_all(Config((20, 56)), history, True)]
    assert [row.published for row in rows] == [None, None, 8.75, 6.97] + 6 * [None]
    assert [row.published for row in compare_all(Config((20, 56)), history, False)] == 10 * [None]


def test_row_108_deeper_is_worse_by_the_last_epoch():
    """Of errors that fall: 30 to 12 with 20 layers, 60 to 17 with 56."""
    ends = {20: [30.0, 12.0], 56: [60.0, 17.0]}
    history = {
        f"{what}/{kind}/{depth}": np.array([end]) for what in ("test_error", "train_error") for kind in KINDS for depth, end in ends.items()
    }
    history |= {f"diverged_at/{kind}/{depth}": np.array([-1]) for kind in KINDS for depth in ends}
    *_, plain, residual = compare_all(Config((20, 56)), history, False)
    assert (plain.median, residual.median) == (5, 5)


def test_the_figure_is_drawn(kept):
    (figure,) = plain_vs_residual.plot(kept).values()
    figure.draw_without_rendering()
    left, right = figure.axes
    assert [text.get_text() for text in left.get_legend().get_texts()] == ["plain, 8 layers", "plain, 14 layers"]
    assert left.get_ylim() == right.get_ylim()


@pytest.mark.parametrize("depths", [(20,), (56, 20), (20, 20)])
def test_depths_that_cannot_be_compared_are_refused(depths):
    with pytest.raises(InputError, match="--depths must be two or more, from the fewest to the most, got"):
        Config(depths)
