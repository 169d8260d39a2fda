"""Commands that only look: `--help`, `tasks`, `check`, `view`."""

import os
import subprocess
import sys
import time
from pathlib import Path

import commands
import pytest
from PIL import Image

from expertgen_jax.cli.main import COMMANDS
from expertgen_jax.tasks.registry import FAMILIES, TASKS

EXAMPLE = (Path(__file__).parents[2] / "examples" / "push_puck.py").read_text()


def run_apart(*args: str, **environment: str) -> tuple[int, str, str]:
    words = [sys.executable, "-m", "expertgen_jax", *args]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", **environment}
    result = subprocess.run(words, capture_output=True, text=True, env=environment)
    return result.returncode, result.stdout, result.stderr


def test_help_answers_at_once():
    start = time.monotonic()
    code, out, _ = run_apart("--help")
    assert time.monotonic() - start < 1.0
    assert code == 0 and all(f"  {name} " in out for name in COMMANDS)
    assert run_apart()[1] == out


def test_a_device_that_is_not_there_is_said():
    code, _, err = run_apart("check", "peg", JAX_PLATFORMS="cuda")
    assert code == 2 and "JAX_PLATFORMS=cuda: JAX finds no such device" in err and "Traceback" not in err


def test_a_misspelt_command_is_told_the_nearest():
    code, _, err = run_apart("ster")
    assert code == 2 and "did you mean steer" in err


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command):
    code, out, _ = commands.call(command, "--help")
    assert code == 0 and f"usage: expertgen {command}" in out


def test_tasks_are_listed():
    code, out, _ = run_apart("tasks")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == [*TASKS, *FAMILIES]
    assert all(len(line.split()) > 3 for line in out.splitlines())


@pytest.mark.slow
def test_check_tells_of_a_task_and_its_script():
    code, out, err = commands.call("check", "peg", "--seed", "3")
    assert code == 0 and not err, err
    assert "20 numbers observed, 3 more known to critics, 6 in an action" in out
    assert "cameras, mm that a pixel of 64 x 64 covers: front 2.7, side 2.7, wrist 1.2" in out
    assert "script, episode 3: " in out and "height_above_bottom" in out


MISTAKES = {
    "hodl": ("hodl = 3", 0, "defines `hodl`, which is no field of a task; did you mean `hold`?"),
    "leaves": ("import sys; sys.exit(0)", 2, f"line {len(EXAMPLE.splitlines()) + 1} raises SystemExit"),
    "sizes": ('preset = {"steer": {"worlds": -3}}', 2, "--steer.worlds must be at least 1, got -3"),
    "words": ('preset = {"steer": {"worlds": "many"}}', 2, "'worlds' is 'many', expected int"),
    "nothing": ('preset = {"steer": {"wrlds": 3}}', 2, "there is no setting 'wrlds' among those of SteerConfig"),
    "number": ("preset = 3", 2, "preset is 3, expected settings by name"),
    "forever": ("hold = 1000", 2, "hold is 1000, longer than the horizon"),
    "unit": ('observation = observation | {"goal": "millimeters"}', 2, "the unit 'millimeters'"),
    "numpy": ("", 0, ""),
    "unseeded": (
        "import numpy as np; _reset = reset\ndef reset(key): return _reset(jax.random.key(np.random.randint(1 << 30)))",
        2,
        "reset gives another result for the same key",
    ),
    "wild": (
        "_act = script.act\ndef act(m, d, c, k): return _act(m, d, c, k)[0], jnp.full(2, 50.0)\n"
        "script = script._replace(act=act)",
        2,
        "script.act gives actions up to 50, expected [-1, 1]",
    ),
    "lost": (
        "_act = script.act\n"
        "def act(m, d, c, k): return _act(m, d, c, k)[0], jnp.where(d.time > 0.3, jnp.nan, jnp.zeros(2))\n"
        "script = script._replace(act=act)",
        2,
        "script.act gives NaN or infinite numbers",
    ),
    "blind": (
        "_observe = observe\n"
        "def observe(d, c): return {n: jnp.where(d.time > 0.3, jnp.nan, x) for n, x in _observe(d, c).items()}\n"
        "script = script._replace(act=lambda m, d, c, k: (m, jnp.zeros(2)))",
        2,
        "turns NaN or infinite at control step",
    ),
    "generous": ("def success(data, context): return jnp.bool_(True)", 0, "success holds at the start already"),
    "same": ("_reset = reset\ndef reset(key): return _reset(jax.random.key(0))", 0, "every episode starts alike"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_in_a_task_file_are_named(tmp_path, name):
    more, expected, said = MISTAKES[name]
    path = tmp_path / f"{name}.py"
    path.write_text(f"{EXAMPLE}{more}\n")
    code, _, err = commands.call("check", str(path), "--episodes", "8")
    assert code == expected and said in err, err
    assert "Traceback" not in err


@pytest.mark.slow
def test_view_writes_a_video_without_a_display(tmp_path):
    out = tmp_path / "new" / "a.webp"
    flags = (
        "--policy",
        "random",
        "--out",
        str(out),
        "--episodes",
        "1",
        "--height",
        "64",
        "--cameras",
        "--renderer",
        "opengl",
    )
    code, _, err = run_apart("view", "peg", *flags, DISPLAY="")
    assert code == 0, err
    with Image.open(out) as picture:
        assert picture.size == (85, 64) and picture.n_frames > 30


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("peg",), "no display here: serve a page with --web, or write a video with --out FILE.mp4"),
        (("peg", "--out", "a.avi"), "--out a.avi: videos are .mp4 or .webp"),
        (("pge",), "did you mean peg"),
        (("peg", "--out", f"{__file__}/a.mp4"), "cannot be written"),
        (("peg", "--policy", "expert", "--out", "a.mp4"), "--policy expert: peg has script, zero, random"),
    ],
)
def test_what_view_cannot_show_is_said(monkeypatch, flags, said):
    monkeypatch.delenv("DISPLAY", raising=False)
    code, _, err = commands.call("view", *flags)
    assert code == 2 and said in err and "Traceback" not in err
