"""Metrics, settings and videos reach TensorBoard, Weights & Biases and trackio, without a network."""

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from expertgen_jax.errors import UserError
from expertgen_jax.runs import logs
from expertgen_jax.runs.directory import open_directory

ROWS = [
    {"phase": "pretrain", "step": 250, "loss": 0.5},
    {"phase": "steer", "episodes": 64, "success": 0.25, "note": "a word"},
    {"phase": "steer", "episodes": 128, "success": 0.75},
]
LOGGING = """
import sys
from pathlib import Path
import numpy as np
from expertgen_jax.runs.directory import open_directory
from expertgen_jax.vision import video
folder = Path("run")
directory = open_directory(folder, {"task": "peg", "steer": {"worlds": 64}}, log=(sys.argv[1],))
for step, row in enumerate(ROWS):
    directory.log(row, step=100 * step)
video.write(folder / "expert.mp4", np.zeros((3, 16, 16, 3), np.uint8), fps=10)
directory.log_video(folder / "expert.mp4")
"""


def logged(name: str, folder: Path, **environment: str) -> str:
    """What a process writes that logs to `name` in `folder`."""
    program = LOGGING.replace("ROWS", repr(ROWS))
    changed = os.environ | {"JAX_PLATFORMS": "cpu"} | environment
    result = subprocess.run(
        [sys.executable, "-c", program, name], cwd=folder, env=changed, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout + result.stderr


def test_tensorboard_gets_scalars_settings_and_the_video(tmp_path):
    logged("tensorboard", tmp_path)
    (file,) = (tmp_path / "run/logs/tensorboard").iterdir()
    content = file.read_bytes()
    for name in (b"steer/success", b"pretrain/loss", b"settings", b"GIF89a", b'"worlds": 64'):
        assert name in content, name
    assert b"steer/note" not in content
    assert len((tmp_path / "run/metrics.jsonl").read_text().splitlines()) == 3


def test_weights_and_biases_offline(tmp_path):
    logged("wandb", tmp_path, WANDB_MODE="offline")
    (kept,) = (tmp_path / "run/logs/wandb").glob("offline-run-*")
    identity = (tmp_path / "run/logs/id").read_text()
    assert kept.name.endswith(identity)
    content = next(kept.glob("*.wandb")).read_bytes()
    for name in (b"steer/success", b"steer/step", b"pretrain/loss", b"worlds"):
        assert name in content, name
    assert list(kept.rglob("expert*.mp4"))
    logged("wandb", tmp_path, WANDB_MODE="offline")
    kept = list((tmp_path / "run/logs/wandb").glob("offline-run-*"))
    assert len(kept) == 2 and all(x.name.endswith(identity) for x in kept), "a run that goes on is the same run"


def test_trackio_keeps_a_run_for_its_dashboard(tmp_path):
    logged("trackio", tmp_path, TRACKIO_DIR=str(tmp_path / "trackio"), HF_HUB_OFFLINE="1")
    with contextlib.closing(sqlite3.connect(tmp_path / "trackio" / f"{logs.PROJECT}.db")) as database:
        rows = [json.loads(row) for (row,) in database.execute("select metrics from metrics order by step")]
        ((name, config),) = database.execute("select run_name, config from configs")
    identity = (tmp_path / "run/logs/id").read_text()
    assert name == f"run-{identity}" and json.loads(config)["steer"] == {"worlds": 64}
    assert rows[:3] == [
        {"pretrain/step": 250, "pretrain/loss": 0.5},
        {"steer/step": 100, "steer/episodes": 64, "steer/success": 0.25},
        {"steer/step": 200, "steer/episodes": 128, "steer/success": 0.75},
    ]
    assert (tmp_path / "trackio" / "media" / rows[3]["expert"]["file_path"]).stat().st_size > 0


def test_what_is_missing_or_refuses_is_told_in_a_line(tmp_path, monkeypatch):
    monkeypatch.setattr(logs.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"--log wandb needs: pip install 'expertgen-jax\[wandb\]'"):
        open_directory(tmp_path / "run", {"task": "peg"}, log=("wandb",))
    assert not (tmp_path / "run").exists()
    monkeypatch.undo()

    def refuse(*args):
        raise RuntimeError("no key\nfor you")

    monkeypatch.setitem(logs.KINDS, "wandb", refuse)
    with pytest.raises(UserError, match="--log wandb: no key for you"):
        open_directory(tmp_path / "run", {"task": "peg"}, log=("wandb",))
