"""The scaling benchmark runs, gives each point a process of its own, and reads exponents off power laws."""

import subprocess

import numpy as np
import pytest

from benchmarks import scaling, scaling_point
from experiments import command
from jaxnn.record import load_run
from jaxnn.types import InputError


def cost(point):
    """As if two devices halved the time of whatever takes long, and memory grew with members and data."""
    work = point.width * point.batch * point.depth**0.5 / point.devices
    return {"step_seconds": [1e-3 * work] * 3, "compile_seconds": 1.0, "bytes": 1e6 * point.width + 784 * point.data, "of_device": False}


@pytest.fixture
def counted(monkeypatch):
    measured = []
    monkeypatch.setattr(scaling_point, "in_own_process", lambda point: measured.append(point) or cost(point))
    return measured


def test_exponents_figures_and_a_table_come_of_the_points(counted, tmp_path, capsys):
    assert command.execute(scaling.Config, scaling.run, scaling.plot, ["--results", str(tmp_path), "--platform", "cpu"]) == 0
    record = load_run(capsys.readouterr().out.splitlines()[-1])
    assert len(counted) == len(set(counted))  # the base is measured once
    expected = {"width": 1, "batch": 1, "depth": 0.5, "data": 0, "devices": -1, "devices_rows": -1}
    for name, exponent in expected.items():
        np.testing.assert_allclose(record.history[f"exponent_step_seconds/{name}"], [exponent, 0], atol=1e-6)
    np.testing.assert_array_equal(record.history["x/devices"], [1, 2, 4, 8])
    figures = ("model_steps_per_second", "step_seconds", "bytes", "compile_seconds")
    assert {path.stem for path in record.folder.glob("*.png")} == set(figures)
    assert record.comparisons[0].what == "step time ∝ (members of the sweep)^"


@pytest.mark.parametrize(("share", "width"), [("members", 4), ("rows", 1)])
def test_a_point_is_measured_in_a_process_with_its_own_devices(share, width):
    measured = scaling_point.in_own_process(scaling_point.Point(width, 8, 1, 40, 2, share, 5, 0.01, 2, "cpu"))
    assert len(measured["step_seconds"]) == 2
    assert min(measured["step_seconds"]) > 0 < measured["compile_seconds"]
    assert measured["bytes"] > 40 * 784 or np.isnan(measured["bytes"])
    assert not measured["of_device"]


def test_a_point_that_fails_says_what_its_process_said(monkeypatch):
    def fail(point):
        raise subprocess.CalledProcessError(1, "python", stderr="Traceback\nMemoryError: 3 TB\n")

    monkeypatch.setattr(scaling_point, "in_own_process", fail)
    with pytest.raises(InputError, match=r"the point of width 9, .*could not be measured: MemoryError: 3 TB"):
        scaling.measure(scaling_point.Point(9, 8, 1, 40, 2, "members", 5, 0.01, 2, "cpu"))


def test_the_power_law_has_its_standard_error():
    x, y = np.array([1.0, 2, 4, 8]), np.array([1.0, 2.2, 3.4, 6.8])
    slope, error, factor, over = scaling.power_law(x, y)
    design = np.stack([np.log(x[1:]), np.ones(3)], 1)
    solution, squares = np.linalg.lstsq(design, np.log(y[1:]))[:2]
    np.testing.assert_allclose([slope, np.log(factor)], solution)
    np.testing.assert_allclose(error, np.sqrt(squares[0] * np.linalg.inv(design.T @ design)[0, 0]))
    np.testing.assert_array_equal(over, [2, 4, 8])  # the larger half, three at least
    assert np.isnan(scaling.power_law(x[:1], y[:1])[:3]).all()
    assert np.isnan(scaling.power_law(x[:2], y[:2])[1])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--widths 0", "--widths must be at least 1, got 0"),
        ("--seconds 0", "--seconds must be above 0"),
        ("--batches 8 5000", "no batch may be larger than its data"),
        ("--data 10 100", "no batch may be larger than its data"),
        ("--devices 1 3", "--device-batch 512 is no multiple of 3 devices"),
    ],
)
def test_a_flag_that_cannot_be_is_an_error_in_words(counted, tmp_path, capsys, flags, message):
    with pytest.raises(SystemExit) as caught:
        command.execute(scaling.Config, scaling.run, scaling.plot, [*flags.split(), "--results", str(tmp_path)])
    assert caught.value.code == 2
    assert message in capsys.readouterr().err
    assert not counted
