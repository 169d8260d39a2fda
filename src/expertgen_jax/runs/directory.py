"""A run directory: the settings that made it, metrics, figures and checkpoints."""

import dataclasses
import fcntl
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from expertgen_jax import bounds
from expertgen_jax.errors import UserError
from expertgen_jax.files import atomic, remove_leftovers, write_json
from expertgen_jax.runs import logs
from expertgen_jax.runs.logs import Log, LogName

FILES = {
    *("config.json", "metrics.jsonl", "summary.json", "evaluations.json", "cost.json", "demos.npz", "curves.png"),
    *("expert.mp4", "student.mp4", "students", "checkpoints", "logs", "tensorboard", "export"),
    "task.py",
}
"""What a run directory holds."""
NO_SETTINGS = ("history", "task_identity", "demos_digest")
"""What `config.json` holds besides settings."""
Figures = dict[str, Any]
"""Of an evaluation, see `evaluation.evaluate`."""
AFRESH = "the command that made it starts afresh with --overwrite"
"""What helps where nothing else does; also other commands say so, which have no such flag."""


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a run goes, and what is written besides."""

    run_dir: Path | None = None
    """Folder of the run; runs/TASK-SEED by default. The same command goes on where it stopped."""
    overwrite: bool = False
    """Start afresh: what the run directory holds is removed."""
    log: tuple[LogName, ...] = ()
    """Where metrics, settings and the video go besides; each needs an extra of its name."""


class RunDirectory:
    """A run directory.

    Attributes:
      path: the directory.
      logs: where its metrics go besides.
    """

    def __init__(self, path: Path):
        self.path, self.logs = path, list[Log]()

    @property
    def checkpoints(self) -> Path:
        """Folder of the Orbax checkpoints."""
        return self.path / "checkpoints"

    def files(self) -> str:
        """What it holds, in a line for people."""
        names = sorted(path.name for path in self.path.iterdir() if not path.name.startswith("."))
        return f"{self.path}: {', '.join(names)}"

    def log(self, row: Mapping[str, Any], step: int) -> None:
        """Appends a row to `metrics.jsonl`, and to the logs at `step`."""
        with open(self.path / "metrics.jsonl", "a") as file:
            file.write(json.dumps(row) + "\n")
        for log in self.logs:
            log.write(row, step)

    def log_video(self, path: Path) -> None:
        """Shows a video in the logs, if it could be made."""
        for log in self.logs if path.exists() else ():
            log.video(path)

    def rows(self) -> list[dict[str, Any]]:
        """The rows of `metrics.jsonl`; a line that a kill cut short, or a disk damaged, is left out."""
        path = self.path / "metrics.jsonl"
        rows = []
        for line in path.read_bytes().splitlines() if path.exists() else []:
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if isinstance(row, dict) and "phase" in row:
                rows.append(row)
        return rows

    def keep_rows(self, keep: Callable[[dict[str, Any]], bool]) -> None:
        """Drops the rows that a phase wrote after the point from which it goes on."""
        rows = [row for row in self.rows() if keep(row)]
        with atomic(self.path / "metrics.jsonl") as temporary:
            temporary.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def lock(self, option: str) -> None:
        """Keeps other processes from working in it until this one ends.

        Raises:
          UserError: another one does.
        """
        try:
            fcntl.lockf(os.open(self.path / ".lock", os.O_CREAT | os.O_RDWR), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"{option} {self.path}: another command is at work there") from error

    def remove(self, *names: str) -> None:
        """Removes files and folders of the run directory, those that are there."""
        for name in names:
            path = self.path / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """Writes a JSON file of the run directory, whole or not at all."""
        write_json(self.path / name, content)

    def read_json(self, name: str) -> dict[str, Any] | None:
        """Reads a JSON file of the run directory; None if it is not there, and, with a warning, if it is damaged."""
        path = self.path / name
        if not path.exists():
            return None
        try:
            content = json.loads(path.read_bytes())
            if isinstance(content, dict):
                return content
        except ValueError:
            pass
        print(f"warning: {path} is damaged; its content is made anew", file=sys.stderr)
        return None

    def figures_once(self, label: str, play: Callable[[], Figures]) -> Figures:
        """Figures of `evaluations.json` by their label, or new ones, kept there where there is a right to write."""
        stored = self.read_json("evaluations.json") or {}
        if label in stored:
            return stored[label]
        figures = play()
        if os.access(self.path, os.W_OK):
            stored = self.read_json("evaluations.json") or {}  # another command may have written meanwhile
            self.write_json("evaluations.json", stored | {label: figures})
        else:
            print(f"warning: these figures are not kept: no right to write in {self.path}", file=sys.stderr)
        return figures


def open_directory(
    path: Path,
    settings: Mapping[str, Any],
    *,
    overwrite: bool = False,
    log: Sequence[LogName] = (),
    option: str = "--run-dir",
    change: Callable[[RunDirectory, list[str]], list[str]] = lambda directory, names: names,
) -> RunDirectory:
    """Makes a run directory, or opens the one that the same settings made.

    `config.json` holds the settings, and under `history` what they were before, with the time of each change.

    Args:
      path: of the directory.
      settings: as JSON holds them; they become `config.json`.
      overwrite: start afresh where `change` does not know better.
      log: where metrics go besides.
      option: the flag that chose the directory, for messages.
      change: called where settings differ, with the directory and the dotted names of those that do; returns those
        that may not differ. Where there are none it removes what is outdated, and the run goes on with the new ones.

    Raises:
      UserError: the directory is not writable, is something else, or was made with other settings.
    """
    logs.check(log)
    try:
        path.mkdir(parents=True, exist_ok=True)
        entries = {p.name for p in path.iterdir() if not p.name.startswith(".")}  # a kill leaves dot files
        if strangers := sorted(entries - FILES):
            raise UserError(f"{option} {path}: has '{strangers[0]}', which no run wrote; choose another")
        config = path / "config.json"
        if entries and not config.exists():
            raise UserError(f"{option} {path}: has '{min(entries)}' but no config.json, so no run; choose another")
        if entries and not os.access(path, os.W_OK):
            raise PermissionError("no right to write")
        directory = RunDirectory(path)
        directory.lock(option)
        remove_leftovers(path)
        try:
            old = read_settings(path) if entries - {"config.json"} else {}  # else nothing was made with them
        except UserError:
            if not overwrite:
                raise
            old = {}
        before, after = _flat(old), _flat(settings)
        names = [name for name in dict.fromkeys((*before, *after)) if before.get(name) != after.get(name)]
        fixed = change(directory, names) if old and names else []
        if old and names and not fixed:
            now = time.strftime("%Y-%m-%d %H:%M:%S")
            event = {"until": now, "settings": {name: before.get(name) for name in names}}
            write_json(config, {**settings, "history": [*old.get("history", []), event]})
        elif overwrite:
            directory.remove(*entries)
            write_json(config, settings)
        elif not old:
            write_json(config, settings)
        elif fixed:
            name = fixed[0]
            was = f"{before.get(name)}, not {after.get(name)}"
            raise UserError(
                f"{option} {path} was made with {bounds.flag(name)} {was}: choose another {option}, or --overwrite"
            )
    except OSError as error:
        raise UserError(f"{option} {path}: cannot be written ({error})") from error
    directory.logs = logs.begin(log, path, settings)
    return directory


def read_settings(path: Path) -> dict[str, Any]:
    """The settings that made the run directory `path`.

    Raises:
      UserError: it is not a run directory.
    """
    try:
        settings = json.loads((path / "config.json").read_bytes())
        if not isinstance(settings, dict):
            raise ValueError("not settings")
    except FileNotFoundError as error:
        raise UserError(f"--run-dir {path}: no config.json there; is it a run directory?") from error
    except (OSError, ValueError) as error:
        raise UserError(f"--run-dir {path}: config.json cannot be read; {AFRESH}") from error
    return settings


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted names, without what is no setting."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if name in NO_SETTINGS:
            continue
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return flat
