"""A whole experiment, small, run once for all tests of its file."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from experiments import command, residual_training
from jaxnn import record
from jaxnn.models import CifarResNet


@pytest.fixture(scope="module")
def quick():
    """The platform is the tests'."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "use_platform", lambda name: None)
        yield patch


@pytest.fixture(scope="module")
def shallow(quick):
    """The residual nets of the experiments have their first stage alone, a third of what is traced and compiled."""
    one_stage = lambda blocks, maps, **how: CifarResNet(blocks, maps=maps[:1], **how)  # noqa: E731
    quick.setattr(residual_training, "CifarResNet", one_stage)


@pytest.fixture(scope="module")
def run_once(quick, tmp_path_factory) -> Callable[..., record.Record]:
    """Run an experiment as its command line would, and load its record. Of its figures one is written: each takes a second."""

    def run(experiment: ModuleType, args: str, figure: str) -> record.Record:
        results = tmp_path_factory.mktemp("results")
        draw = lambda kept: {figure: experiment.plot(kept)[figure]}  # noqa: E731
        assert command.execute(experiment.Config, experiment.run, draw, [*args.split(), "--results", str(results)]) == 0
        (folder,) = (results / Path(experiment.__file__).stem).iterdir()
        return record.load_run(folder)

    return run
