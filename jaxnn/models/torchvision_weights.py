"""Weights of torchvision's AlexNet, VGG, GoogLeNet and ResNet in the nets of this library: the same logits to rounding.

    net = VGG16()
    shapes = jax.eval_shape(functional(net).init, jax.random.key(0), jnp.zeros((1, 224, 224, 3)))
    variables = from_torchvision(net, shapes, load_safetensors("vgg16.safetensors"))

Trained weights of theirs want pixels as `jaxnn.learners.standardised(MEAN, DEVIATION)` gives them; those of GoogLeNet want
`standardised(0.5, 0.5)`, which their net makes of that itself (`transform_input`), and ours does not. A learner that goes on from them
with classes of its own has another start, where `old_net` has the file's classes and `shapes` are its:

    init, apply = functional(ResNet18(classes=7))

    def start(key, x):
        variables, new = from_torchvision(old_net, shapes, load_safetensors(path)), init(key, x)
        return {**variables, "params": {**variables["params"], "fc": new["params"]["fc"]}}

    learner = supervised(start, apply, loss, optimizer, preprocess=standardised(MEAN, DEVIATION))

The names of each net follow from one rule, which says what they call a module of ours; the layouts from what an array is:

| array | theirs | ours |
|---|---|---|
| kernel of a convolution | `weight` (O, C/groups, k, k) | `kernel` (k, k, C/groups, O) |
| kernel of a dense layer | `weight` (n, m) | `kernel` (m, n) |
| the same above maps | `weight` (n, C·H·W) | `kernel` (H·W·C, n) |
| BatchNorm | `weight`, `bias`, `running_mean`, `running_var` | `scale`, `bias`, `mean`, `var` |

Files of theirs that end in .pth are pickles, which run what is in them, and are not read here; where such a file is to be trusted,
`safetensors.torch.save_file(net.state_dict(), path)` makes another of it. Source: Paszke et al. 2019, arXiv:1912.01703, and torchvision's
documentation of its models; lecture rows 107 and 108.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from jaxnn.models.alexnet import AlexNet
from jaxnn.models.functional import Variables
from jaxnn.models.googlenet import GoogLeNet
from jaxnn.models.resnet import ResNet
from jaxnn.models.vgg import VGG
from jaxnn.types import InputError

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of red, green and blue over ImageNet's training images, pixels from 0 to 1: the numbers that published weights were trained with."""

Names = tuple[str, ...]
"""A path in variables: `("params", "conv1", "kernel")`."""
Shape = tuple[int, ...]


class Layout(NamedTuple):
    """How their array becomes ours."""

    shape: Callable[[Shape], Shape]
    """Theirs, of ours."""
    turn: Callable[[np.ndarray], np.ndarray]
    """Ours, of theirs."""


class Counterpart(NamedTuple):
    """What a variable of ours is called there, and how it is laid out."""

    name: str
    layout: Layout


def first_to_last(array: np.ndarray, axes: Shape) -> np.ndarray:
    """`array.transpose(axes)` copied, whose last axis is the first of `array`: some rows at a time, a fifth of the time for `fc6`."""
    turned = np.empty([array.shape[axis] for axis in axes], array.dtype)
    for start in range(0, len(array), ROWS):
        turned[..., start : start + ROWS] = array[start : start + ROWS].transpose(axes)
    return turned


ROWS = 64
AS_IT_IS = Layout(lambda shape: shape, np.array)
CONVOLUTION = Layout(lambda shape: (shape[3], shape[2], *shape[:2]), lambda array: first_to_last(array, (2, 3, 1, 0)))
DENSE = Layout(lambda shape: shape[::-1], lambda array: first_to_last(array, (1, 0)))
LEAVES = {"kernel": "weight", "bias": "bias", "scale": "weight", "mean": "running_mean", "var": "running_var"}
BOOKKEEPING = ".num_batches_tracked"
"""Of their BatchNorm: a count that the running averages do without."""
SHOWN = 20
"""So many names an error lists, and then how many more there are."""


def above_maps(side: int) -> Layout:
    """Of a dense layer above maps of side × side, which they flatten map by map, and we place by place."""

    def turn(array: np.ndarray) -> np.ndarray:
        return first_to_last(array.reshape(len(array), -1, side**2), (2, 1, 0)).reshape(-1, len(array))

    return Layout(DENSE.shape, turn)


class Rule(NamedTuple):
    """What a kind of net calls its modules there."""

    module: Callable[[Any, Names], str]
    """`(net, path of our module) -> their name`."""
    sides: Mapping[str, int]
    """Dense layers above maps, and the side of those."""


def alexnet(net: AlexNet, module: Names) -> str:
    """Numbers in two sequences, where ReLU, pooling and dropout count: `features.3`, `classifier.1`."""
    numbers = {"conv1": 0, "conv2": 3, "conv3": 6, "conv4": 8, "conv5": 10, "fc6": 1, "fc7": 4, "fc8": 6}
    return f"{'features' if module[0].startswith('conv') else 'classifier'}.{numbers[module[0]]}"


def vgg(net: VGG, module: Names) -> str:
    """Numbers again, after those of the blocks below: two a convolution, one a pooling.

    >>> from jaxnn.models import VGG11
    >>> vgg(VGG11(), ("conv3_2",)), vgg(VGG11(), ("fc7",))
    ('features.8', 'classifier.3')
    """
    if module[0].startswith("fc"):
        return f"classifier.{3 * (int(module[0][2:]) - 6)}"
    block, number = (int(part) - 1 for part in module[0][4:].split("_"))
    return f"features.{sum(2 * count + 1 for count in net.convolutions[:block]) + 2 * number}"


def googlenet(net: GoogLeNet, module: Names) -> str:
    """The names of ours, but for the branches, which have numbers: `inception3a.branch2.1.bn`."""
    branches = {"conv1x1": "branch1", "reduce3x3": "branch2.0", "conv3x3": "branch2.1"}
    branches |= {"reduce5x5": "branch3.0", "conv5x5": "branch3.1", "project": "branch4.1"}
    return ".".join(branches.get(name, name) for name in module)


def resnet(net: ResNet, module: Names) -> str:
    """Points between a stage and the number of a block, and the shortcuts' projections in a sequence: `layer2.0.downsample.1`."""
    block, *parts = module
    projection = {"conv_project": "downsample.0", "bn_project": "downsample.1"}
    return ".".join((block.replace("_", "."), *(projection.get(part, part) for part in parts)))


RULES: dict[type, Rule] = {
    AlexNet: Rule(alexnet, {"fc6": 6}),
    VGG: Rule(vgg, {"fc6": 7}),
    GoogLeNet: Rule(googlenet, {"fc1": 4}),
    ResNet: Rule(resnet, {}),
}


def weight_map(net: nn.Module, shapes: Variables) -> dict[Names, Counterpart]:
    """Their name and layout of each variable of ours; `shapes` as `jax.eval_shape` gives them.

    Raises `InputError` for a net without a rule, and for shapes that are those of `params` alone.
    """
    if type(net) not in RULES:
        known = ", ".join(sorted(kind.__name__ for kind in RULES))
        raise InputError(f"there is no weight map for {type(net).__name__}; there is one for {known}")
    if "params" not in shapes:
        raise InputError(f"shapes must be all that init gives, a dict with 'params', got one with {', '.join(sorted(shapes)) or 'nothing'}")
    rule = RULES[type(net)]

    def counterpart(path: Names, rank: int) -> Counterpart:
        *module, leaf = path[1:]
        layouts = {4: CONVOLUTION, 2: above_maps(rule.sides[module[-1]]) if module[-1] in rule.sides else DENSE}
        return Counterpart(f"{rule.module(net, tuple(module))}.{LEAVES[leaf]}", layouts.get(rank, AS_IT_IS))

    return {path: counterpart(path, len(leaf.shape)) for path, leaf in flatten_dict(shapes).items()}


def from_torchvision(net: nn.Module, shapes: Variables, named: Mapping[str, Any]) -> dict[str, Any]:
    """Variables of `net` from arrays, or CPU tensors, by torchvision's names, laid out as ours and in the dtypes of `shapes`.

    `shapes` are what `jax.eval_shape` gives of the net's `init`. Raises `InputError` with the names that are missing, that the net has no
    use for and that have another shape; `num_batches_tracked` is passed over. A file of GoogLeNet's that holds auxiliary heads is for
    `GoogLeNet(auxiliary=True)`.
    """
    counterparts, ours = weight_map(net, shapes), flatten_dict(shapes)
    wanted = {there.name: there.layout.shape(tuple(ours[path].shape)) for path, there in counterparts.items()}
    named = {name: np.asarray(array) for name, array in named.items() if not name.endswith(BOOKKEEPING)}
    _check(type(net).__name__, wanted, named)
    turned = {path: there.layout.turn(named[there.name]) for path, there in counterparts.items()}  # copies: no memory is shared
    return jax.device_put(unflatten_dict({path: array.astype(ours[path].dtype, copy=False) for path, array in turned.items()}))


def _check(net: str, wanted: Mapping[str, Shape], named: Mapping[str, np.ndarray]) -> None:
    both = [name for name in wanted if name in named]
    wrong = {
        "missing": [f"{name} {shape}" for name, shape in wanted.items() if name not in named],
        "of no use": [f"{name} {array.shape}" for name, array in named.items() if name not in wanted],
        "of another shape": [f"{name} {named[name].shape} for {wanted[name]}" for name in both if named[name].shape != wanted[name]],
        "not of floats": [f"{name} {named[name].dtype}" for name in both if not jnp.issubdtype(named[name].dtype, jnp.floating)],
    }
    said = [f"{len(names)} {how}: {_listed(names)}" for how, names in wrong.items() if names]
    if said:
        raise InputError(f"these weights are not those of torchvision's {net}: " + "; ".join(said))


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def load_safetensors(path: str | Path) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file by their names.

    Raises `InputError` where the package safetensors is not installed, and for a file that is not there or is not such a file.
    """
    try:
        from safetensors import SafetensorError
        from safetensors.numpy import load_file
    except ImportError as error:
        raise InputError(f"{path}: the package safetensors reads such files; pip install 'jaxnn[peers]' brings it") from error
    try:
        return load_file(path)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or 'there is no such file'}") from error
    except (SafetensorError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not a whole safetensors file of arrays that NumPy knows ({error})") from error
