"""Episodes on their way in or out, whatever the format: named arrays, end to end."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from expertgen_jax.errors import UserError

LARGEST = 8 * 1024**3
"""Bytes that a file may unfold to; more is not read."""
STATE = ("qpos", "qvel", "ctrl", "mocap_pos", "mocap_quat", "tool_pos", "tool_quat", "gripper", "rest")
"""Arrays that tell the state of the simulation, in MuJoCo's order and units; the last four, see `states.of_tool`, may
stand for `qpos`."""


class Recording(NamedTuple):
    """Episodes, one after another.

    Attributes:
      arrays: `[time, ...]` each, of every control step before its action: `actions`; `obs`, a vector, or its parts as
        `obs.NAME`; those of `STATE`; pictures as `images.CAMERA`, `[time, height, width, 3] uint8`.
      lengths: `[episodes]`, rows of each; they add up to `time`.
      success: `[episodes]` bool; None where the file does not tell.
      rate: rows a second (Hz).
      source: where they are from, for errors.
    """

    arrays: Mapping[str, np.ndarray]
    lengths: np.ndarray
    success: np.ndarray | None
    rate: float
    source: Path = Path("recording")

    @property
    def told(self) -> np.ndarray:
        """`[episodes]` bool: those that are told to have succeeded."""
        return np.zeros(len(self.lengths), bool) if self.success is None else self.success

    @property
    def starts(self) -> np.ndarray:
        """The first row of each episode."""
        return np.cumsum(self.lengths) - self.lengths

    def episode(self, number: int) -> dict[str, np.ndarray]:
        """The arrays of one episode."""
        begin = self.starts[number]
        return {name: x[begin : begin + self.lengths[number]] for name, x in self.arrays.items()}


def check_new(folder: Path) -> None:
    """Raises a UserError where something is at the place of a folder that is to be written."""
    if folder.exists():
        raise UserError(f"{folder}: is there already; a recording gets a folder of its own")


def check_room(path: Path) -> None:
    """Raises a UserError where a zip archive would unfold to more than `LARGEST`, and what zipfile raises on others."""
    with zipfile.ZipFile(path) as archive:
        if sum(member.file_size for member in archive.infolist()) > LARGEST:
            raise UserError(f"{path}: unfolds to more than {LARGEST / 1024**3:.0f} GiB")


def checked(recording: Recording) -> Recording:
    """The recording in float32, if it is one.

    Raises:
      UserError: there are no episodes, empty ones, arrays of other lengths, or numbers that are none.
    """
    path, time = recording.source, int(np.sum(recording.lengths))
    if not len(recording.lengths) or (np.asarray(recording.lengths) < 1).any():
        raise UserError(f"{path}: holds no episodes, or empty ones")
    if not 0 < recording.rate < 1e5:
        raise UserError(f"{path}: {recording.rate:g} rows a second")
    arrays = {}
    for name, x in recording.arrays.items():
        if not x.ndim:
            raise UserError(f"{path}: '{name}' is a single number, expected rows")
        if x.dtype.kind not in "fiub":
            raise UserError(f"{path}: '{name}' must be numbers, found {x.dtype}")
        if len(x) != time:
            raise UserError(f"{path}: '{name}' has {len(x)} rows, the episodes {time}")
        with np.errstate(over="ignore"):
            arrays[name] = x if name.startswith("images.") else x.astype(np.float32)
        if not np.isfinite(arrays[name]).all():
            raise UserError(f"{path}: '{name}' holds numbers that are not finite")
    success = recording.success
    if success is not None:
        if success.dtype.kind not in "fiub" or not np.isin(success, (0, 1)).all():
            raise UserError(f"{path}: success must be 0 or 1 for each episode")
        if success.shape != recording.lengths.shape:
            raise UserError(f"{path}: success has shape {success.shape}, there are {len(recording.lengths)} episodes")
        success = success.astype(bool)
    return recording._replace(arrays=arrays, success=success, lengths=np.asarray(recording.lengths, int))
