"""Benchmarks in small, so that they do not rot."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from expertgen_jax.cli import command
from expertgen_jax.cli.steer import Steer

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def call(name: str, *flags: str) -> tuple[int, str]:
    result = subprocess.run([sys.executable, str(BENCHMARKS / name), *flags], capture_output=True, text=True)
    return result.returncode, result.stderr


@pytest.mark.slow
def test_throughput_measures_the_parts_of_an_iteration(tmp_path):
    flags = ("--physics", "native", "--worlds", "4", "--iterations", "1", "--repeats", "1")
    code, err = call("throughput.py", *flags, "--out", str(tmp_path / "new" / "a.json"))
    assert code == 0, err
    (row,) = json.loads((tmp_path / "new" / "a.json").read_text())["rows"]
    assert (row.pop("physics"), row.pop("robot"), row.pop("worlds")) == ("native", "hand", 4)
    assert all(value > 0 for value in row.values())


def test_second_start_asks_for_what_there_is():
    flags = runpy.run_path(str(BENCHMARKS / "second_start.py"))["FLAGS"]
    assert command.parsed("steer", Steer, flags).settings.steer.block_iterations == 1


@pytest.mark.parametrize(
    ("name", "flags", "said"),
    [
        ("throughput.py", ("--worlds", "0"), "--worlds must be at least 1, got 0"),
        ("throughput.py", ("--out", __file__ + "/a"), "cannot be written"),
        ("second_start.py", ("--repeats", "0"), "--repeats must be at least 1, got 0"),
        ("recordings.py", ("--tasks", "nothing"), "nothing"),
        ("faults.py", ("nowhere",), "no card.json"),
        ("latency.py", ("nowhere",), "no card.json"),
        ("latency.py", (), "which artefacts?"),
        ("init_from.py", ("--success", "2"), "--success must be"),
    ],
)
def test_mistakes_are_a_line(name, flags, said):
    code, err = call(name, *flags)
    assert code == 2 and said in err and "Traceback" not in err
