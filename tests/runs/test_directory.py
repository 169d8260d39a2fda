"""A run directory's own files: what cannot be read is said, or made anew."""

import json
import os
import subprocess

import pytest

from expertgen_jax.errors import UserError
from expertgen_jax.runs.directory import RunDirectory, open_directory, read_settings

BROKEN = [b"", b"\xff\xfe", b"null", b"[1, 2]", b'{"a": ']


@pytest.mark.parametrize("content", BROKEN)
def test_a_broken_config_is_said(tmp_path, content):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(UserError, match=r"config\.json cannot be read"):
        read_settings(tmp_path)


@pytest.mark.parametrize("content", BROKEN)
def test_broken_figures_are_made_anew(tmp_path, content, capsys):
    (tmp_path / "evaluations.json").write_bytes(content)
    assert RunDirectory(tmp_path).read_json("evaluations.json") is None
    assert "damaged" in capsys.readouterr().err
    assert RunDirectory(tmp_path).read_json("summary.json") is None
    assert not capsys.readouterr().err


def test_broken_rows_are_left_out(tmp_path):
    good = {"phase": "steer", "episodes": 3}
    lines = [json.dumps(good).encode(), b"5", b"\xff\xff", b'{"episodes": 3}', b'{"phase": "st']
    (tmp_path / "metrics.jsonl").write_bytes(b"\n".join(lines))
    assert RunDirectory(tmp_path).rows() == [good]


def test_what_a_killed_command_left_goes(tmp_path):
    open_directory(tmp_path, {"seed": 1})
    gone = subprocess.Popen(["true"])
    gone.wait()
    left, written = tmp_path / f".curves.{gone.pid}.png", tmp_path / f".evaluations.{os.getpid()}.json"
    left.touch()
    written.touch()
    (tmp_path / ".notes.md").touch()
    open_directory(tmp_path, {"seed": 1})
    assert not left.exists()
    assert written.exists() and (tmp_path / ".notes.md").exists()


def test_the_history_of_settings_is_kept(tmp_path):
    def change(directory, names):
        return [name for name in names if name != "steer.episodes"]

    open_directory(tmp_path, {"steer": {"episodes": 10, "worlds": 8}})
    (tmp_path / "demos.npz").touch()
    for episodes in (20, 30):
        open_directory(tmp_path, {"steer": {"episodes": episodes, "worlds": 8}}, change=change)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["steer"]["episodes"] == 30
    assert [event["settings"] for event in config["history"]] == [{"steer.episodes": 10}, {"steer.episodes": 20}]
    with pytest.raises(UserError, match=r"--steer\.worlds 8, not 9"):
        open_directory(tmp_path, {"steer": {"episodes": 30, "worlds": 9}}, change=change)
    open_directory(tmp_path, {"steer": {"episodes": 30, "worlds": 8}}, change=change)
    assert json.loads((tmp_path / "config.json").read_text()) == config, "the same settings change nothing"
