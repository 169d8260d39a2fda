"""Diffusion Policy's replay buffer: a zarr group with `data/NAME`, rows of all episodes, and `meta/episode_ends`.

`data/action` is the action and `data/obs` the task's observation; the state of the simulation and pictures go by their
own names. Its buffers do not tell how many rows there are a second, nor what succeeded; ours do, by the attribute
`rate` and `meta/success`.
"""

import contextlib
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from expertgen_jax.data.recording import LARGEST, STATE, Recording, check_new, check_room, checked
from expertgen_jax.errors import UserError, one_line
from expertgen_jax.files import atomic_folder

_OWN = {"action": "actions", "obs": "obs", **{name: name for name in STATE}}
"""Its names to those of a `Recording`."""
_THEIRS = {own: theirs for theirs, own in _OWN.items()}


def _zarr() -> Any:
    try:
        import zarr
    except ImportError as error:
        raise UserError("Diffusion Policy's buffers need zarr: pip install 'expertgen-jax[formats]'") from error
    return zarr


def is_one(path: Path) -> bool:
    """Whether a path looks like a zarr group: a folder, or a zip archive of one."""
    return path.suffix == ".zip" or any((path / name).exists() for name in (".zgroup", "zarr.json"))


def write(folder: Path, recording: Recording) -> None:
    """Writes a buffer, whole or not at all; see `ready` for the errors."""
    ready(folder)
    with atomic_folder(folder) as temporary:
        root = _zarr().open_group(temporary, mode="w", zarr_format=2)
        root.attrs["rate"] = recording.rate
        data, meta = root.create_group("data"), root.create_group("meta")
        for name, x in recording.arrays.items():
            chunks = (1 if name.startswith("images.") else min(len(x), 1024), *x.shape[1:])
            data.create_array(_THEIRS.get(name, name.split(".")[-1]), data=x, chunks=chunks)
        meta.create_array("episode_ends", data=np.cumsum(recording.lengths).astype(np.int64))
        if recording.success is not None:
            meta.create_array("success", data=recording.success)


def ready(folder: Path) -> None:
    """Whether a buffer can be written to a folder.

    Raises:
      UserError: something is there, or zarr is missing.
    """
    _zarr()
    check_new(folder)


def read(path: Path, rate: float | None = None) -> Recording:
    """Reads a buffer; what has no name in a `Recording`, such as pictures, is left aside.

    Args:
      path: a folder, or a zip archive of one.
      rate: rows a second (Hz), where the buffer does not tell.

    Raises:
      UserError: it is damaged, too large, of another kind, would unpickle something, does not tell its rate, or holds
        what `checked` refuses.
    """
    try:
        with _opened(path) as root:
            return checked(_read(path, root, rate))
    except UserError:
        raise
    except Exception as error:  # zarr, its codecs and zipfile raise what they like on damaged files
        raise UserError(f"{path}: no buffer of Diffusion Policy, or damaged ({one_line(error)})") from error


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    zarr = _zarr()
    if path.suffix != ".zip":
        yield zarr.open_group(path, mode="r")
        return
    check_room(path)
    with contextlib.closing(zarr.storage.ZipStore(path, mode="r")) as store:
        yield zarr.open_group(store, mode="r")


def _read(path: Path, root: Any, rate: float | None) -> Recording:
    found = {f"data/{name}": root[f"data/{name}"] for name in _OWN if f"data/{name}" in root}
    found |= {name: root[name] for name in ("meta/episode_ends", "meta/success") if name in root}
    if "meta/episode_ends" not in found:
        raise UserError(f"{path}: has no 'meta/episode_ends', so no buffer of Diffusion Policy")
    if len(found) - ("meta/success" in found) < 2:
        raise UserError(f"{path}: has neither 'data/action' nor 'data/obs' nor 'data/qpos'")
    for name, x in found.items():
        if not hasattr(x, "dtype"):
            raise UserError(f"{path}: '{name}' is a group, expected numbers")
        if x.dtype.kind not in "fiub" or "pickle" in json.dumps(x.metadata.to_dict(), default=str):
            raise UserError(f"{path}: '{name}' must be numbers, found {x.dtype}; nothing is unpickled")
    if sum(map(_room, found.values())) > LARGEST:
        raise UserError(f"{path}: unfolds to more than {LARGEST / 1024**3:.0f} GiB")
    arrays = {name: np.asarray(x[...]) for name, x in found.items()}
    ends, success = arrays.pop("meta/episode_ends"), arrays.pop("meta/success", None)
    if ends.ndim != 1 or ends.dtype.kind not in "iu":
        raise UserError(f"{path}: 'meta/episode_ends' must be whole numbers [episodes]")
    rate = root.attrs.get("rate") if rate is None else rate
    if not isinstance(rate, int | float):
        raise UserError(f"{path}: does not tell how many rows there are a second; give --rate")
    arrays = {_OWN[name.removeprefix("data/")]: x for name, x in arrays.items()}
    return Recording(arrays, np.diff(ends.astype(np.int64), prepend=0), success, float(rate), path)


def _room(x: Any) -> int:
    """Bytes that reading an array takes: whole chunks, of a kilobyte at least."""
    chunks = math.prod(-(-size // chunk) for size, chunk in zip(x.shape, x.chunks, strict=True))
    return max(x.nbytes, chunks * max(1024, math.prod(x.chunks) * x.dtype.itemsize))
