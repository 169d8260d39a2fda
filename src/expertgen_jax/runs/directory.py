"""A run directory: the settings that made it, metrics, figures and checkpoints."""

import dataclasses
import importlib.util
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from expertgen_jax import bounds
from expertgen_jax.errors import UserError
from expertgen_jax.files import atomic, write_json

FILES = {
    *("config.json", "metrics.jsonl", "summary.json", "evaluations.json", "cost.json", "demos.npz", "curves.png"),
    *("expert.mp4", "student.mp4", "students", "checkpoints", "tensorboard", "export"),
}
"""What a run directory holds."""


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a run goes, and what is written besides."""

    run_dir: Path | None = None
    """Folder of the run; runs/TASK-SEED by default. The same command goes on where it stopped."""
    overwrite: bool = False
    """Start afresh: what the run directory holds is removed."""
    tensorboard: bool = False
    """Write scalars for TensorBoard as well."""


class RunDirectory:
    """A run directory.

    Attributes:
      path: the directory.
    """

    def __init__(self, path: Path, tensorboard: bool = False):
        self.path = path
        self._writer = None
        if tensorboard:
            from tensorboardX import SummaryWriter

            self._writer = SummaryWriter(str(path / "tensorboard"))

    @property
    def checkpoints(self) -> Path:
        """Folder of the Orbax checkpoints."""
        return self.path / "checkpoints"

    def files(self) -> str:
        """What it holds, in a line for people."""
        return f"{self.path}: {', '.join(sorted(path.name for path in self.path.iterdir()))}"

    def log(self, row: Mapping[str, Any], step: int) -> None:
        """Appends a row to `metrics.jsonl` (and to TensorBoard at `step`)."""
        with open(self.path / "metrics.jsonl", "a") as file:
            file.write(json.dumps(row) + "\n")
        if self._writer is not None:
            for name, value in row.items():
                if isinstance(value, int | float):
                    self._writer.add_scalar(f"{row['phase']}/{name}", value, step)
            self._writer.flush()

    def rows(self) -> list[dict[str, Any]]:
        """The rows of `metrics.jsonl`; a line that a kill cut short is left out."""
        path = self.path / "metrics.jsonl"
        rows = []
        for line in path.read_text().splitlines() if path.exists() else []:
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError:
                continue
        return rows

    def keep_rows(self, keep: Callable[[dict[str, Any]], bool]) -> None:
        """Drops the rows that a phase wrote after the point from which it goes on."""
        rows = [row for row in self.rows() if keep(row)]
        with atomic(self.path / "metrics.jsonl") as temporary:
            temporary.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """Writes a JSON file of the run directory, whole or not at all."""
        write_json(self.path / name, content)

    def read_json(self, name: str) -> dict[str, Any] | None:
        """Reads a JSON file of the run directory; None if it is not there."""
        path = self.path / name
        return json.loads(path.read_text()) if path.exists() else None


def open_directory(
    path: Path,
    settings: Mapping[str, Any],
    *,
    overwrite: bool = False,
    tensorboard: bool = False,
    option: str = "--run-dir",
    reasons: Mapping[str, str] = {},
) -> RunDirectory:
    """Makes a run directory, or opens the one that the same settings made.

    Args:
      path: of the directory.
      settings: as JSON holds them; they become `config.json`.
      overwrite: start afresh.
      tensorboard: log there too.
      option: the flag that chose the directory, for messages.
      reasons: what to say of settings that no flag sets, where they differ.

    Raises:
      UserError: the directory is not writable, is something else, or was made with other settings.
    """
    if tensorboard and importlib.util.find_spec("tensorboardX") is None:
        raise UserError("--tensorboard needs: pip install 'expertgen-jax[tensorboard]'")
    try:
        path.mkdir(parents=True, exist_ok=True)
        entries = {p.name for p in path.iterdir() if not p.name.startswith(".")}  # a kill leaves dot files
        if strangers := sorted(entries - FILES):
            raise UserError(f"{option} {path}: has '{strangers[0]}', which no run wrote; choose another")
        if overwrite:
            shutil.rmtree(path)
            path.mkdir()
        if overwrite or entries <= {"config.json"}:  # nothing was made with the old settings
            write_json(path / "config.json", settings)
        elif not os.access(path, os.W_OK):
            raise PermissionError("no right to write")
    except OSError as error:
        raise UserError(f"{option} {path}: cannot be written ({error})") from error
    old, new = _flat(read_settings(path)), _flat(settings)
    for name in (*old, *new):
        if old.get(name) != new.get(name):
            was = f"was made with {bounds.flag(name)} {old.get(name)}, not {new.get(name)}"
            raise UserError(f"{option} {path} {reasons.get(name, was)}: choose another {option}, or --overwrite")
    return RunDirectory(path, tensorboard)


def read_settings(path: Path) -> dict[str, Any]:
    """The settings that made the run directory `path`.

    Raises:
      UserError: it is not a run directory.
    """
    try:
        return json.loads((path / "config.json").read_text())
    except FileNotFoundError as error:
        raise UserError(f"--run-dir {path}: no config.json there; is it a run directory?") from error
    except (OSError, json.JSONDecodeError) as error:
        raise UserError(f"--run-dir {path}: config.json cannot be read; start afresh with --overwrite") from error


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted names."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return flat
