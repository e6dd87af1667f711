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

from jaxnn.types import InputError


def output_size(size: int, kernel: int, stride: int = 1, padding: int = 0, *, exact: bool = False) -> int:
    """⌊(n + 2p - k)/s⌋ + 1 windows of k pixels, s apart, in n pixels with p zeros on each side.

    `exact` asks for a stride that fits: that the last window ends at the border. Raises `InputError` where it does not,
    and where no window fits at all. Dumoulin & Visin 2016, arXiv:1603.07285; lecture rows 80 and 87.

    >>> output_size(200, 5), output_size(5, 3, stride=2, padding=1)
    (196, 3)
    """
    for name, value, least in (("size", size, 1), ("kernel", kernel, 1), ("stride", stride, 1), ("padding", padding, 0)):
        if value < least:
            raise InputError(f"{name} must be at least {least}, got {value}")
    room = size + 2 * padding - kernel
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
