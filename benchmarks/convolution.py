"""What does a convolution cost, a layer at a time, and where does a training step of LeNet-5 go? The ways of `models/conv.py` and PyTorch.

Each layer runs forward, with its kernel's gradient, as a first layer needs, and with both gradients, each time inside one compiled loop,
as in training; in each way that `jaxnn.models.conv` has (`plain`, lax's convolution; `direct`; `tiled` where the stride is 1), beside
PyTorch's eager `conv2d` with its default number of threads or one, whichever is faster. The gradients of `plain` wait for
--plain-gradients, since inside a loop on a CPU they take up to thirty times as long. `rate` lines of a way that `conv` takes end in *.

The profile is of one step at that batch: c1 with its kernel's gradient and c3 with both, from the table, in the ways that `conv` takes; the
poolings with the biases and ReLU before them, and the dense layers with the loss, each forward and backward in a loop of its own; the
rest is what the whole step takes beyond their sum: pixels to floats, the update, and what lies between; below 0 where parts overlap.

Source: lecture rows 76-82 (S4:380, 395); jax issue 12868 (convolutions inside loops).

Command: python -m benchmarks.convolution        (2 minutes on two CPU cores)
Expected on two CPU cores, forward and both gradients: c1 1.8 ms tiled, 15 direct, 7.6 PyTorch; c3 2.1, 5.8 and 1.9; where maps are
many `direct` has .67 (16 maps below, 32 above, stride 2) to .91 (32 maps of 16×16) of PyTorch's rate. A step of LeNet-5 takes 6.1 ms: c1
1.2, c3 2.1, ReLU and pooling 1.2, dense layers .4, the rest 1.0.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

import jax
import numpy as np

from benchmarks.convolution_figures import plot
from benchmarks.convolution_layers import LAYERS, PASSES, Layer, computed, drawn, looped, torch_passes, way_taken, ways
from benchmarks.convolution_profile import C1, C3, profile_match, shares
from benchmarks.race import Match, Scores, Start, compete, peer
from experiments import command
from experiments.unfinished import NOTHING, Keep
from jaxnn.record import Comparison, compare
from jaxnn.types import InputError, unknown


@dataclass(frozen=True)
class Config:
    layers: tuple[str, ...] = tuple(LAYERS)
    """Layers to measure; the profile needs lenet_c1 and lenet_c3."""
    batch_size: int = 128
    """Images a step."""
    repeats: int = 5
    """Timed runs of each."""
    seconds: float = 0.2
    """Length of a timed run, about."""
    plain_gradients: bool = False
    """Measure the gradients of `plain` too; on accelerators they always are."""
    common: command.CommonFields = field(default_factory=command.Common)

    def __post_init__(self) -> None:
        command.at_least(1, batch_size=self.batch_size, repeats=self.repeats)
        if not 0 < self.seconds < math.inf:
            raise InputError(f"--seconds must be a number above 0, got {self.seconds}")
        for name in self.layers:
            if name not in LAYERS:
                raise unknown("layer", name, LAYERS)


def run(config: Config, keep: Keep = NOTHING) -> command.Outcome:
    names = dict.fromkeys(config.layers)
    history: dict[str, np.ndarray] = {f"flops/{name}": np.array(LAYERS[name].flops(config.batch_size)) for name in names}
    comparisons: list[Comparison] = []
    skipped: dict[str, str] = {}
    for name in names:
        scores = race_of(name, partial(match, LAYERS[name], config), config, keep)
        comparisons += report(name, scores)
        history |= {f"ms/{name}/{who}": 1e3 / rates for who, rates in scores.rates.items()}
        history |= {f"compile_seconds/{name}/{who}": np.array(seconds) for who, seconds in scores.compile_seconds.items()}
        skipped |= {f"{name}/{who}": why for who, why in scores.skipped.items()}
    if {C1[0], C3[0]} <= set(names):
        pieces = race_of("profile", partial(profile_match, config.batch_size), config, keep)
        profile = shares(history, {name: 1e3 / rates for name, rates in pieces.rates.items()})
        comparisons += [compare(f"LeNet-5's step, ms: {name}", values) for name, values in profile.items()]
        print("profile", *(f"{name} {np.median(values):.3g} ms;" for name, values in profile.items()), flush=True)
        history |= {f"profile/{name}": values for name, values in profile.items()}
    axes = {key: ("repeat",)[: np.ndim(value)] for key, value in history.items()}
    about = {"skipped": skipped, "taken": {name: way_taken(LAYERS[name]) for name in names}, "passes": PASSES}
    return command.Outcome(history, axes, comparisons, about)


def race_of(name: str, make: Callable[[], Match], config: Config, keep: Keep) -> Scores:
    return Scores.of(keep.part(name, lambda: compete(make(), config.seconds, config.repeats).arrays()))


def report(name: str, scores: Scores) -> Iterator[Comparison]:
    """Print what was measured, one plain line each; return PyTorch's time over ours, as ratios."""
    for who, rates in scores.rates.items():
        kind, _, way = who.partition("/")
        mark = " *" if way == way_taken(LAYERS[name]) else ""
        print(
            f"rate {name} {kind} {way} {1e3 / np.median(rates):.3g} ms, compiled in {scores.compile_seconds[who]:.1f} s{mark}", flush=True
        )
        theirs = scores.rates.get(f"{kind}/torch")
        if way != "torch" and theirs is not None:
            yield compare(f"{name}, {kind}: rate of {way} / of torch", rates / theirs)
    for who, why in scores.skipped.items():
        print(f"skipped {name} {who} {why}", flush=True)


def match(layer: Layer, config: Config) -> Match:
    """Every pass in every way, named `both/tiled` say, and PyTorch's."""
    arrays, of_plain = drawn(layer, config.batch_size), config.plain_gradients or jax.default_backend() != "cpu"
    works: dict[str, Start] = {}
    for way, function in ways(layer).items():
        for kind in PASSES if way != "plain" or of_plain else ("forward",):
            works[f"{kind}/{way}"] = peer(partial(looped, partial(computed, function, kind), *arrays))
    theirs = {f"{kind}/torch": peer(partial(torch_passes, layer, kind, arrays)) for kind in PASSES}
    return Match(works, theirs, layer.flops(config.batch_size))


if __name__ == "__main__":
    command.main(Config, run, plot)
