"""What a convolution or a pooling layer costs: sizes, weights and connections, in whole numbers of pure Python.

Three ways to join a layer to the maps below it, from the most weights to the least (lecture rows 83-90):

| way             | weights                                       | of a 200×200 image, 5×5, one map |
|-----------------|-----------------------------------------------|----------------------------------|
| fully connected | every input × every unit                      | 1,536,640,000                    |
| local           | k² · C for every unit, its own                | 960,400                          |
| shared          | k² for every pair of maps, at all positions   | 25                               |

A link is a pair (map below, map above) that is joined: C·O of them where every map sees every map, fewer under a table of
connections as in LeNet-5's third layer.
"""

from collections.abc import Sequence
from math import prod
from typing import NamedTuple

from jaxnn.types import InputError


def output_size(size: int, kernel: int, stride: int = 1, padding: int = 0, *, exact: bool = False, ceil: bool = False) -> int:
    """⌊(n + 2p - k)/s⌋ + 1 windows of k pixels, s apart, in n pixels with p zeros on each side.

    `exact` asks for a stride that fits: that the last window ends at the border. `ceil` rounds up in place of down: a last window may
    reach over the border, if it starts before the zeros behind. Raises `InputError` where the stride does not fit so, and where no
    window fits at all. Dumoulin & Visin 2016, arXiv:1603.07285; lecture rows 80 and 87.

    >>> output_size(200, 5), output_size(5, 3, stride=2, padding=1), output_size(112, 3, stride=2, ceil=True)
    (196, 3, 56)
    """
    for name, value, least in (("size", size, 1), ("kernel", kernel, 1), ("stride", stride, 1), ("padding", padding, 0)):
        if value < least:
            raise InputError(f"{name} must be at least {least}, got {value}")
    room = size + 2 * padding - kernel
    if ceil and room > -stride:
        return min(-(-room // stride), (size + padding - 1) // stride) + 1
    if room < 0:
        raise InputError(f"a window of {kernel} does not fit into {size} pixels with {padding} zeros on each side")
    if exact and room % stride:
        missing = padding_to_fit(size + 2 * padding, kernel, stride)
        raise InputError(
            f"stride {stride} does not fit: windows of {kernel} leave {room % stride} of {size + 2 * padding} pixels over; "
            f"{missing} more zeros would make one more window fit"
        )
    return room // stride + 1


def padding_to_fit(size: int, kernel: int, stride: int) -> int:
    """The zeros, in all, that make a stride fit: the least q ≥ 0 with s | n + q - k; lecture row 80 (S0:216).

    >>> padding_to_fit(5, 3, stride=3)
    1
    """
    return (kernel - size) % stride if size >= kernel else kernel - size


def padding_to_keep(kernel: int) -> int:
    """The zeros on each side with which a convolution of stride 1 keeps the size: p = (k - 1)/2; lecture row 80 (S2:681).

    >>> padding_to_keep(5)
    2
    """
    if kernel < 1 or kernel % 2 == 0:
        raise InputError(f"the same zeros on both sides keep the size for odd kernels alone, got {kernel}")
    return (kernel - 1) // 2


class Window(NamedTuple):
    """A layer that looks at its maps through k×k windows: a convolution or a pooling."""

    name: str
    size: int
    """k; of a window whose pixels lie d apart, d(k - 1) + 1."""
    stride: int = 1
    padding: int | str = 0
    """Zeros on each side, or "SAME", with which ⌈n/s⌉ windows fit whatever n is, or "VALID", none."""
    ceil: bool = False
    """Whether a last window may reach over the border."""


def sizes_through(net: str, layers: Sequence[Window], shape: Sequence[int]) -> list[tuple[int, int]]:
    """(H, W) of an image behind each of the layers; `shape` is the batch's (B, H, W, C), or one image's (H, W, C).

    Raises `InputError` for an image that `net` cannot take, naming the layer at which it runs out and the least image.

    >>> sizes_through("a net", [Window("c1", 5), Window("pool1", 2, 2)], (1, 32, 30, 3))
    [(28, 26), (14, 13)]
    """
    if len(shape) not in (3, 4):
        raise InputError(f"{net} takes images (B, H, W, C), got an array of shape {tuple(shape)}")
    start = now = shape[-3], shape[-2]
    behind = []
    for layer in layers:
        if min(now) < _least_below(layer, 1):
            raise InputError(f"{net}: {_no_window(layer, now)}; the least image is {_by(*[least_size(layers)] * 2)}, got {_by(*start)}")
        now = _windows(now[0], layer), _windows(now[1], layer)
        behind.append(now)
    return behind


def check_images(net: str, layers: Sequence[Window], shape: Sequence[int]) -> None:
    """Raise an `InputError` unless `shape` is that of a batch of images (B, H, W, C) that `net`, made of these layers, can take."""
    if len(shape) != 4:
        raise InputError(f"{net} takes images (B, H, W, C), got an array of shape {tuple(shape)}")
    if shape[1] in (1, 3) and shape[2] == shape[3] > 3:
        raise InputError(f"{net} takes images (B, H, W, C), got {tuple(shape)}, much like (B, C, H, W): transpose(0, 2, 3, 1) turns it")
    sizes_through(net, layers, shape)


def least_size(layers: Sequence[Window], above: int = 1) -> int:
    """The least number of pixels a side of which these layers leave `above`.

    >>> least_size([Window("c1", 5), Window("pool1", 2, 2), Window("c3", 5), Window("pool3", 2, 2)])
    16
    """
    for layer in reversed(layers):
        above = _least_below(layer, above)
    return above


def _windows(size: int, layer: Window) -> int:
    if layer.padding == "SAME":
        return -(-size // layer.stride)
    return output_size(size, layer.size, layer.stride, _zeros(layer), ceil=layer.ceil)


def _least_below(layer: Window, above: int) -> int:
    """n with (n + 2p - k)/s + 1 = `above`; and at least one pixel. Rounded up, s - 1 fewer, but the last window starts in the image."""
    if layer.padding == "SAME":
        return (above - 1) * layer.stride + 1
    zeros, steps = _zeros(layer), (above - 1) * layer.stride
    if layer.ceil:
        return max(1, steps + layer.size - 2 * zeros - layer.stride + 1, steps + 1 - zeros)
    return max(1, steps + layer.size - 2 * zeros)


def _zeros(layer: Window) -> int:
    if isinstance(layer.padding, int):
        return layer.padding
    if layer.padding != "VALID":
        raise InputError(f"{layer.name}: padding must be a number, 'SAME' or 'VALID', got {layer.padding!r}")
    return 0


def _no_window(layer: Window, now: tuple[int, int]) -> str:
    zeros = f" with {layer.padding} zeros on each side" if layer.padding not in (0, "VALID", "SAME") else ""
    return f"{layer.name}, a window of {layer.size}, does not fit into {_by(*now)} pixels{zeros}"


def _by(height: int, width: int) -> str:
    return f"{height} × {width}"


def full_weights(below: Sequence[int], above: Sequence[int]) -> int:
    """Every input × every unit; both layers by their axes, (H, W, maps) in any order. Lecture rows 83-86 and 90.

    >>> full_weights((200, 200), (196, 196))
    1536640000
    """
    return prod(below) * prod(above)


def local_weights(kernel: int, maps_below: int, above: Sequence[int]) -> int:
    """k²·C weights of its own for each unit above: a convolution that does not share; lecture rows 83, 86 and 162.

    >>> local_weights(5, 1, (196, 196))
    960400
    """
    return kernel**2 * maps_below * prod(above)


def shared_weights(kernel: int, links: int) -> int:
    """k² weights for each link, the same at all positions; lecture rows 83, 86, 88 and 90.

    >>> shared_weights(3, links=4 * 7)  # 28 filters of 3×3, or 7 of 3×3×4 (row 82)
    252
    """
    return kernel**2 * links


def shared_parameters(kernel: int, links: int, maps: int) -> int:
    """The shared weights, and one bias for each map above; LeCun et al. 1998, doi:10.1109/5.726791; lecture rows 100-105.

    >>> shared_parameters(5, links=6, maps=6)
    156
    """
    return shared_weights(kernel, links) + maps


def connections(kernel: int, links: int, maps: int, positions: int) -> int:
    """Lines that end in the units above, k² for each link and one of the bias, at every position.

    With k=2 and one link a map also those of LeNet-5's sub-sampling, whose parameters are two a map, coefficient and bias.
    LeCun et al. 1998, doi:10.1109/5.726791; lecture rows 100-105.

    >>> connections(5, links=6, maps=6, positions=28 * 28)
    122304
    """
    return shared_parameters(kernel, links, maps) * positions
