"""Logarithmic axes with numbers that are read aloud as they stand: 300, 1,000, 3,000."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import LogLocator, NullFormatter


def plain(axis: Axis, steps: tuple[float, ...] = (1, 3)) -> None:
    """Label `steps` of each power of ten, of a logarithmic axis."""
    axis.set_major_locator(LogLocator(subs=steps))
    axis.set_major_formatter(lambda value, _: f"{value:,g}")
    axis.set_minor_formatter(NullFormatter())


def logarithmic(*axes: Axes, x: bool = False, y: bool = False, steps: tuple[float, ...] = (1, 2, 5)) -> None:
    """Logarithmic axes with plain numbers, if any line on any of them has a positive value to show."""
    lines = [line for ax in axes for line in ax.lines]
    for ax in axes:
        if x and any((np.asarray(line.get_xdata(), float) > 0).any() for line in lines):
            ax.set_xscale("log")
            plain(ax.xaxis, steps)
        if y and any((np.asarray(line.get_ydata(), float) > 0).any() for line in lines):
            ax.set_yscale("log")
            plain(ax.yaxis, steps)
