"""A run directory: its settings, metrics, summary; and what a person sees while it grows."""

import dataclasses
import importlib.util
import json
import math
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

from expertgen_jax.errors import UserError
from expertgen_jax.files import atomic

FILES = {
    *("config.json", "metrics.jsonl", "summary.json", "evaluations.json", "cost.json", "demos.npz", "curves.png"),
    *("expert.mp4", "student.mp4", "students", "checkpoints", "tensorboard"),
}
"""What a run directory holds."""
PACKAGES = ("expertgen-jax", "jax", "flax", "optax", "mujoco", "mujoco-mjx", "orbax-checkpoint", "numpy")


class Run:
    """A run directory.

    Attributes:
      path: the directory.
      settings: what makes the run what it is, as in `config.json`.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any], tensorboard: bool = False):
        self.path, self.settings = path, settings
        self._writer = None
        if tensorboard:
            from tensorboardX import SummaryWriter

            self._writer = SummaryWriter(str(path / "tensorboard"))

    @property
    def checkpoints(self) -> Path:
        """Folder of the Orbax checkpoints."""
        return self.path / "checkpoints"

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


def open_run(
    path: Path,
    settings: Mapping[str, Any],
    overwrite: bool = False,
    tensorboard: bool = False,
    option: str = "--run-dir",
) -> Run:
    """Makes a run directory, or opens the one that the same settings made; `option` is the flag that chose it.

    Raises:
      UserError: the directory is not writable, is something else, or was made with other settings.
    """
    if tensorboard and importlib.util.find_spec("tensorboardX") is None:
        raise UserError("--tensorboard needs: pip install 'expertgen-jax[tensorboard]'")
    try:
        path.mkdir(parents=True, exist_ok=True)
        entries = {p.name for p in path.iterdir() if not p.name.startswith(".")}  # a kill leaves dot files
        if strangers := sorted(entries - FILES):
            raise UserError(f"{option} {path}: has '{strangers[0]}', which is no part of a run; choose another")
        if overwrite:
            shutil.rmtree(path)
            path.mkdir()
        if overwrite or entries <= {"config.json"}:  # nothing was made with the old settings
            write_json(path / "config.json", settings)
        elif not os.access(path, os.W_OK):
            raise PermissionError("no right to write")
    except OSError as error:
        raise UserError(f"{option} {path}: cannot be written ({error})") from error
    for name, (old, new) in _differences(read_settings(path), settings).items():
        if name == "task_digest":
            raise UserError(f"{option} {path}: the task file has changed since; choose another, or --overwrite")
        raise UserError(
            f"{option} {path} was made with --{name.replace('_', '-')} {old}, not {new}: choose another {option}, "
            "or --overwrite"
        )
    return Run(path, settings, tensorboard)


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


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes a JSON file, whole or not at all."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")


def as_json(settings: Any) -> dict[str, Any]:
    """A settings dataclass as JSON holds it."""
    return json.loads(json.dumps(dataclasses.asdict(settings), default=str))


def flat_settings(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted names."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        flat |= flat_settings(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return flat


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    a, b = flat_settings(old), flat_settings(new)
    return {name: (a.get(name), b.get(name)) for name in a | b if a.get(name) != b.get(name)}


def check_settings(config: Any, prefix: str = "") -> None:
    """Checks the numbers of a (nested) settings dataclass: integers are sizes, floats are not negative.

    Raises:
      UserError: naming the field.
    """
    for field in dataclasses.fields(config):
        value, name = getattr(config, field.name), f"--{prefix}{field.name}".replace("_", "-")
        if dataclasses.is_dataclass(value):
            check_settings(value, f"{prefix}{field.name}.")
        elif isinstance(value, tuple) and not all(x > 0 for x in value):
            raise UserError(f"{name} must be positive, got {value}")
        elif isinstance(value, int) and not isinstance(value, bool) and value <= 0:
            raise UserError(f"{name} must be at least 1, got {value}")
        elif isinstance(value, float) and not 0 <= value < float("inf"):
            raise UserError(f"{name} must be a number of at least 0, got {value}")
        elif field.name in ("gamma", "tau", "ema", "failures", "alpha_start", "alpha_end") and value > 1:
            raise UserError(f"{name} must be at most 1, got {value}")


def provenance() -> dict[str, Any]:
    """Where figures come from: versions of the packages and the machine's kind."""
    device = jax.devices()[0]
    return {
        "device": device.device_kind if device.platform != "cpu" else f"{platform.machine()} x {os.cpu_count()} cores",
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in PACKAGES},
    }


class Progress:
    """One line that shows how far a phase is; on a terminal it is rewritten in place, else printed now and then."""

    def __init__(self, period: float = 10.0):
        self.live = sys.stderr.isatty()
        self.period = 0.1 if self.live else period
        self.phase, self.start, self.first, self.shown = "", 0.0, 0.0, -math.inf

    def __call__(self, phase: str, fraction: float, text: str) -> None:
        """Shows `text` for a phase that is `fraction` done."""
        now = time.monotonic()
        if phase != self.phase:
            self.phase, self.start, self.first, self.shown = phase, now, fraction, -math.inf
        if now - self.shown < self.period and fraction < 1:
            return
        self.shown = now
        elapsed, gained = now - self.start, fraction - self.first
        left = f", {elapsed * (1 - fraction) / gained:.0f} s left" if gained > 0 and fraction < 1 else ""
        line = f"{phase:<9}{100 * fraction:4.0f} %  {text}  [{elapsed:.0f} s{left}]"
        columns = shutil.get_terminal_size().columns
        sys.stderr.write(f"\r{line[: columns - 1]:<{columns - 1}}" if self.live else line + "\n")
        if self.live and fraction >= 1:
            sys.stderr.write("\n")
        sys.stderr.flush()
