"""VGG: published counts and the paper's table of layers; its values are held by tests/peers."""

import jax
import pytest

from jaxnn.models import VGG11, VGG13, VGG16, VGG19, layers
from jaxnn.types import InputError
from tests.nets import counts, images, shapes

PARAMETERS = {VGG11: 132_863_336, VGG13: 133_047_848, VGG16: 138_357_544, VGG19: 143_667_240}
DEPTHS = {VGG11: 11, VGG13: 13, VGG16: 16, VGG19: 19}
TABLE = {VGG11: "64 M 128 M 256 256 M 512 512 M 512 512 M", VGG16: "64 64 M 128 128 M 256 256 256 M 512 512 512 M 512 512 512 M"}


@pytest.mark.parametrize("net", PARAMETERS)
def test_row_108_vggs_parameters(net):
    """Counted without a value: VGG-16's would take 550 MB."""
    assert sum(counts(net()).values()) == PARAMETERS[net]
    assert len(counts(net())) == DEPTHS[net]


@pytest.mark.parametrize("net", TABLE)
def test_row_108_vggs_layers_are_those_of_the_papers_table(net):
    seen = jax.eval_shape(lambda variables, x: layers(net(), variables, x), shapes(net()), images(224))
    size, expected = 224, []
    for entry in TABLE[net].split():
        if entry == "M":
            size //= 2
        else:
            expected.append((1, size, size, int(entry)))
    assert [maps.shape for name, maps in sorted(seen.items()) if name.startswith("conv")] == expected
    assert [seen[name].shape[1] for name in ("fc6", "fc7", "fc8")] == [4096, 4096, 1000]


def test_row_108_vgg_takes_images_of_any_size_from_32():
    assert shapes(VGG16(classes=3), 32)["params"]["fc6"]["kernel"].shape == (7 * 7 * 512, 4096)
    message = r"VGG: pooling after conv5_3, a window of 2, does not fit into 1 × 4 pixels; the least image is 32 × 32, got 31 × 64"
    with pytest.raises(InputError, match=message):
        shapes(VGG16(), (31, 64))


def test_row_108_vggs_dropout_is_a_half():
    assert VGG16().dropout == 0.5
