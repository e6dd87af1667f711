"""The peers do the same work as ours: the same losses and the same weights after the same batches."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from benchmarks import peers, resnet_matches, som_matches, torch_peers, torch_resnets
from jaxnn import losses, optimizers
from jaxnn.learners import Competitive, supervised
from jaxnn.models import MLP, CifarResNet, LeNet5, ResNet18, functional, torchvision_weights
from tests.oracles import minisom_codebook

LEARNING_RATE = 0.5
STEPS = 60


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(1)
    return {
        "image": rng.integers(0, 256, (50, 28, 28, 1), dtype=np.uint8),
        "label": rng.integers(0, 10, 50).astype(np.int32),
    }


def our_steps(data, optimizer, model=MLP((30, 30, 10)), steps=STEPS):  # noqa: B008
    """Where our training starts, its losses, and where it ends, on the batches that `peers.rows` draws."""
    loss = losses.softmax_cross_entropy_with_integer_labels
    net = supervised(*functional(model), loss, optimizer)
    state = net.init(jax.random.key(0), jax.tree.map(jnp.asarray, data))
    step, taken = jax.jit(net.step), []
    for rows in peers.rows(50, 10, steps, np.random.default_rng(2), np.asarray):
        state, metrics = step(jax.random.key(1), state, {name: jnp.asarray(values[rows]) for name, values in data.items()})
        taken.append(metrics["loss"])
    end = [(layer["kernel"], layer["bias"]) for layer in state.variables["params"].values()]
    return peers.layers_of(net, data), np.array(taken), end


@pytest.fixture(scope="module")
def ours(data):
    return our_steps(data, optax.sgd(LEARNING_RATE))


def check(peer, data, ours, rtol=1e-4, atol=1e-5):
    _, expected_losses, expected_layers = ours
    placed = {name: peer.put(values) for name, values in data.items()}
    measured = peers.train(peer, placed, 10, len(expected_losses), np.random.default_rng(2))
    np.testing.assert_allclose(measured, expected_losses, rtol=rtol)
    for layer, expected in zip(peer.layers(), expected_layers, strict=True):
        for values, wanted in zip(layer, expected, strict=True):
            np.testing.assert_allclose(values, wanted, rtol=rtol, atol=atol)
    assert expected_losses[-5:].mean() < expected_losses[:5].mean()


def test_numpy_by_hand_takes_our_steps(data, ours):
    start = [(kernel.copy(), bias.copy()) for kernel, bias in ours[0]]
    check(peers.numpy_mlp(ours[0], LEARNING_RATE), data, ours)
    for layer, kept in zip(ours[0], start, strict=True):
        np.testing.assert_array_equal(layer[0], kept[0])  # a peer leaves the start to the next one


def test_torch_takes_our_steps(data, ours):
    pytest.importorskip("torch")
    check(torch_peers.torch_mlp(ours[0], LEARNING_RATE), data, ours)


def test_torch_takes_our_steps_on_lenet(data):
    """Two colours and 2×2 pixels before the first dense layer, so that a map or a pixel in another's place would show."""
    pytest.importorskip("torch")
    two_colours = np.concatenate([data["image"][:, :16, :16], data["image"][:, 12:, 12:]], -1)
    data = {**data, "image": two_colours}
    expected = our_steps(data, optax.sgd(0.05), LeNet5(), 20)
    check(torch_peers.torch_lenet(expected[0], 0.05), data, expected, rtol=1e-3, atol=1e-4)
    for (kernel, bias), wanted in zip(torch_peers.torch_lenet(expected[0], 0.05).layers(), expected[0], strict=True):
        np.testing.assert_array_equal(kernel, wanted[0])
        np.testing.assert_array_equal(bias, wanted[1])


@pytest.mark.parametrize("name", torch_peers.OPTIMIZERS)
def test_torch_takes_the_steps_of_each_optimizer(data, name):
    pytest.importorskip("torch")
    rate = {"adadelta": 1.0, "rmsprop": 1e-3, "adam": 1e-3}.get(name, 0.01)
    # Ours has its eps inside the root, where 1e-8 stops gradients below 1e-4; PyTorch's stands outside it and stops none of these.
    tiny = {"eps": 1e-20} if name in ("adagrad", "rmsprop") else {}
    expected = our_steps(data, optimizers.by_name(name)(rate, **tiny))
    check(torch_peers.torch_mlp(expected[0], rate, optimizer=name), data, expected, rtol=5e-3, atol=5e-3)


def test_full_batch_is_all_data_as_they_stand():
    assert list(peers.rows(5, 5, 3, np.random.default_rng(0), np.asarray)) == [...] * 3


def test_an_epoch_holds_each_row_once_without_the_last_partial_batch():
    drawn = list(peers.rows(7, 2, 5, np.random.default_rng(0), np.asarray))
    assert [len(rows) for rows in drawn] == [2] * 5
    assert len({*np.concatenate(drawn[:3])}) == 6
    assert len({*np.concatenate(drawn[3:])}) == 4


def test_torch_device_is_that_of_jax():
    torch = pytest.importorskip("torch")
    assert torch_peers.torch_device("cpu") == "cpu"
    if not torch.cuda.is_available():
        with pytest.raises(RuntimeError, match="finds no GPU"):
            torch_peers.torch_device("gpu")


def test_minisom_takes_the_samples_of_our_online_map():
    """Its codebook is ours, unit for unit, before and after one pass in the same order with the same schedules."""
    pytest.importorskip("minisom")
    rng = np.random.default_rng(3)
    image = rng.integers(0, 256, (60, 8, 8, 1), dtype=np.uint8)
    pixels = som_matches.flat({"image": image})
    start, learner = som_matches.start(pixels), som_matches.online_map(60)
    made = peers.minisom(start, som_matches.SIDE, som_matches.RADIUS, som_matches.LEARNING_RATE)
    np.testing.assert_array_equal(minisom_codebook(made), start)
    peers.minisom_online(made, pixels)(60)
    state, _ = jax.jit(learner.step)(jax.random.key(0), Competitive(jnp.asarray(start), jnp.array(0)), {"image": jnp.asarray(image)})
    np.testing.assert_allclose(state.codebook, minisom_codebook(made), atol=1e-5)


def test_minisom_sees_so_many_samples_in_batches():
    passes = []

    class Counting:
        def train_batch_offline(self, pixels, times):
            passes.append((len(pixels), times))

    peers.minisom_batch(Counting(), np.zeros((10, 2)))(37)
    assert passes == [(10, 3), (7, 1)]


def test_torch_takes_our_steps_on_a_residual_net(monkeypatch):
    """CIFAR's, of 8 layers, from PyTorch's start; its running averages are another's business (`tests/peers`)."""
    torch = pytest.importorskip("torch")
    named_alike = torchvision_weights.Rule(lambda _, module: torchvision_weights.resnet(ResNet18(), module), {})
    monkeypatch.setitem(torchvision_weights.RULES, CifarResNet, named_alike)
    torch.manual_seed(0)
    module, net, data = torch_resnets.cifar_resnet20(blocks=1), CifarResNet(1), resnet_matches.noise(8, 4)
    ours = resnet_matches.learner(net)
    state = jax.jit(ours.init)(jax.random.key(0), jax.tree.map(jnp.asarray, data))
    named = {name: value.numpy() for name, value in module.state_dict().items()}
    state = state._replace(variables=torchvision_weights.from_torchvision(net, state.variables, named))
    peer = torch_resnets.residual_peer(lambda: module, resnet_matches.LEARNING_RATE)
    measured = peers.advance(peer, data, 4)(10)
    step, expected = jax.jit(ours.step), []
    for rows in peers.rows(32, 4, 10, np.random.default_rng(0), np.asarray):
        state, metrics = step(jax.random.key(1), state, {name: jnp.asarray(values[rows]) for name, values in data.items()})
        expected.append(metrics["loss"])
    np.testing.assert_allclose(measured, np.array(expected), rtol=2e-3)
