"""Images as stored, made ready for a net: the one place where bytes become numbers from 0 to 1."""

from collections.abc import Mapping

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxnn.types import Batch, InputError


def pixels(batch: Batch) -> Float[Array, "B *axes"]:
    """`image` of a batch as float32: integers, which are from 0 … 255, over 255; floats, and True and False, as they are.

    Floats are taken for what somebody has already scaled, to 0 … 1 or otherwise. Raises `InputError` for a batch that has no
    images.

    >>> pixels({"image": jnp.array([[0, 255]], jnp.uint8)}), pixels({"image": jnp.array([[0.0, 0.5]])})
    (Array([[0., 1.]], dtype=float32), Array([[0. , 0.5]], dtype=float32))
    """
    check_names(batch, "image")
    image = batch["image"]
    if image.shape[:1] in ((), (0,)):
        raise InputError(f"a batch must have at least one image, (B, H, W, C), got an array of shape {image.shape}")
    scaled = jnp.asarray(image, jnp.float32)
    return scaled / 255 if jnp.issubdtype(image.dtype, jnp.integer) else scaled


def check_names(batch: Batch, *names: str) -> None:
    """Raise `InputError` unless a batch is a dict that has arrays of these names."""
    if not isinstance(batch, Mapping):
        raise InputError(
            f"a batch must be a dict with {' and '.join(names)}, got a {type(batch).__name__}; or give a preprocess of your own"
        )
    if missing := [name for name in names if name not in batch]:
        has = ", ".join(map(str, batch)) or "nothing"
        raise InputError(f"a batch must be a dict with {' and '.join(names)}, got one without {missing[0]}: it has {has}")
