"""Row 98: the tokens are what they are said to be, the hidden Markov models sum over all paths, a run measures errors."""

import itertools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import formants, phoneme_hmm, tdnn_phonemes
from experiments.tdnn_phonemes import NETS, Config, at_every_shift, at_hand, parameters, shifted, shifts, tokens_of, within
from jaxnn.models import TDNN
from jaxnn.types import InputError

SMALL = (
    "--tokens 12 --test-tokens 6 --batch-size 6 --steps 3 --seeds 2 --states 2 --test-shift 4 --learning-rates 0.01 --methods TDNN HMM-full"
)

LIKE_SMALL = Config(tokens=12, test_tokens=6, batch_size=6, test_shift=4)

pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture(scope="module")
def kept(run_once):
    return run_once(tdnn_phonemes, SMALL, "inside")


VOICE = formants.Voice(*(jnp.array(part) for part in ([480.0, 1850.0, 2550.0], 1.1, 2.0, [1.0, 0.7, 0.5], 0.3)))
TIME = np.array([-2.0, -0.5, 0.0, 1.0, 2.0, 30.0])


def glide(label):
    """Of all three formants, by hand."""
    locus = {"b": 720, "d": 1800, "g": 3000}["bdg"[label]]
    vowel, opening = np.array([480, 1850, 2550]), np.array([200, (locus + 1850) / 2, 2550])
    gone = np.exp(-np.maximum(TIME, 0) / 2)[:, None]
    return 1.1 * (vowel + gone * (opening - vowel))


@pytest.mark.parametrize("label", [0, 1, 2])
def test_row_98_the_second_formant_comes_from_half_way_to_the_locus(label):
    np.testing.assert_allclose(formants.formants(jnp.array(label), VOICE, jnp.array(TIME)), glide(label), rtol=1e-5)


def test_row_98_channels_hear_the_formants():
    def mel(hertz):
        return 2595 * np.log10(1 + np.asarray(hertz) / 700)

    at = mel(150) + (mel(5000) - mel(150)) * np.arange(16) / 15
    heard = lambda peak: np.exp(-(((at - peak) / 130) ** 2) / 2)  # noqa: E731
    expected = []
    for time, peaks in zip(TIME, mel(glide(2)), strict=True):
        voiced = sum(loud * heard(peak) for loud, peak in zip((1, 0.7, 0.5), peaks, strict=True))
        expected.append(0.02 + 0.15 * heard(at[0]) + (1 - np.exp(-max(time, 0) / 0.7)) * voiced)
    np.testing.assert_allclose(formants.energy(jnp.array(2), VOICE, jnp.array(TIME)), expected, rtol=1e-3, atol=1e-5)


def test_row_98_consonants_differ_after_the_opening_alone():
    """Not while the mouth is shut, and no more when the vowel has come."""
    b, d, g = (np.asarray(formants.energy(jnp.array(label), VOICE, jnp.array(TIME))) for label in range(3))
    for one, other in itertools.combinations((b, d, g), 2):
        np.testing.assert_allclose(one[[0, 1, 2, 5]], other[[0, 1, 2, 5]], atol=1e-4)
        assert (np.abs(one - other)[[3, 4]].max(1) > 0.1).all()


def test_row_98_voices_vary_about_the_five_vowels():
    voices = jax.tree.map(np.asarray, jax.jit(jax.vmap(formants.draw_voice))(jax.random.split(jax.random.key(4), 1000)))
    vowels = [[750, 1200, 2500], [300, 2250, 3000], [330, 1250, 2300], [480, 1850, 2550], [480, 850, 2450]]
    apart = np.log(voices.vowel[:, None] / np.array(vowels))
    nearest = np.abs(apart).sum(-1).argmin(1)
    assert (np.bincount(nearest, minlength=5) > 150).all()
    for number in range(5):
        np.testing.assert_allclose(apart[nearest == number, number].mean(0), 0, atol=0.02)
    np.testing.assert_allclose(apart[np.arange(1000), nearest].std(0), 0.06, rtol=0.1)
    np.testing.assert_allclose(np.log(voices.tract).std(), 0.08, rtol=0.1)
    np.testing.assert_allclose(np.log(voices.loudness / np.array([1, 0.7, 0.5])).std(0), 0.2, rtol=0.1)
    np.testing.assert_allclose([voices.glide.min(), voices.glide.max(), voices.early.min(), voices.early.max()], [1.5, 3, 0, 1], atol=0.02)


def drawn(noise):
    """Six tokens at the nine shifts from -4 to 4."""
    return at_every_shift(jax.random.key(3), 6, jnp.arange(-4, 5), noise)


def test_row_98_a_shifted_token_is_the_same_token_later():
    """But for its range, which other frames at the ends make another: a line takes the one to the other."""
    x = np.asarray(drawn(0.0)["x"], float)
    here, later = x[4], x[7]
    for one, other in zip(here[:, :-3], later[:, 3:], strict=True):
        slope, start = np.polyfit(one.ravel(), other.ravel(), 1)
        np.testing.assert_allclose(slope * one + start, other, atol=1e-4)
    assert np.abs(here - later).max() > 0.3


def test_row_98_tokens_are_in_range_and_their_classes_in_turn():
    batch = jax.tree.map(np.asarray, drawn(0.25))
    np.testing.assert_array_equal(batch["label"], [[0, 1, 2, 0, 1, 2]] * 9)
    assert batch["x"].shape == (9, 6, 15, 16)
    np.testing.assert_allclose(np.abs(batch["x"]).max((2, 3)), 1, rtol=1e-6)
    np.testing.assert_allclose(batch["x"].mean((2, 3)), 0, atol=1e-6)
    assert len({float(x[0, 0]) for x in batch["x"][0]}) == 6


def test_row_98_test_tokens_are_the_same_however_widely_the_training_ones_are_shifted():
    narrow, wide = (jax.tree.map(np.asarray, tokens_of(LIKE_SMALL, 1, widest)) for widest in (0, 3))
    np.testing.assert_array_equal(narrow.test["x"], wide.test["x"])
    assert narrow.test["x"].shape == (9, 6, 15, 16)
    assert not np.array_equal(narrow.train["x"], wide.train["x"])
    assert not np.array_equal(narrow.train["x"][:6], narrow.held_out["x"])
    assert not np.array_equal(narrow.train["x"], tokens_of(LIKE_SMALL, 0, 0).train["x"])


def test_row_98_training_tokens_are_shifted_by_whole_frames_either_way():
    """Seen by where the energy jumps up most."""
    opening = [np.diff(np.asarray(shifted(jax.random.key(5), 12, widest, 0.0)["x"]).sum(-1), axis=1).argmax(1) for widest in (0, 3)]
    assert set(opening[0]) <= {5, 6}
    moved = opening[1] - opening[0]
    assert (moved.min(), moved.max()) in {(low, high) for low in (-3, -2, -1) for high in (2, 3)}
    assert len(set(moved.tolist())) > 3


def tiny_model(rng, states=2, coefficients=3):
    square = rng.normal(size=(states, coefficients, coefficients))
    return SimpleNamespace(
        startprob_=np.array([1.0, 0.0]),
        transmat_=np.array([[0.7, 0.3], [0.0, 1.0]]),
        means_=rng.normal(size=(states, coefficients)),
        covars_=square @ square.swapaxes(1, 2) + np.eye(coefficients),
    )


def test_row_98_a_likelihood_is_the_sum_over_all_paths():
    rng = np.random.default_rng(0)
    model, x = tiny_model(rng), rng.normal(size=(2, 4, 3))

    def density(y, state):
        apart, covariance = y - model.means_[state], model.covars_[state]
        return np.exp(-apart @ np.linalg.solve(covariance, apart) / 2) / np.sqrt(np.linalg.det(2 * np.pi * covariance))

    expected = []
    for token in x:
        total = 0.0
        for path in itertools.product(range(2), repeat=4):
            moves = np.prod([model.transmat_[i, j] for i, j in itertools.pairwise(path)])
            total += model.startprob_[path[0]] * moves * np.prod([density(y, state) for y, state in zip(token, path, strict=True)])
        expected.append(np.log(total))
    np.testing.assert_allclose(phoneme_hmm.log_likelihood(model, x), expected, rtol=1e-10)


@pytest.mark.parametrize("covariance", ["diag", "full"])
def test_row_98_likelihoods_and_classes_are_those_of_the_library(covariance):
    pytest.importorskip("hmmlearn")
    rng = np.random.default_rng(0)
    label = np.arange(30) % 3
    x = rng.normal(size=(30, 6, 3)) + np.linspace(0, 1, 6)[:, None] * np.eye(3)[label][:, None]
    models = phoneme_hmm.fit(x, label, 3, 3, covariance)
    seen = phoneme_hmm.with_slopes(x)
    scores = np.array([[model.score(token) for model in models] for token in seen])
    np.testing.assert_allclose([phoneme_hmm.log_likelihood(model, seen) for model in models], scores.T, rtol=1e-6)
    np.testing.assert_array_equal(phoneme_hmm.classify(models, x), scores.argmax(1))
    assert (scores.argmax(1) == label).mean() > 0.6
    for model in models:
        assert model.transmat_[1, 0] == model.transmat_[0, 2] == model.transmat_[2, 1] == 0
        np.testing.assert_array_equal(model.startprob_, [1, 0, 0])


def test_slopes_are_half_the_change_over_two_frames():
    x = np.array([[[0.0], [1.0], [4.0], [9.0]]])
    np.testing.assert_allclose(phoneme_hmm.with_slopes(x)[0, :, 1], [1, 2, 4, 5])


def test_without_the_library_the_nets_go_alone_and_it_is_said(monkeypatch, capsys):
    monkeypatch.setattr(phoneme_hmm, "library", lambda: None)
    assert at_hand(Config().methods) == list(NETS)
    assert "hmmlearn is not installed: without the HMMs. pip install 'jaxnn[peers]' brings it." in capsys.readouterr().out
    assert at_hand(["TDNN"]) == ["TDNN"]
    assert capsys.readouterr().out == ""


def test_row_98_a_run_records_every_method_at_every_shift(kept):
    names = kept.meta["methods"]
    assert names == ["TDNN", "HMM-full"] or phoneme_hmm.library() is None
    for condition in tdnn_phonemes.CONDITIONS:
        for name in names:
            error = kept.history[f"error/{condition}/{name}"]
            assert error.shape == (2, 9)
            np.testing.assert_allclose(6 * error, np.round(6 * error), atol=1e-5)  # shares of six tokens
            assert np.isclose(kept.history[f"learning_rate/{condition}/{name}"], 0.01).all() == (name in NETS)
    assert len(kept.comparisons) == 2 * len(names) * 3
    assert set(tdnn_phonemes.plot(kept)) == {"errors", "inside", "delays", "tokens"}


def test_row_98_each_condition_learns_from_its_own_tokens(monkeypatch):
    """In place from tokens of no shift, shifted from those of up to `train_shift` frames; each error stands where it belongs."""
    config = Config(tokens=12, test_tokens=6, batch_size=6, test_shift=1, methods=("TDNN",), seeds=2, train_shift=2)
    variables = jax.jit(TDNN().init)(jax.random.key(0), jnp.zeros((1, 15, 16)))
    learnt = {}

    def by_net(net, tokens, config, seed, name, keep):
        learnt[name, seed] = np.asarray(tokens.train["x"])
        return tdnn_phonemes.Result(np.full(3, len(learnt) / 10), 0.01, variables, SimpleNamespace(compile_seconds=0.0, run_seconds=0.0))

    monkeypatch.setattr(tdnn_phonemes, "by_net", by_net)
    history = tdnn_phonemes.run(config).history
    for condition, widest in (("in place", 0), ("shifted", 2)):
        for seed in range(2):
            np.testing.assert_array_equal(learnt[f"{condition}/TDNN", seed], tokens_of(config, seed, widest).train["x"])
    np.testing.assert_allclose(history["error/in place/TDNN"], np.repeat([[0.1], [0.2]], 3, 1))
    np.testing.assert_allclose(history["error/shifted/TDNN"], np.repeat([[0.3], [0.4]], 3, 1))


def test_row_98_the_rate_is_that_of_the_lowest_loss_on_held_out_tokens(monkeypatch):
    """Of three rates whose variables are the numbers 1, 2 and 3 the middle one is best; the first diverged."""
    config = Config(tokens=12, test_tokens=6, batch_size=6, test_shift=1, learning_rates=(0.1, 0.2, 0.3))
    tokens = tokens_of(config, 0, 0)
    asked = {}

    def sweep(make, key, data, **how):
        asked.update(how, data=data)
        losses = {"loss": np.array([[[0.0, np.nan], [2.0, 1.0], [0.5, 3.0]]])}
        history = SimpleNamespace(evaluation=losses, diverged_at=np.array([[1, -1, -1]]))
        return SimpleNamespace(variables=np.array([[1.0, 2.0, 3.0]])), history

    monkeypatch.setattr(tdnn_phonemes, "sweep", sweep)
    said = lambda number, x: jnp.broadcast_to(jax.nn.one_hot(number.astype(int) - 1, 3), (len(x), 3))  # noqa: E731
    found = tdnn_phonemes.by_net(tdnn_phonemes.Net(None, said), tokens, config, 0, "a net", tdnn_phonemes.NOTHING)
    assert (found.learning_rate, float(found.variables)) == (0.2, 2.0)
    np.testing.assert_allclose(found.error, np.full(3, 4 / 6))  # it says 1 to all
    assert asked["data"] is tokens.train
    assert asked["eval_data"] is tokens.held_out
    assert asked["axes"] == {"learning_rate": (0.1, 0.2, 0.3)}


def test_row_98_parameters_of_the_methods():
    """Nets of 515 and 240·2 + 2 + 2·3 + 3; five states a class with 32 means, and 32 variances or 32·33/2 covariances, and four moves."""
    counts = {name: int(parameters(name, Config())) for name in Config().methods}
    assert counts == {"TDNN": 515, "MLP-2": 491, "MLP-30": 7323, "HMM-diagonal": 3 * (5 * 64 + 4), "HMM-full": 3 * (5 * 560 + 4)}


def test_row_98_the_errors_are_those_of_the_kept_net(kept):
    tokens = tokens_of(LIKE_SMALL, 0, 3)
    shapes = jax.eval_shape(TDNN().init, jax.random.key(0), tokens.train["x"])
    variables = jax.tree.map(jnp.asarray, kept.state(shapes))
    said = np.stack([np.asarray(jax.jit(TDNN().apply)(variables, x)).argmax(-1) for x in tokens.test["x"]])
    np.testing.assert_allclose(kept.history["error/shifted/TDNN"][0], (said != np.asarray(tokens.test["label"])).mean(1), atol=1e-6)
    output = kept.history["inside/2"]
    again = jax.jit(TDNN().apply)(variables, jnp.asarray(kept.history["inside/x"]))
    np.testing.assert_allclose((output**2).sum(1), again, rtol=1e-4)


def test_row_98_no_published_number_stands_beside_ours(kept):
    """98.5 % is of recorded speech, and stands in no table of ours."""
    assert all(row.published is None for row in kept.comparisons)
    assert "98.5" not in " ".join(row.what for row in kept.comparisons)
    assert "There is no number of the paper to compare with" in tdnn_phonemes.__doc__


def test_errors_are_summed_up_by_distance(kept):
    np.testing.assert_array_equal(shifts(Config(test_shift=2)), [-2, -1, 0, 1, 2])
    error = kept.history["error/in place/TDNN"]
    np.testing.assert_allclose(within(kept.history, "in place/TDNN", 0, 0), error[:, 4])
    np.testing.assert_allclose(within(kept.history, "in place/TDNN", 1, 3), error[:, [1, 2, 3, 5, 6, 7]].mean(1))
    np.testing.assert_allclose(within(kept.history, "in place/TDNN", 4, 4), error[:, [0, 8]].mean(1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokens": 5}, "--tokens must be at least 6, got 5"),
        ({"batch_size": 601}, "--batch-size must not exceed --tokens 600, got 601"),
        ({"states": 16}, "--states must be at most 15, the frames of a token, got 16"),
        ({"methods": ("TDNN", "HMM")}, "unknown method 'HMM'"),
        ({"methods": ("MLP-2",)}, "--methods must name the TDNN"),
        ({"noise": -0.1}, "--noise must be from 0 and finite, got -0.1"),
        ({"test_shift": -1}, "--test-shift must be at least 0, got -1"),
    ],
)
def test_bad_input_is_said_in_words(change, message):
    with pytest.raises(InputError, match=message):
        Config(**change)
