"""A photograph that is always there: the portrait of Grace Hopper that ships with matplotlib (US Navy, 1984, public domain)."""

import numpy as np
from matplotlib.cbook import get_sample_data
from PIL import Image

SOURCE = "grace_hopper.jpg, which ships with matplotlib"


def photograph(width: int) -> np.ndarray:
    """Its brightness from 0 to 1 as float32, (7/6 width, width); it is 512 pixels wide and 600 high as it ships."""
    with Image.open(str(get_sample_data("grace_hopper.jpg", asfileobj=False))) as image:
        small = image.convert("L").resize((width, width * 600 // 512), Image.Resampling.LANCZOS)
    return np.asarray(small, np.float32) / 255
