"""Encoded images to arrays and back, trusting nothing: what is not plainly 8-bit grey or RGB is refused, never converted.

A conversion would change pixels that nobody looks at again. Pillow makes some without a word: it halves 16-bit RGB to 8 bits,
and reads a palette as if its indices were grey values.
"""

import io
from typing import Any

import numpy as np
from PIL import Image

FORMATS = ("PNG", "JPEG", "BMP", "PPM", "WEBP")
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".pgm", ".ppm", ".webp")
"""How the files of `FORMATS` are named."""
KEPT = ("PNG", "JPEG", "MPO")
"""Formats whose bytes every reader of tfds sets decodes; a camera's MPO is a JPEG with more behind it."""
PIXELS = 2**26
"""No image may have more: 67 million. A PNG of 200 kB can promise billions."""


class Unfit(ValueError):
    """An image cannot be used; the message says why, and leaves to the caller to say which."""


def decode(data: bytes) -> np.ndarray:
    """The pixels as stored, uint8 (H, W, 1) or (H, W, 3); a camera's note on how to turn the image is not obeyed.

    Raises Unfit for bytes that are no whole image, and for one that is not 8-bit grey or RGB.
    """
    return _decoded(data)[0]


def recode(data: bytes) -> tuple[np.ndarray, bytes]:
    """`decode(data)`, and the bytes to keep: PNG and JPEG as they are, other formats as PNG. Also compares a PNG's checksums."""
    array, kind = _decoded(data)
    if kind == "PNG":
        _compare_checksums(data)
    return array, data if kind in KEPT else encode(array)


def encode(image: np.ndarray) -> bytes:
    """A uint8 image (H, W, 1) or (H, W, 3) as PNG."""
    out = io.BytesIO()
    # Level 1 takes half the time of the default, for 3 % more bytes on digits.
    Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(out, format="PNG", compress_level=1)
    return out.getvalue()


def _decoded(data: bytes) -> tuple[np.ndarray, str]:
    # Pillow's readers raise anything from SyntaxError to struct.error at bytes that they do not expect.
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _check(image, data)
            array = np.asarray(image)
            return (array[..., None] if array.ndim == 2 else array), str(image.format)
    except Unfit:
        raise
    except Exception as error:
        raise Unfit(f"cannot be decoded ({_line(error)}); get the file again") from error


def _check(image: Image.Image, data: bytes) -> None:
    """Look at the header alone, before any pixel is inflated."""
    width, height = image.size
    if width * height > PIXELS:
        raise Unfit(f"is {height}x{width} pixels; {PIXELS} in all would be the most")
    if image.mode not in ("L", "RGB") or "transparency" in image.info:
        kind = {"P": "has a palette", "1": "has 1 bit a pixel"}.get(image.mode, f"is of mode {image.mode}")
        kind = "has transparency" if image.mode in ("LA", "RGBA", "PA") or "transparency" in image.info else kind
        raise Unfit(f"{kind}; 8-bit grey or RGB without transparency would be right")
    # Byte 24 of a PNG is its bit depth; a PNM of 8 bits alone is read raw.
    tiles: Any = getattr(image, "tile", None)
    if (image.format == "PNG" and data[24] > 8) or (image.format == "PPM" and tiles[0][0] != "raw"):
        raise Unfit("has not 8 bits a channel; 8-bit grey or RGB would be right")
    if image.format != "MPO" and (frames := getattr(image, "n_frames", 1)) > 1:
        raise Unfit(f"is an animation of {frames} frames; one image a file would be right")


def _compare_checksums(data: bytes) -> None:
    try:
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            image.verify()
    except Exception as error:
        raise Unfit(f"is damaged ({_line(error)}); get the file again") from error


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
