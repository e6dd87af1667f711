"""Logarithmic axes with numbers that are read aloud as they stand: 300, 1,000, 3,000."""

from matplotlib.axis import Axis
from matplotlib.ticker import LogLocator, NullFormatter


def plain(axis: Axis, steps: tuple[float, ...] = (1, 3)) -> None:
    """Label `steps` of each power of ten, of a logarithmic axis."""
    axis.set_major_locator(LogLocator(subs=steps))
    axis.set_major_formatter(lambda value, _: f"{value:,g}")
    axis.set_minor_formatter(NullFormatter())
