import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from experiments import command, optimizer_surfaces
from experiments.optimizer_surfaces import FLOOR, GRID, Config, best, choose, iterate, paths, run, scores
from experiments.surfaces import SURFACES, draw_surface, moments, style, trails
from jaxnn import optimizers, record
from jaxnn.types import InputError

HESSIANS = {"long_valley": [[0.01, 0], [0, 1]], "saddle": [[2, 0], [0, -2]], "rosenbrock": [[802, -400], [-400, 200]]}


def numpy_loss(surface, w):
    """The four functions once more, in float64."""
    x, y = w
    if surface == "beale":
        return sum((c - x * (1 - y**power)) ** 2 for power, c in ((1, 1.5), (2, 2.25), (3, 2.625)))
    if surface == "rosenbrock":
        return (x - 1) ** 2 + 100 * (x * x - y) ** 2
    return 0.005 * x * x + 0.5 * y * y if surface == "long_valley" else x * x - y * y


def numpy_gradient(surface, w, h=1e-6):
    return np.array([(numpy_loss(surface, w + step) - numpy_loss(surface, w - step)) / (2 * h) for step in h * np.eye(2)])


def numpy_path(surface, name, rate, steps):
    """Textbook loops: Nesterov's looks ahead explicitly."""
    w, v, path = np.array(SURFACES[surface].start), np.zeros(2), []
    for _ in range(steps + 1):
        path.append(w)
        g = numpy_gradient(surface, w - 0.9 * v if name == "nesterov" else w)
        v = rate * g if name == "sgd" else 0.9 * v + rate * g
        w = w - v
    return np.array(path)


def recorded(config, folder):
    outcome = run(config)
    about = {"about": outcome.about, "axes": outcome.axes, "comparisons": outcome.comparisons}
    return record.load_run(record.save_run(folder, "trial", config, outcome.history, **about))


@pytest.fixture(scope="module")
def customary(tmp_path_factory):
    """Three optimizers at .01 on every surface."""
    config = Config(optimizers=("sgd", "momentum", "nesterov"), rates=(0.01,), steps=40, frames=5)
    return recorded(config, tmp_path_factory.mktemp("results"))


@pytest.mark.parametrize("surface", SURFACES)
def test_values_and_gradients_are_those_of_numpy(surface):
    values = {"beale": 41.25, "long_valley": 1.53, "rosenbrock": 24.2, "saddle": 1 - 1e-8}
    loss, start = SURFACES[surface].loss, SURFACES[surface].start
    assert loss(np.array(start)) == pytest.approx(values[surface], rel=1e-12)
    points = np.random.default_rng(0).uniform(-1.5, 1.5, (20, 2))
    gradients = jax.jit(jax.vmap(jax.grad(loss)))(jnp.array(points, jnp.float32))
    for w, gradient in zip(points, gradients, strict=True):
        assert loss(w) == pytest.approx(numpy_loss(surface, w), rel=1e-9)
        np.testing.assert_allclose(gradient, numpy_gradient(surface, w), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("surface", [name for name in SURFACES if name != "saddle"])
def test_the_minimum_is_zero_and_the_least_in_the_picture(surface):
    _, loss, start, minimum, low, high = SURFACES[surface]
    assert loss(np.array(minimum)) == 0
    assert (loss(np.random.default_rng(0).uniform(low, high, (1000, 2)).T) > 0).all()
    for point in (start, minimum):
        assert (np.array(low) < point).all()
        assert (np.array(point) < high).all()


@pytest.mark.parametrize("surface", HESSIANS)
def test_curvatures(surface):
    at = jnp.array(SURFACES[surface].minimum or (0.0, 0.0))
    np.testing.assert_allclose(jax.jit(jax.hessian(SURFACES[surface].loss))(at), HESSIANS[surface], rtol=1e-5)


@pytest.mark.parametrize("name", ["sgd", "momentum", "nesterov"])
@pytest.mark.parametrize("surface", ["long_valley", "saddle"])
def test_paths_are_those_of_textbook_loops(customary, surface, name):
    i = customary.meta["optimizers"].index(name)
    expected = numpy_path(surface, name, 0.01, 40)
    np.testing.assert_allclose(customary.history[f"trajectory/{surface}"][i], expected, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(customary.history[f"loss/{surface}"][i], [numpy_loss(surface, w) for w in expected], rtol=1e-2, atol=1e-4)
    assert customary.history[f"rate/{surface}"][i] == 0.01


def test_a_path_that_diverges_is_cut_and_marked_and_leaves_no_nan(customary):
    """Momentum at .01 on Beale's function and SGD at .01 on Rosenbrock's, as a loop in NumPy has them."""
    for surface, name in (("beale", "momentum"), ("rosenbrock", "sgd")):
        i = customary.meta["optimizers"].index(name)
        with np.errstate(all="ignore"):
            expected = numpy_path(surface, name, 0.01, 40)
        low, high = SURFACES[surface].low, SURFACES[surface].high
        outside = ~((expected >= low) & (expected <= high)).all(-1)
        left = int(customary.history[f"left_at/{surface}"][i])
        assert left == outside.argmax()
        assert customary.history[f"diverged_at/{surface}"][i] > left
        figure = draw_surface(customary, surface)
        (cross,) = [line for line in figure.axes[0].lines if line.get_marker() == "x" and line.get_color() == style(name)["color"]]
        np.testing.assert_allclose(np.ravel(cross.get_data()), expected[left - 1], rtol=1e-3)
        labels = [text.get_text() for text in figure.axes[1].get_legend().get_texts()]
        assert f"{name}, η = 0.01\n(diverged at {left})" in labels
    for values in customary.history.values():
        assert not np.isnan(values).any()
    for surface in SURFACES:
        assert np.isfinite(customary.history[f"trajectory/{surface}"]).all()
        assert np.isfinite(customary.history[f"loss/{surface}"]).all()
    (row,) = [row for row in customary.comparisons if row.what.startswith("beale: momentum") and "loss after" in row.what]
    assert (row.median, row.diverged) == (None, 1)


def test_row_55_sgd_stays_at_a_saddle_as_long_as_a_logarithm_says():
    """y grows by 1 + 2η a step, from 10⁻⁴ to the picture's edge at 1.5, while Adam needs no growth."""
    outcome = run(Config(optimizers=("sgd", "adam"), surfaces=("saddle",), saddle_rate=0.1, rates=(1.0,), steps=60))
    sgd, adam = outcome.history["left_at/saddle"]
    assert sgd == np.ceil(np.log(1.5e4) / np.log(1.2))
    assert adam < sgd / 2
    assert [row.median for row in outcome.comparisons] == [sgd, adam]


def test_the_rate_chosen_for_sgd_in_the_valley_is_the_last_stable_one():
    """Largest curvature 1: stable below 2, and best at 2/(1 + .01)."""
    history = run(Config(optimizers=("sgd",), surfaces=("long_valley",), steps=200)).history
    assert history["rate/long_valley"] == [max(rate for rate in GRID if rate < 2)]
    assert np.isinf(history["score/long_valley"][0][np.array(GRID) > 2]).all()


def three_paths():
    """In the saddle's picture: one stays, one leaves and comes back, one leaves and ends in NaN."""
    points = np.full((3, 5, 2), 0.25)
    points[1, 2] = 3.0
    points[2, 2:] = [[3.0, 0.0], [np.nan, 0.0], [0.0, 0.0]]
    loss = np.array([[1, 1e-3, 1e-1, 1e-20, 1e-20], [1, 1, 1, 1, 1], [1, 1, 1, 1, np.inf]])
    return paths(SURFACES["saddle"], points, loss)


def test_what_left_and_what_is_not_finite_is_found_and_held():
    found = three_paths()
    assert found.left_at.tolist() == [-1, -1, 2]
    assert found.strayed_at.tolist() == [-1, 2, 2]
    assert found.diverged_at.tolist() == [-1, -1, 3]
    np.testing.assert_array_equal(found.points[2, 2:], [[3.0, 0.0]] * 3)
    np.testing.assert_array_equal(found.loss[2], 1)


def test_a_score_looks_at_the_largest_loss_to_come_and_ends_with_the_first_path_that_strays():
    found = three_paths()
    np.testing.assert_allclose(scores(found), [np.mean([0, -1, -1, -10, -10]), np.inf, np.inf])
    assert FLOOR == 1e-10
    assert best(found) == 0
    back = type(found)(*(part[[1, 0, 0]] for part in found))
    assert np.isinf(scores(back)).all()
    assert best(back) == 1


def test_schedule_free_is_drawn_at_its_average():
    """x = z_1, then the mean of z_1 and z_2; the gradient is taken at y = .9x + .1z."""
    optimizer, w = optimizers.schedule_free_adamw(0.1), jnp.array([1.0, 2.0])
    state = optimizer.init(w)
    for gradient in (jnp.array([1.0, 1.0]), jnp.array([1.0, -1.0])):
        updates, state = jax.jit(optimizer.update)(gradient, state, w)
        w = w + updates
    np.testing.assert_allclose(iterate(w, state), [0.85, 1.95], atol=1e-5)
    np.testing.assert_allclose(w, 0.9 * iterate(w, state) + 0.1 * state.z, atol=1e-5)


def test_lbfgs_keeps_the_rate_1_and_the_saddle_the_customary_one():
    found, config = three_paths(), Config(rates=(0.25,), saddle_rate=0.125)
    assert choose("lbfgs", "beale", found, config).rate == 1
    assert choose("adadelta", "saddle", found, config).rate == 1
    assert choose("adam", "saddle", found, config).rate == 0.125
    picked = choose("adam", "beale", found, config)
    assert picked.rate == 0.25
    np.testing.assert_array_equal(picked.path.loss, found.loss[0])


def test_row_64_a_run_is_recorded_drawn_and_animated(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(command.jax.config, "update", lambda *_: None)  # the platform and the precision of the other tests stay
    args = "--optimizers sgd lion sgd --surfaces long_valley --steps 12 --rates 0.1 0.01 --frames 4 --results".split()
    assert command.execute(Config, run, optimizer_surfaces.plot, [*args, str(tmp_path)]) == 0
    out = capsys.readouterr().out.splitlines()
    kept = record.load_run(out[-1])
    assert kept.meta["optimizers"] == ["sgd", "lion"]
    assert kept.meta["figures"] == ["long_valley", "rates", "long_valley_moving"]
    assert kept.history["trajectory/long_valley"].shape == (2, 13, 2)
    assert kept.history["loss/long_valley"].shape == (2, 13)
    assert kept.history["score/long_valley"].shape == (2, 2)
    np.testing.assert_array_equal(kept.history["rates"], [0.01, 0.1])
    assert any(line.startswith("long_valley: sgd, η = 0.1: loss after 12 steps") for line in out)
    with Image.open(kept.folder / "long_valley_moving.gif") as gif:
        assert gif.format == "GIF"
        assert gif.n_frames == 4


def test_an_animation_ends_at_the_last_step():
    assert moments(300, 60)[-1] == 300
    assert len(moments(3, 60)) == 4
    assert moments(300, 1) == [0]


def test_the_points_of_a_trail_are_inside_the_picture(customary):
    for surface in SURFACES:
        for trail in trails(customary, surface):
            assert len(trail.points) == len(trail.loss)
            assert trail.left == ("\n" in trail.label)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ("--optimizers sdg", "unknown optimizer 'sdg'; did you mean 'sgd'?"),
        ("--surfaces beal", "unknown surface 'beal'; did you mean 'beale'?"),
        ("--steps 0", "--steps must be at least 1, got 0"),
        ("--frames -1", "--frames must be at least 0, got -1"),
        ("--rates 0.1 -0.1", "--rates must be above 0 and below 1e38, got 0.1 -0.1"),
        ("--rates nan", "--rates must be above 0 and below 1e38, got nan"),
        ("--rates inf", "--rates must be above 0 and below 1e38, got inf"),
        ("--saddle-rate 0", "--saddle-rate must be above 0 and below 1e38, got 0.0"),
        ("--surfaces", "--surfaces needs at least one"),
    ],
)
def test_bad_input_is_one_paragraph_and_exit_code_2(tmp_path, capsys, monkeypatch, args, message):
    monkeypatch.setattr(command.jax.config, "update", lambda *_: None)
    try:
        code = command.execute(Config, run, optimizer_surfaces.plot, ["--results", str(tmp_path), *args.split()])
    except SystemExit as caught:
        code = caught.code
    assert code == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert list(tmp_path.iterdir()) == []


def test_an_error_in_a_script_is_an_input_error():
    with pytest.raises(InputError, match="unknown optimizer"):
        Config(optimizers=("adma",))


@pytest.mark.slow
def test_the_default_run_is_as_the_docstring_says():
    """All thirteen optimizers, L-BFGS with its line search among them: 20 seconds, most of it compilation."""
    outcome = run(Config())
    for surface in SURFACES:
        assert np.isfinite(outcome.history[f"trajectory/{surface}"]).all()
        assert outcome.history[f"trajectory/{surface}"].shape == (13, 301, 2)
        chosen = outcome.history[f"rate/{surface}"]
        assert (chosen > GRID[0]).all()
        assert (chosen < GRID[-1]).all()
    steps = {tuple(row.what.split(", η")[0].split(": ")): row.median for row in outcome.comparisons if "steps to" in row.what}
    for name, value in {"momentum": 99, "adam": 108, "lbfgs": 2}.items():
        assert steps["saddle", name] == pytest.approx(value, abs=2)
    for name, value in {"sgd": 156, "momentum": 68, "adam": 60, "adagrad": 9, "lbfgs": 6}.items():
        assert steps["long_valley", name] == pytest.approx(value, abs=3)
    for name, value in {"momentum": 91, "adam": 184, "lbfgs": 28}.items():
        assert steps["rosenbrock", name] == pytest.approx(value, rel=0.1)
    for name in ("sgd", "adagrad", "rmsprop", "adadelta"):
        assert np.isnan(steps["rosenbrock", name])
    assert np.isnan(steps["saddle", "sgd"])
    y = outcome.history["trajectory/saddle"][0, -1, 1]
    assert y == pytest.approx(1e-4 * 1.02**300, rel=1e-3)
