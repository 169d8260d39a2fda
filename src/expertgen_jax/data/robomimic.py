"""robomimic's HDF5: a group an episode, `data/demo_N`, with `actions`, `states`, `rewards`, `dones` and `obs/NAME`.

The format is described in robomimic's documentation ("Dataset Structure"). `states` holds `qpos` here, and where a
state has more, a dataset of its own.
"""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from expertgen_jax.data.recording import LARGEST, STATE, Recording, checked
from expertgen_jax.errors import UserError
from expertgen_jax.files import atomic

SUFFIXES = (".hdf5", ".h5")
PICTURE = "_image"
"""How the names of pictures end."""


def _h5py() -> Any:
    try:
        import h5py
    except ImportError as error:
        raise UserError("robomimic's files need h5py: pip install 'expertgen-jax[formats]'") from error
    return h5py


def write(path: Path, recording: Recording, task: str) -> None:
    """Writes a file, whole or not at all. Success is a reward of 1 in an episode's last row.

    Raises:
      UserError: h5py is missing, or what `read` would ask for, a name that ends in .hdf5 or .h5.
    """
    ready(path)
    h5py = _h5py()
    with atomic(path) as temporary, h5py.File(temporary, "w") as file:
        data = file.create_group("data")
        kwargs = {"control_freq": recording.rate}
        data.attrs["env_args"] = json.dumps({"env_name": task, "type": 2, "env_kwargs": kwargs})
        data.attrs["total"] = int(recording.lengths.sum())
        for number, length in enumerate(recording.lengths):
            demo, arrays = data.create_group(f"demo_{number}"), recording.episode(number)
            demo.attrs["num_samples"] = int(length)
            last = np.arange(length) == length - 1
            demo["dones"] = last.astype(np.int64)
            if recording.success is not None:
                demo["rewards"] = (last & recording.success[number]).astype(np.float64)
            for name, x in arrays.items():
                if name == "actions":
                    demo[name] = x
                elif name == "qpos":
                    demo["states"] = x
                elif name in STATE:
                    demo[name] = x
                else:
                    picture = name.startswith("images.")
                    key = f"{name[7:]}{PICTURE}" if picture else name.removeprefix("obs.")
                    how = {"compression": "gzip", "chunks": (1, *x.shape[1:])} if picture else {}
                    demo.create_dataset(f"obs/{key}", data=x, **how)
                    demo.create_dataset(f"next_obs/{key}", data=np.concatenate([x[1:], x[-1:]]), **how)


def ready(path: Path) -> None:
    """Whether a file can be written; see `write` for the errors."""
    _h5py()
    if path.suffix not in SUFFIXES:
        raise UserError(f"{path}: a name that ends in {' or '.join(SUFFIXES)}, please")


def read(path: Path, rate: float | None = None) -> Recording:
    """Reads a file; pictures are left aside.

    Args:
      path: the file.
      rate: rows a second (Hz), where it does not tell, or wrongly.

    Raises:
      UserError: it is missing, damaged, too large, of another kind, or holds what `checked` refuses.
    """
    h5py = _h5py()
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        with h5py.File(path, "r") as file:
            return checked(_read(path, file, rate))
    except (
        OSError,
        KeyError,
        ValueError,
        TypeError,
        AttributeError,
        RuntimeError,
    ) as error:  # h5py's, on damaged files
        raise UserError(f"{path}: no robomimic file, or damaged ({error})") from error


def _read(path: Path, file: Any, rate: float | None) -> Recording:
    data = file["data"]
    names = sorted((name for name in data if re.fullmatch(r"demo_\d+", name)), key=lambda name: int(name[5:]))
    if not names:
        raise UserError(f"{path}: no episodes: groups data/demo_N")
    found: dict[str, list[np.ndarray]] = {}
    lengths, rewards, room = [], [], 0
    for name in names:
        demo = data[name]
        sets = {key: demo[key] for key in ("actions", "states", *STATE[1:]) if key in demo}
        sets |= {f"obs.{key}": x for key, x in demo.get("obs", {}).items() if not key.endswith(PICTURE)}
        if groups := [key for key, x in sets.items() if not isinstance(x, _h5py().Dataset)]:
            raise UserError(f"{path}: '{groups[0]}' of '{name}' is a group, expected numbers")
        room += sum(x.nbytes for x in sets.values())
        if room > LARGEST:
            raise UserError(f"{path}: unfolds to more than {LARGEST / 1024**3:.0f} GiB")
        if "actions" not in sets and "states" not in sets:
            raise UserError(f"{path}: '{name}' has neither actions nor states")
        lengths.append(len(sets["actions"] if "actions" in sets else sets["states"]))
        if found and sets.keys() != found.keys():
            odd = sorted(sets.keys() ^ found.keys())[0]
            raise UserError(f"{path}: '{odd}' is in some episodes only")
        for key, x in sets.items():
            found.setdefault(key, []).append(np.asarray(x))
        if "rewards" in demo:
            rewards.append(float(np.max(demo["rewards"], initial=0.0)) > 0)
    joined = {_own(name): np.concatenate(parts) for name, parts in found.items()}
    if rate is None:
        told = json.loads(data.attrs.get("env_args", "{}"))
        rate = float(told.get("env_kwargs", {}).get("control_freq", 20.0))  # else robosuite's
    success = np.array(rewards) if len(rewards) == len(names) else None
    return Recording(joined, np.array(lengths), success, rate, path)


def _own(name: str) -> str:
    """A dataset's name in a `Recording`."""
    return {"states": "qpos", "obs.obs": "obs"}.get(name, name)
