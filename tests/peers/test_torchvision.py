"""The nets against torchvision's, from its own random weights: the same logits, in training too.

Biases and what BatchNorm has are moved off their start first, where they are 0 and 1, and kernels are scaled to He's variance, without
which the images are lost on their way through a deep net: both would hide a mistake. The logits agree to 1e-4 of the largest of them.
After a step in training the running means agree; their running variances take σ² n/(n − 1) of the n entries of a map in a batch, ours
σ², so it is what was added to them that is compared, times n/(n − 1).
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from jaxnn.models import VGG16, AlexNet, AlexNetTwoTower, GoogLeNet, GoogLeNetPaper, ResNet18, ResNet50, ZFNet
from jaxnn.models.torchvision_weights import from_torchvision, load_safetensors, weight_map
from tests.nets import drawn, shapes

torch = pytest.importorskip("torch")
models = pytest.importorskip("torchvision.models")
parts = pytest.importorskip("torchvision.models.googlenet")  # `models.googlenet` is a function


def shaken(make, **how):
    """Their net, the same at each call."""
    torch.manual_seed(0)
    module = make(**how)
    for value in module.state_dict().values():
        if value.ndim > 1:
            value *= (2 / value[0].numel()) ** 0.5 / value.std()
        elif value.ndim == 1:
            value += torch.empty_like(value).uniform_(-0.3, 0.3) * (1 if value.mean() > 0.5 else 0.1)
    return module


def arrays(module):
    return {name: value.numpy() for name, value in module.state_dict().items()}


def theirs(module, x):
    with torch.no_grad():
        return module(torch.from_numpy(np.array(x).transpose(0, 3, 1, 2)).to(next(module.parameters()).dtype))


def assert_equal_logits(ours, theirs):
    largest, apart = theirs.abs().max().item(), (theirs[0] - theirs[-1]).abs().max().item()
    assert apart > 0.01 * largest  # two images
    np.testing.assert_allclose(ours / largest, theirs.numpy() / largest, rtol=0, atol=1e-4)


def assert_equal_nets(net, module, size):
    """Logits without and with training, the heads' too, and the running averages."""
    x = drawn(size)
    variables = from_torchvision(net, shapes(net, size), module.state_dict())
    assert_equal_logits(jax.jit(net.apply)(variables, x), theirs(module.eval(), x))
    train = jax.jit(lambda variables, x: net.apply(variables, x, train=True, mutable=["batch_stats", "auxiliary"]))
    ours, changed = train(variables, x)
    entries, watched = {}, []
    for name, part in module.train().named_modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            watched.append(part.register_forward_pre_hook(lambda _, given, name=name: entries.update({name: given[0][:, 0].numel()})))
    outputs = theirs(module, x)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    assert_equal_logits(ours, outputs[0])
    heads = changed.get("auxiliary", {})
    for name, output in zip(sorted(heads, reverse=True), outputs[1:], strict=True):
        assert_equal_logits(heads[name]["logits"], output)
    assert_equal_averages(net, variables, changed.get("batch_stats", {}), arrays(module), entries)


def assert_equal_averages(net, variables, changed, named, entries):
    before = flatten_dict({"batch_stats": variables.get("batch_stats", {})})
    after, names = flatten_dict({"batch_stats": changed}), weight_map(net, variables)
    assert len(before) == len(after) == 2 * len(entries)
    for path, old in before.items():
        module, leaf = names[path].name.rsplit(".", 1)
        unbiased = entries[module] / (entries[module] - 1) if leaf == "running_var" else 1
        expected = (named[names[path].name] - 0.9 * old) / unbiased
        np.testing.assert_allclose(after[path] - 0.9 * old, expected, rtol=1e-3, atol=1e-5, err_msg=module)


def test_row_107_alexnets_logits_are_torchvisions():
    """On 95 × 127 pixels its maps of 1 × 2 are averaged to 6 × 6."""
    assert_equal_nets(AlexNet(dropout=0.0), shaken(models.alexnet, dropout=0.0), (95, 127))


def test_row_107_alexnets_logits_are_torchvisions_at_the_papers_size():
    """Where the order of the 6 × 6 maps' places tells."""
    module, net, x = shaken(models.alexnet).eval(), AlexNet(), drawn(224)
    assert_equal_logits(jax.jit(net.apply)(from_torchvision(net, shapes(net), arrays(module)), x), theirs(module, x))


def test_row_108_vgg_16s_logits_are_torchvisions():
    """On 64 × 96 pixels its maps of 2 × 3 are averaged to 7 × 7."""
    assert_equal_nets(VGG16(dropout=0.0), shaken(models.vgg16, dropout=0.0), (64, 96))


def test_row_108_googlenets_logits_and_heads_are_torchvisions():
    """On 95 × 128 pixels: windows reach over the border."""
    how = {"aux_logits": True, "init_weights": False, "dropout": 0.0, "dropout_aux": 0.0}
    assert_equal_nets(GoogLeNet(auxiliary=True, dropout=0.0, head_dropout=0.0), shaken(models.googlenet, **how), (95, 128))


def test_row_108_resnet_18s_logits_are_torchvisions():
    assert_equal_nets(ResNet18(), shaken(models.resnet18), (64, 96))


def test_row_108_resnet_50s_logits_are_torchvisions():
    """Theirs in double precision: in training, 53 BatchNorms over few entries make 1e-4 of the rounding of either."""
    assert_equal_nets(ResNet50(), shaken(models.resnet50).double(), (64, 96))


def test_row_108_googlenet_as_printed_is_torchvisions_changed_to_it():
    """Biases, windows of 5, normalisation and the heads' pooling; their α is divided by n."""
    nn, normalised = torch.nn, torch.nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2)

    class Unit(nn.Module):
        def __init__(self, below, above, **how):
            super().__init__()
            self.conv = nn.Conv2d(below, above, **how)

        def forward(self, x):
            return self.conv(x).relu()

    class Inception(parts.Inception):
        def __init__(self, *maps):
            super().__init__(*maps, conv_block=Unit)
            self.branch3[1] = Unit(maps[4], maps[5], kernel_size=5, padding=2)

    class Head(parts.InceptionAux):
        def __init__(self, *args, **how):
            super().__init__(*args, conv_block=Unit, **how)

        def forward(self, x):
            x = self.conv(nn.functional.avg_pool2d(x, 5, 3)).flatten(1)
            return self.fc2(self.fc1(x).relu())

    def make():
        net = models.GoogLeNet(init_weights=False, blocks=[Unit, Inception, Head], dropout=0.0)
        net.maxpool1, net.maxpool2 = nn.Sequential(net.maxpool1, normalised), nn.Sequential(normalised, net.maxpool2)
        net.maxpool4 = net.maxpool3
        return net

    assert_equal_nets(GoogLeNetPaper(auxiliary=True, dropout=0.0, head_dropout=0.0), shaken(make), 224)


def moved(net, module, size):
    """Our variables from the layers with weights of a sequence of theirs, in order."""
    known = shapes(net, size)["params"]
    parts = [part for part in module if hasattr(part, "weight")]
    sides = [int(np.sqrt(known["fc6"]["kernel"].shape[0] // 256))]
    params = {}
    for name, part in zip(sorted(known), parts, strict=True):
        kernel = part.weight.detach().numpy()
        if name == "fc6":
            kernel = np.moveaxis(kernel.reshape(len(kernel), -1, *2 * sides), 1, -1).reshape(len(kernel), -1)
        kernel = kernel.transpose(2, 3, 1, 0) if kernel.ndim == 4 else kernel.T
        params[name] = {"kernel": jnp.array(kernel), "bias": jnp.array(part.bias.detach().numpy())}
    return {"params": params}


def test_row_107_two_towers_are_pytorchs_groups():
    nn, normalised = torch.nn, torch.nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2)
    pooled, relu = nn.MaxPool2d(3, 2), nn.ReLU()
    make = lambda: nn.Sequential(  # noqa: E731
        *(nn.Conv2d(3, 96, 11, 4, 2), relu, normalised, pooled),
        *(nn.Conv2d(96, 256, 5, 1, 2, groups=2), relu, normalised, pooled),
        *(nn.Conv2d(256, 384, 3, 1, 1), relu, nn.Conv2d(384, 384, 3, 1, 1, groups=2), relu),
        *(nn.Conv2d(384, 256, 3, 1, 1, groups=2), relu, pooled, nn.Flatten()),
        *(nn.Linear(4 * 256, 4096), relu, nn.Linear(4096, 4096), relu, nn.Linear(4096, 5)),
    )
    module, net, x = shaken(make), AlexNetTwoTower(classes=5), 100 * drawn(96)
    assert_equal_logits(jax.jit(net.apply)(moved(net, module, 96), x), theirs(module, x))


def test_row_108_zf_net_is_pytorchs_layers():
    nn, normalised = torch.nn, torch.nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2)
    pooled, relu = nn.MaxPool2d(3, 2, ceil_mode=True), nn.ReLU()
    make = lambda: nn.Sequential(  # noqa: E731
        *(nn.Conv2d(3, 96, 7, 2, 1), relu, pooled, normalised, nn.Conv2d(96, 256, 5, 2), relu, pooled, normalised),
        *(nn.Conv2d(256, 384, 3, 1, 1), relu, nn.Conv2d(384, 384, 3, 1, 1), relu, nn.Conv2d(384, 256, 3, 1, 1), relu, pooled),
        *(nn.Flatten(), nn.Linear(4 * 256, 4096), relu, nn.Linear(4096, 4096), relu, nn.Linear(4096, 5)),
    )
    module, net, x = shaken(make), ZFNet(classes=5), 100 * drawn(80)
    assert_equal_logits(jax.jit(net.apply)(moved(net, module, 80), x), theirs(module, x))


def test_a_safetensors_file_of_theirs_gives_the_same_variables(tmp_path):
    save = pytest.importorskip("safetensors.torch").save_file
    module, net = shaken(models.googlenet, init_weights=False, aux_logits=False), GoogLeNet()
    save(module.state_dict(), tmp_path / "googlenet.safetensors")
    loaded = from_torchvision(net, shapes(net), load_safetensors(tmp_path / "googlenet.safetensors"))
    jax.tree.map(np.testing.assert_array_equal, loaded, from_torchvision(net, shapes(net), arrays(module)))
    assert jax.tree.map(jnp.shape, loaded) == jax.tree.map(lambda leaf: leaf.shape, dict(shapes(net)))
