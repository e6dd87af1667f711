"""The optimizer benchmark keeps its protocol: what is chosen, what is counted, what is kept when it is interrupted."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure

from benchmarks import optimizer_family, optimizer_figures, optimizer_results, workloads
from benchmarks.optimizer_results import DEFAULT, TUNED, Entry, choose, profile, result, score
from experiments import command
from jaxnn import activations, optimizers
from jaxnn.models import MLP
from jaxnn.record import load_run
from jaxnn.types import InputError

QUICK = ("--platform", "cpu", "--rates", "2", "--tuning-seeds", "2", "--report-seeds", "3", "--epochs", "4", "--evaluations", "2")
TINY = workloads.Workload("tiny", MLP((4, 10), activations.linear), {"random": 0.05}, batch_size=10)


@pytest.fixture
def execute(digits, tmp_path, monkeypatch):
    monkeypatch.setitem(workloads.WORKLOADS, "tiny", TINY)

    def run(*args):
        args = [*QUICK, "--workloads", "tiny", "--results", str(tmp_path), *args]
        return command.execute(optimizer_family.Config, optimizer_family.run, optimizer_family.plot, args)

    return run


def test_the_table_goes_on_where_every_member_diverges(execute, capsys):
    assert execute("--optimizers", "sgd", "--low", "1e30", "--high", "1e35", "--target", "0.999") == 0
    printed = capsys.readouterr().out
    record = load_run(printed.splitlines()[-1])
    assert (record.history["tuning_diverged_at/tiny/sgd"] >= 0).all()
    row = next(line for line in printed.splitlines() if line.startswith("| sgd |"))
    assert row.count("all diverged") == 4


def test_an_interrupted_run_keeps_what_is_finished_and_goes_on(execute, capsys, monkeypatch, tmp_path):
    measure = optimizer_family.measure

    def interrupted_at_adam(entry, *args):
        if entry.optimizer == "adam":
            raise KeyboardInterrupt
        return measure(entry, *args)

    monkeypatch.setattr(optimizer_family, "measure", interrupted_at_adam)
    assert execute("--optimizers", "sgd", "adam") == 130
    assert "What is finished is kept" in capsys.readouterr().err
    assert len(list((tmp_path / "optimizer_family" / "unfinished").glob("*/parts/*.npz"))) == 1

    measured = []
    monkeypatch.setattr(optimizer_family, "measure", lambda entry, *args: measured.append(entry.optimizer) or measure(entry, *args))
    assert execute("--optimizers", "sgd", "adam", "--resume", "auto") == 0
    assert measured == ["adam"]
    printed = capsys.readouterr().out
    assert "| adam |" in printed
    assert_whole(load_run(printed.splitlines()[-1]))


def assert_whole(record):
    """All that a run of sgd and adam records."""
    names = {"curves", "steps_to_target", "seconds_to_target", "sensitivity", "steps_by_rate", "performance_profile", "tuned_and_default"}
    assert {path.stem for path in record.folder.glob("*.png")} == names
    history = record.history
    np.testing.assert_allclose(history["rates/tiny/adam"], [10**-3.5, 10**1.5])
    assert history["tuning_best/tiny/sgd"].shape == (2, 2)
    assert history["validation_accuracy/tiny/sgd"].shape == (3, 2, 3)
    assert history["evaluated_at/tiny/sgd"].tolist() == [0, 10, 20]  # 50 training images: 4 epochs are 20 steps of 10
    assert history["reported_rates/tiny/adam"][DEFAULT] == 0.001
    assert history["reported_rates/tiny/adam"][TUNED] in history["rates/tiny/adam"]
    assert record.meta["budgets"]["tiny"] == {"rates": 2, "tuning_seeds": 2, "report_seeds": 3, "epochs": 4.0}
    assert record.meta["targets"] == {"tiny": 0.05}
    assert not (record.folder.parent / "unfinished").exists()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--optimizers", "adm"), "did you mean 'adam'?"),
        (("--workloads", "sigmoid_30_31"), "did you mean 'sigmoid_30_30'?"),
        (("--optimizers",), "--optimizers needs at least one"),
        (("--rates", "0"), "--rates must be at least 1, got 0"),
        (("--low", "-1"), "0 < low ≤ high"),
        (("--high", "nan"), "0 < low ≤ high"),
        (("--epochs", "0"), "--epochs must be above 0"),
        (("--target", "1"), "between 0 and 1"),
    ],
)
def test_bad_input_is_a_paragraph(execute, capsys, args, message):
    with pytest.raises(SystemExit, match="2"):
        execute(*args)
    assert message in " ".join(capsys.readouterr().err.replace("│", " ").split())


def test_a_data_set_without_a_target_asks_for_one():
    with pytest.raises(InputError, match="no target is set for fashion_mnist, only for mnist and mnist_5k"):
        workloads.by_name("logistic").target("fashion_mnist")


def test_steps_to_the_target_and_the_best_accuracy():
    accuracy = np.array([[0.1, 0.9, 0.95, 0.8], [0.1, 0.2, 0.3, 0.3], [0.1, 0.9, 0.99, 0.99]])
    found = result(accuracy, np.array([0, 50, 100, 120]), np.array([-1, -1, 60]), 0.9)
    np.testing.assert_array_equal(found.steps, [100, np.nan, np.nan])  # above the target, not at it; a diverged run reaches nothing
    np.testing.assert_array_equal(found.best, [0.95, 0.3, np.nan])


def tuned(steps, best, diverged=()):
    steps, best = np.array(steps, float), np.array(best, float)
    diverged_at = np.full(steps.shape, -1)
    for at in diverged:
        diverged_at[at] = 3
    return optimizer_results.Result(steps, best, np.zeros(steps.shape, int), diverged_at)


def test_the_chosen_rate_is_the_quickest_then_the_most_accurate_and_never_one_that_diverges():
    nan = np.nan
    assert choose(tuned([[30, 20, 10], [30, 20, 10]], [[0.9, 0.9, 0.9]] * 2)) == 2
    assert choose(tuned([[30, 20, 10], [30, 20, 10]], [[0.9, 0.9, 0.9]] * 2, diverged=[(1, 2)])) == 1
    assert choose(tuned([[20, 20, nan]], [[0.8, 0.9, 0.99]])) == 1
    assert choose(tuned([[nan, nan, nan]], [[0.3, 0.5, 0.4]])) == 1
    assert choose(tuned([[10, nan], [10, nan], [nan, 5]], [[0.9, 0.99]] * 3)) == 0  # the median seed of the second never gets there
    assert choose(tuned([[nan, nan]], [[nan, nan]], diverged=[(0, 0), (0, 1)])) == 0


def history_of(steps_by_optimizer, target=0.9):
    """Reports in which seed s reaches the target at that step, of evaluations every 10 steps up to 50; None never does."""
    at = np.arange(0, 60, 10)
    history = {}
    for name, steps in steps_by_optimizer.items():
        curves = np.array([[0.95 if s is not None and step >= s else 0.5 for step in at] for s in steps])
        curves = np.stack([curves, np.full_like(curves, 0.5)], 1)
        entry = Entry("w", name)
        arrays = {"validation_accuracy": curves, "test_accuracy": curves - 0.01, "diverged_at": np.full((len(steps), 2), -1)}
        arrays |= {"evaluated_at": at, "step_seconds": 0.5, "reported_rates": np.array([0.1, 0.2]), "rates": np.array([0.01, 0.1, 1])}
        history |= {entry.key(key): np.asarray(value) for key, value in arrays.items()}
    return history, [Entry("w", name) for name in steps_by_optimizer], {"w": target}


def test_the_performance_profile_by_hand():
    history, entries, targets = history_of({"a": [10, 20, None], "b": [20, 20, None]})
    ratios = profile(entries, history, targets, TUNED)
    np.testing.assert_array_equal(ratios["a"], [1, 1])  # the third seed is solved by nobody
    np.testing.assert_array_equal(ratios["b"], [2, 1])
    assert score(ratios["b"]) == pytest.approx((2 / 3 + 1) / 2)
    assert profile(entries, history, targets, DEFAULT)["a"].size == 0


def test_the_summary_by_hand():
    history, entries, targets = history_of({"a": [10, 20, 30], "b": [10, None, None]})
    rows = optimizer_results.summary(entries, history, targets).splitlines()[-2:]
    assert rows[0].startswith("| a | 0.1 | 20 [15, 25] | 10 [7.5, 12.5] | 95.00 [95.00, 95.00] | 94.00 [94.00, 94.00] | 0.2 | never |")
    assert rows[1].startswith("| b | 0.1 | 1 of 3 | 1 of 3 |")


@pytest.mark.parametrize("seeds", [4, 6, 8, 10])
def test_half_of_the_seeds_are_not_most_whatever_their_number(seeds):
    """As where a rate is chosen: the median is infinite, in the table as in the figure."""
    half = [10 * (seed + 1) for seed in range(seeds // 2)]
    history, entries, targets = history_of({"a": half + [None] * len(half), "b": [*half, 50] + [None] * (len(half) - 1)})
    rows = [optimizer_results.summary([entry], history, targets).splitlines()[-1].split(" | ") for entry in entries]
    assert rows[0][2:4] == [f"{seeds // 2} of {seeds}"] * 2
    assert rows[1][2] == f"{np.median([half[-1], 50]):.0f} ({seeds // 2 + 1} of {seeds})"
    steps = [optimizer_results.report(entry, history, 0.9, TUNED).steps for entry in entries]
    assert choose(tuned(np.stack([steps[0], np.full(seeds, 60)], 1), np.full((seeds, 2), 0.9))) == 1
    ax = Figure().subplots()
    for row, values in enumerate(steps):
        optimizer_figures.draw_row(ax, values, row, "black", filled=True)
    assert [line.get_ydata()[0] for line in ax.lines if line.get_marker() == "|"] == [1]


def test_an_accuracy_is_told_without_the_seeds_that_diverged():
    history, entries, targets = history_of({"a": [10, 20, 30, None]})
    history["diverged_at/w/a"][:2] = 3
    row = optimizer_results.summary(entries, history, targets).splitlines()[-1].split(" | ")
    assert row[2:5] == ["1 of 4", "1 of 4", "72.50 [61.25, 83.75] (2 of 4 diverged)"]


def test_both_splits_are_measured_at_once():
    """The mean of a weighted metric over both splits is its mean over its own, in NumPy."""
    rng = np.random.default_rng(0)
    part = lambda n: {"image": rng.integers(0, 256, (n, 8, 8, 1), dtype=np.uint8), "label": rng.integers(0, 10, n).astype(np.int32)}  # noqa: E731
    validation, test = part(7), part(13)
    learner = TINY.learner(optimizers.sgd, 0.1)
    state = learner.init(jax.random.key(0), jax.tree.map(jnp.asarray, validation))
    both, evaluated_on_both = workloads.on_both(validation, test)
    found = evaluated_on_both(learner).evaluate(jax.random.key(1), state, jax.tree.map(jnp.asarray, both))
    for name, data in (("validation", validation), ("test", test)):
        expected = learner.evaluate(jax.random.key(1), state, jax.tree.map(jnp.asarray, data))
        assert float(found[f"{name}_accuracy"].mean()) == pytest.approx(float(expected["accuracy"].mean()), rel=1e-5)
        assert float(found[f"{name}_loss"].mean()) == pytest.approx(float(expected["loss"].mean()), rel=1e-5)


@pytest.mark.parametrize(("name", "how"), [("lenet", "map"), ("sigmoid_30_30", "vmap")])
def test_a_workloads_members_run_as_it_says(digits, monkeypatch, name, how):
    class Asked(Exception):
        pass

    def asked(*args, how, **more):
        raise Asked(how)

    monkeypatch.setattr(optimizer_family, "sweep", asked)
    dataset = command.load_digits(command.Digits(), "train")
    with pytest.raises(Asked, match=f"^{how}$"):
        optimizer_family.measure(Entry(name, "adam"), optimizer_family.Config(), dataset, dataset, 0.5, name)


def test_lenets_workload_trains_lenet():
    workload = workloads.by_name("lenet")
    learner = workload.learner(optimizers.sgd, 0.1)
    batch = {"image": jnp.zeros((2, 28, 28, 1), jnp.uint8), "label": jnp.zeros(2, jnp.int32)}
    params = jax.eval_shape(learner.init, jax.random.key(0), batch).variables["params"]
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 61_706
    assert (workload.target("mnist"), workload.target("mnist_5k")) == (0.985, 0.95)
    assert workload.steps(workload.budget.epochs, {"label": np.zeros(3334)}) == 200


def test_algoperfs_workload_is_its_description():
    workload = workloads.by_name("algoperf_mnist")
    assert workload.steps(workload.budget.epochs, {"label": np.zeros(50_000)}) == 7813
    assert workload.targets["mnist"] == 0.97
    train, validation = workloads.split({"image": np.arange(60_000), "label": np.arange(60_000)})
    assert (len(train["label"]), validation["label"][0], len(validation["label"])) == (50_000, 50_000, 10_000)
    white, _ = workloads.standardised({"image": jnp.full((1, 2, 2, 1), 255, jnp.uint8), "label": jnp.zeros(1, jnp.int32)})
    np.testing.assert_allclose(white, (1 - 0.1307) / 0.3081, rtol=1e-6)
