"""Throughput runs, says what it compared in plain lines, and counts operations rightly. No test looks at a speed."""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import lenet_matches, mlp_matches, peers, race, resnet_matches, som_matches, throughput, torch_peers
from experiments import command
from jaxnn import losses
from jaxnn.data import Dataset, Source
from jaxnn.models import CifarResNet, CifarResNet20, LeNet5, ResNet18, ResNet50
from jaxnn.models.resnet import PaperBottleneck
from jaxnn.record import load_run
from jaxnn.train import fit

QUICK = ("--repeats", "2", "--seconds", "0.03", "--models", "2", "--platform", "cpu")


@pytest.fixture
def execute(digits, tmp_path, monkeypatch):
    monkeypatch.setattr(throughput, "matmul_rate", lambda dtype: 1e11)
    monkeypatch.setattr(race, "_power_of_two", lambda number: 8)  # another number of steps is another program

    def run(*args):
        return command.execute(throughput.Config, throughput.run, throughput.plot, [*QUICK, "--results", str(tmp_path), *args])

    return run


@pytest.fixture
def no_torch(monkeypatch):
    """What `import torch` says where it is not installed. (With None in sys.modules tyro stumbles over it first.)"""

    def missing(backend):
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    monkeypatch.setattr(torch_peers, "torch_device", missing)


def test_a_run_without_torch(execute, no_torch, capsys):
    assert execute("--only", "mlp_batch10", "mlp_sweep2_batch10") == 0
    lines = capsys.readouterr().out.splitlines()
    ratios = [line for line in lines if line.startswith("ratio ")]
    assert [line.split()[1:3] for line in ratios] == [["mlp_batch10", "numpy"], ["mlp_sweep2_batch10", "numpy"]]
    assert all(re.fullmatch(r"ratio \w+ \w+ [\d.e+]+", line) for line in ratios)
    skipped = [line for line in lines if line.startswith("skipped ")]
    assert skipped[0] == "skipped mlp_batch10 torch_eager torch is not installed"
    assert len(skipped) == 4

    record = load_run(lines[-1])
    assert {path.name for path in record.folder.glob("*.png")} == {"rates.png", "share_of_matmul_rate.png"}
    rates = {name for name in record.history if name.startswith("rate/")}
    assert rates == {f"rate/{work}/{who}" for work in ("mlp_batch10", "mlp_sweep2_batch10") for who in ("jaxnn", "numpy")}
    assert all(record.history[name].shape == (2,) and (record.history[name] > 0).all() for name in rates)
    assert record.meta["skipped"]["mlp_batch10/torch_compile"] == "torch is not installed"
    assert record.comparisons[0].what == "mlp_batch10 / numpy"
    assert record.comparisons[0].median == pytest.approx(
        np.median(record.history["rate/mlp_batch10/jaxnn"] / record.history["rate/mlp_batch10/numpy"])
    )


def test_torch_eager_starts_and_steps(digits):
    pytest.importorskip("torch")
    layers = peers.layers_of(mlp_matches.mlp_learner(0.1), digits)
    advance = mlp_matches.start_torch(layers, digits, 10, compiled=False)
    assert np.isfinite(advance(3)).all()


def test_torch_trains_a_grid_one_model_after_the_other(digits, monkeypatch):
    pytest.importorskip("torch")
    trained, advance = [], peers.advance

    def counting(made, data, batch_size):
        model, number = advance(made, data, batch_size), len(trained)
        trained.append(0)

        def go(num_steps):
            trained[number] += len(model(num_steps))

        return go

    monkeypatch.setattr(peers, "advance", counting)
    monkeypatch.setattr(torch_peers, "faster", lambda advances, steps: next(iter(advances)))
    layers = peers.layers_of(mlp_matches.mlp_learner(0.1), digits)
    grid = mlp_matches.start_torch_grid(layers, digits, 10, "adam")
    grid(1)
    grid(7)
    assert sum(trained) == 8
    assert min(trained) >= 2


def test_a_rate_stands_beside_what_the_device_does_in_that_dtype(capsys):
    """50 steps of 2 GFLOP a second are a tenth of 1 TFLOP/s."""
    scores = race.Scores({"work": np.array([40.0, 50.0, 60.0])}, {"work": 1.5}, {})
    throughput.report(race.Match({"work": None}, {}, 2e9, dtype="bfloat16"), scores, 1e12)
    assert capsys.readouterr().out == "rate work: 50 model-steps/s, 0.1 of the matmul rate, compiled in 1.5 s\n"


def test_a_net_is_measured_in_the_dtype_that_its_match_names(monkeypatch):
    monkeypatch.setattr(resnet_matches.jax, "default_backend", lambda: "gpu")
    dtypes = {next(iter(match.works)): match.dtype for match in resnet_matches.matches()}
    half = dict.fromkeys(("resnet18_batch256_bf16", "resnet50_batch128_bf16"), "bfloat16")
    assert dtypes == {"resnet20_batch64": "float32", **half}
    batch = {"image": jnp.zeros((2, 8, 8, 3), jnp.uint8), "label": jnp.zeros(2, jnp.int32)}
    for dtype, computed in ((None, "f32"), (jnp.bfloat16, "bf16")):
        learner = resnet_matches.learner(CifarResNet(1), dtype)
        state = jax.eval_shape(learner.init, jax.random.key(0), batch)
        steps = str(jax.make_jaxpr(learner.step)(jax.random.key(0), state, batch))
        assert f"{computed}[2,8,8,16] = " in steps
        assert ("bf16" in steps) == (computed == "bf16")


def test_a_group_of_works_has_the_median_ratio_of_its_works(capsys):
    rows = [throughput.compare(f"grid.{name} / torch", [ratio]) for name, ratio in (("a", 3.0), ("b", 9.0), ("c", 4.0))]
    (median,) = throughput.report_groups([throughput.compare("mlp / torch", [100.0]), *rows])
    assert capsys.readouterr().out == "ratio grid torch 4\n"
    assert (median.what, median.median) == ("grid / torch, median of 3", 4.0)


def test_a_group_is_chosen_by_its_name_and_so_is_one_of_it():
    matches = [race.Match({f"grid.{name}": None}, {}, 1.0) for name in "ab"] + [race.Match({"mlp": None}, {}, 1.0)]
    assert [list(match.works) for match in throughput.choose(matches, ["grid"])] == [["grid.a"], ["grid.b"]]
    assert [list(match.works) for match in throughput.choose(matches, ["grid.b", "mlp"])] == [["grid.b"], ["mlp"]]
    assert len(throughput.choose(matches, None)) == 3


def test_all_works_of_a_net_are_chosen_by_its_name():
    works = ("lenet_batch128", "lenet_batch128_stepped", "mlp_batch1", "lenet_grid.a")
    matches = [race.Match(dict.fromkeys(works), {}, 1.0)]
    (match,) = throughput.choose(matches, ["lenet"])
    assert list(match.works) == ["lenet_batch128", "lenet_batch128_stepped", "lenet_grid.a"]


def test_lenet_in_a_scan_and_by_steps(execute, no_torch, monkeypatch, capsys):
    rng = np.random.default_rng(0)
    arrays = {"image": rng.integers(0, 256, (20, 12, 12, 1), dtype=np.uint8), "label": rng.integers(0, 10, 20).astype(np.int32)}
    source = Source("test", "random", "train", "memory", "0", 20)
    monkeypatch.setattr(command, "load_digits", lambda digits, split: Dataset(arrays, source))
    monkeypatch.setattr(lenet_matches, "BATCH", 4)
    assert execute("--only", "lenet", "--repeats", "1") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines if line.startswith("rate ")] == ["lenet_batch4:", "lenet_batch4_stepped:"]
    assert "skipped lenet_batch4_stepped torch_compile torch is not installed" in lines
    record = load_run(lines[-1])
    assert record.history["flops/lenet_batch4_stepped"] == lenet_matches.lenet_flops((12, 12, 1), 4)
    assert (record.history["rate/lenet_batch4_stepped/jaxnn"] > 0).all()


def test_steps_from_python_are_the_learners(digits):
    """Those of the scan, where every step has all data; each call begins at the start."""
    net = mlp_matches.mlp_learner(0.5)
    advance = lenet_matches.stepped(net, digits, len(digits["label"]))
    start = 0, net.init(jax.random.key(0), jax.tree.map(jnp.asarray, digits))
    expected = fit(net, jax.random.key(1), digits, num_steps=3, start=start, label=None).history.train["loss"]
    for _ in range(2):
        np.testing.assert_allclose(advance(3), expected, rtol=1e-5)


def test_operations_of_lenet_counted_by_hand():
    c1, c3, dense = 28 * 28 * 6 * 25, 10 * 10 * 16 * 25 * 6, 400 * 120 + 120 * 84 + 84 * 10
    assert lenet_matches.lenet_flops((28, 28, 1), 128) == 2 * 128 * (2 * c1 + 3 * c3 + 3 * dense)


def test_operations_of_lenet_counted_by_xla():
    """Of plain convolutions, which leave out the zeros around c1's input (.92 of its windows) and count elementwise work."""
    plain = LeNet5(layer=lambda features, window, **more: nn.Conv(features, (window, window), **more))
    images, labels = jnp.zeros((8, 28, 28, 1)), jnp.zeros(8, jnp.int32)
    params = jax.eval_shape(plain.init, jax.random.key(0), images)

    def loss(params):
        return losses.softmax_cross_entropy_with_integer_labels(plain.apply(params, images), labels).mean()

    counted = jax.jit(jax.grad(loss)).lower(params).cost_analysis()["flops"]
    assert counted == pytest.approx(lenet_matches.lenet_flops((28, 28, 1), 8), rel=0.1)


def test_an_unknown_work_is_named_with_the_nearest(execute, capsys):
    assert execute("--only", "mlp_bach10") == 2
    assert "did you mean 'mlp_batch10'?" in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["repeats", "models"])
def test_a_bad_size_is_a_paragraph(execute, capsys, flag):
    with pytest.raises(SystemExit, match="2"):
        execute(f"--{flag}", "0")
    assert f"--{flag} must be at least 1, got 0" in capsys.readouterr().err


def test_operations_of_a_step_counted_by_hand():
    layers = [(np.zeros((3, 2)), np.zeros(2)), (np.zeros((2, 4)), np.zeros(4))]
    forward = 2 * 5 * 3 * 2 + 2 * 5 * 2 * 4
    kernels = 2 * 3 * 5 * 2 + 2 * 2 * 5 * 4
    inputs = 2 * 5 * 4 * 2  # of the second layer alone
    assert mlp_matches.mlp_flops(layers, 5) == forward + kernels + inputs


def test_operations_of_the_lectures_net():
    layers = [(np.zeros(shape), np.zeros(shape[1])) for shape in ((784, 30), (30, 30), (30, 10))]
    assert mlp_matches.mlp_flops(layers, 1) == 101_280


def test_a_peer_that_does_not_start_is_skipped_in_one_line():
    def broken(seconds):
        raise RuntimeError("no compiler\nlooked in many places")

    def works(seconds):
        return race.Contestant(lambda: 2.0, 0.5)

    scores = race.compete(race.Match({"ours": works}, {"theirs": works, "broken": broken}, 1.0), 1.0, 3)
    assert scores.skipped == {"broken": "RuntimeError: no compiler looked in many places"}
    assert {name: rates.tolist() for name, rates in scores.rates.items()} == {"ours": [2.0] * 3, "theirs": [2.0] * 3}
    assert scores.compile_seconds == {"ours": 0.5, "theirs": 0.5}


def test_contestants_take_turns():
    order = []

    def named(name):
        return lambda seconds: race.Contestant(lambda: order.append(name) or 1.0, 0.0)

    race.compete(race.Match({"ours": named("ours")}, {"theirs": named("theirs")}, 1.0), 1.0, 2)
    assert order == ["ours", "theirs", "ours", "theirs"]


def test_matmul_rate_is_positive(monkeypatch):
    clocked = []
    monkeypatch.setattr(race, "_clock", lambda advance, steps: clocked.append(steps) or 0.1)
    assert race.matmul_rate("bfloat16") == pytest.approx(2 * 512**3 / 0.1)
    assert len(clocked) == 5


def test_maps_stand_beside_minisom_with_what_they_come_to(execute, capsys):
    pytest.importorskip("minisom")
    assert execute("--only", "som_online", "som_batch") == 0
    lines = capsys.readouterr().out.splitlines()
    ratios = [line.split()[1:3] for line in lines if line.startswith("ratio ")]
    assert ratios == [["som_online", "minisom_online"], ["som_batch", "minisom_online"], ["som_batch", "minisom_batch"]]
    quality = dict(line.removeprefix("quality som_").rsplit(" ", 1) for line in lines if line.startswith("quality "))
    assert quality.keys() == {
        "online: quantization error, online, 1 pass",
        "online: quantization error, MiniSom online, 1 pass",
        "batch: quantization error, batch, 10 passes",
        "batch: quantization error, MiniSom online, 1 pass",
    }
    online, theirs, batch, _ = map(float, quality.values())
    assert online == pytest.approx(theirs, rel=0.05)
    assert 0 < batch < theirs


def test_maps_run_without_minisom(digits, monkeypatch):
    def missing(*args):
        raise ModuleNotFoundError("No module named 'minisom'", name="minisom")

    monkeypatch.setattr(peers, "minisom", missing)
    online, _ = som_matches.matches(digits)
    assert list(online.quality()) == ["quantization error, online, 1 pass"]


def test_operations_of_a_map():
    online, batch = som_matches.matches({"image": np.zeros((3, 28, 28, 1), np.uint8)})
    assert (online.flops, batch.flops) == (4 * 100 * 784, 2 * 100 * 784)


def test_operations_of_residual_nets_are_the_published_ones():
    """3.8 billion multiply-adds forward for 50 layers, with the stride in the 1×1 convolutions (He et al. 2016, table 1)."""
    image = 224, 224, 3
    first = 112 * 112 * 7 * 7 * 3 * 64
    for net, billions in ((ResNet18(), 1.8), (ResNet50(block=PaperBottleneck), 3.8)):
        step = resnet_matches.residual_flops(net, image, 2)
        assert (step / 4 + first) / 3 == pytest.approx(billions * 1e9, rel=0.03)
    conv1, blocks, dense = 9 * 3 * 16, 9 * (6 * 16**2 * 4**2 + (16 + 5 * 32) * 32 * 2**2 + (32 + 5 * 64) * 64), 640
    assert resnet_matches.residual_flops(CifarResNet20(), (4, 4, 3), 1) == 2 * (2 * 4**2 * conv1 + 3 * (blocks + dense))


def test_a_residual_net_in_a_scan(execute, no_torch, monkeypatch, capsys):
    tiny = resnet_matches.match("resnet8_batch2", CifarResNet(1, maps=(4, 8)), None, side=8, batch_size=2)
    monkeypatch.setattr(resnet_matches, "matches", lambda: [tiny])
    assert execute("--only", "resnet8", "--repeats", "1") == 0
    lines = capsys.readouterr().out.splitlines()
    assert "skipped resnet8_batch2 torch_eager torch is not installed" in lines
    assert (load_run(lines[-1]).history["rate/resnet8_batch2/jaxnn"] > 0).all()
