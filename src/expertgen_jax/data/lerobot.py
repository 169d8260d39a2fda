"""LeRobotDataset v3: a folder of Parquet files, with what they hold in `meta/info.json`.

`observation.state` is the task's observation, `action` its action; `sim.NAME` the state of the simulation, which
LeRobot's policies leave alone; `observation.images.NAME` pictures, as PNG in the table. `next.success` says in an
episode's last row whether it succeeded.
"""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from expertgen_jax.data.recording import LARGEST, STATE, Recording, check_new, checked
from expertgen_jax.errors import UserError, one_line
from expertgen_jax.files import atomic_folder, write_json

FILE = "chunk-{chunk_index:03d}/file-{file_index:03d}"
_OWN = {"action": "actions", "observation.state": "obs", **{f"sim.{name}": name for name in STATE}}
"""LeRobot's names to those of a `Recording`."""
_THEIRS = {own: theirs for theirs, own in _OWN.items()}


CARD = """---
task_categories: ["robotics"]
tags: ["LeRobot", "simulation", "expertgen-jax"]
configs: [{{"config_name": "default", "data_files": "data/*/*.parquet"}}]
---

# {task}

{size}. They are of the task `{task}` of expertgen_jax, in simulation (MuJoCo), as a LeRobotDataset v3.

Features: {features}. `observation.state` is what the task observes; each number of an `action` lies in [-1, 1];
`sim.NAME` is MuJoCo's state before the action, in its order and units; `next.success` says in an episode's last row
whether it succeeded.
"""
"""The dataset's page, which Hugging Face's Hub shows."""


def _pyarrow() -> Any:
    try:
        import pyarrow
        import pyarrow.compute
        import pyarrow.parquet
    except ImportError as error:
        raise UserError("LeRobot's datasets need pyarrow: pip install 'expertgen-jax[formats]'") from error
    return pyarrow


def write(folder: Path, recording: Recording, task: str, names: Mapping[str, Sequence[str]]) -> None:
    """Writes a dataset, whole or not at all.

    Args:
      folder: which is made; it must not be there.
      recording: the episodes; of its arrays those that LeRobot has a name for.
      task: what was to be done, in words.
      names: of the numbers of each array, where they have names.
    """
    ready(folder)
    if abs(recording.rate - round(recording.rate)) > 1e-3:
        raise UserError(f"{folder}: {recording.rate:g} rows a second, LeRobot takes a whole number")
    with atomic_folder(folder) as temporary:
        _write(temporary, recording, task, names)


def ready(folder: Path) -> None:
    """Whether a dataset can be written to a folder.

    Raises:
      UserError: something is there, or pyarrow is missing.
    """
    _pyarrow()
    check_new(folder)


def _write(folder: Path, recording: Recording, task: str, names: Mapping[str, Sequence[str]]) -> None:
    pa = _pyarrow()
    lengths, starts, time = recording.lengths, recording.starts, int(recording.lengths.sum())
    of = np.repeat(np.arange(len(lengths)), lengths)
    frame = np.arange(time) - starts[of]
    last = frame == lengths[of] - 1
    numbers: dict[str, np.ndarray] = {
        **{_THEIRS[n]: _flat(x) for n, x in recording.arrays.items() if n in _THEIRS},
        "timestamp": (frame / recording.rate).astype(np.float32),
        **{"frame_index": frame, "episode_index": of, "index": np.arange(time), "task_index": np.zeros(time, int)},
        "next.done": last,
    }
    if recording.success is not None:
        numbers["next.success"] = last & recording.success[of]
    pictures = {f"observation.{name}": x for name, x in recording.arrays.items() if name.startswith("images.")}
    columns = {name: _column(pa, x) for name, x in numbers.items()}
    picture_type = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    for name, frames in pictures.items():
        columns[name] = pa.array([{"bytes": _png(x), "path": None} for x in frames], picture_type)
    place = {"chunk_index": 0, "file_index": 0}
    _parquet(folder / "data" / FILE.format(**place), pa.table(columns))

    def feature(name: str, x: np.ndarray) -> dict[str, Any]:
        shape, kind = ([1], str(x.dtype)) if x.ndim == 1 else (list(x.shape[1:]), "float32")
        own = names.get(_OWN.get(name, name))
        return {"dtype": kind, "shape": shape, "names": list(own) if own else None}

    picture = {"dtype": "image", "names": ["height", "width", "channels"]}
    features = {name: feature(name, x) for name, x in numbers.items()}
    features |= {name: {**picture, "shape": list(x.shape[1:])} for name, x in pictures.items()}
    stats = {name: _statistics(x.reshape(time, -1)) for name, x in numbers.items()}
    stats |= {name: _picture_statistics(x) for name, x in pictures.items()}
    episodes = [
        {
            "episode_index": i,
            "tasks": [task],
            "length": int(length),
            **{f"data/{key}": value for key, value in place.items()},
            "dataset_from_index": int(begin),
            "dataset_to_index": int(begin + length),
            **{f"meta/episodes/{key}": value for key, value in place.items()},
            **{
                f"stats/{name}/{key}": value
                for name, x in numbers.items()
                for key, value in _statistics(x[begin : begin + length].reshape(length, -1)).items()
            },
        }
        for i, (begin, length) in enumerate(zip(starts, lengths, strict=True))
    ]
    _parquet(folder / "meta" / "episodes" / FILE.format(**place), pa.Table.from_pylist(episodes))
    # As pandas writes a frame whose index are the tasks, which is how LeRobot reads it.
    kinds = (("task_index", "int64", "int64"), ("task", "unicode", "object"))
    keys = ("name", "field_name", "pandas_type", "numpy_type", "metadata")
    described = [dict(zip(keys, (name, name, *kind, None), strict=True)) for name, *kind in kinds]
    index = {"index_columns": ["task"], "columns": described, "column_indexes": []}
    tasks = pa.table({"task_index": [0], "task": [task]}).replace_schema_metadata({"pandas": json.dumps(index)})
    _parquet(folder / "meta" / "tasks", tasks)
    write_json(folder / "meta" / "stats.json", stats)
    info = {
        "codebase_version": "v3.0",
        "robot_type": None,
        "total_episodes": len(lengths),
        "total_frames": time,
        "total_tasks": 1,
        "chunks_size": 1000,
        "data_files_size_in_mb": 100,
        "video_files_size_in_mb": 200,
        "fps": round(recording.rate),
        "splits": {"train": f"0:{len(lengths)}"},
        "data_path": f"data/{FILE}.parquet",
        "video_path": None,
        "features": features,
    }
    write_json(folder / "meta" / "info.json", info)
    told = "" if recording.success is None else f", of which {recording.success.mean():.1%} succeed"
    size = f"{len(lengths)} episodes{told}: {time} frames, {recording.rate:g} a second"
    listed = ", ".join(f"`{name}`" for name in features)
    (folder / "README.md").write_text(CARD.format(task=task, size=size, features=listed))


def _flat(x: np.ndarray) -> np.ndarray:
    """`[time, n]`; `[time]` where n is 1, as LeRobot has it."""
    x = x.reshape(len(x), -1)
    return x[:, 0] if x.shape[1] == 1 else x


def _column(pa: Any, x: np.ndarray) -> Any:
    if x.ndim == 1:
        return pa.array(x)
    return pa.FixedSizeListArray.from_arrays(pa.array(x.astype(np.float32).ravel()), x.shape[1])


def _parquet(path: Path, table: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    _pyarrow().parquet.write_table(table, path.with_name(f"{path.name}.parquet"))


def _png(picture: np.ndarray) -> bytes:
    with io.BytesIO() as buffer:
        Image.fromarray(picture).save(buffer, "png")
        return buffer.getvalue()


def _statistics(x: np.ndarray) -> dict[str, list[float]]:
    x = x.astype(np.float64)
    spread = {"min": x.min(0), "max": x.max(0), "mean": x.mean(0), "std": x.std(0)}
    return {**{name: value.tolist() for name, value in spread.items()}, "count": [len(x)]}


def _picture_statistics(x: np.ndarray) -> dict[str, Any]:
    """Of each colour, of a hundred pictures at most, `[3, 1, 1]` as LeRobot has it."""
    colours = x[:: -(-len(x) // 100)].reshape(-1, 3) / 255
    found = _statistics(colours)
    return {name: value if name == "count" else np.reshape(value, (3, 1, 1)).tolist() for name, value in found.items()}


def read(folder: Path, rate: float | None = None) -> Recording:
    """Reads a dataset; pictures and videos are left aside.

    Args:
      folder: of the dataset.
      rate: rows a second (Hz), where it does not tell, or wrongly.

    Raises:
      UserError: the folder holds no dataset of version 3, a damaged or too large one, or what `checked` refuses.
    """
    pa = _pyarrow()
    try:
        info = json.loads((folder / "meta" / "info.json").read_text())
        version, features = info["codebase_version"], dict(info["features"])
        rate = float(info["fps"]) if rate is None else rate
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder}: no LeRobotDataset: meta/info.json ({error})") from error
    if not str(version).startswith("v3"):
        raise UserError(f"{folder}: version {version} of the format, this reads v3: lerobot's scripts convert it")
    paths = sorted((folder / "data").glob("*/*.parquet"))
    if not paths:
        raise UserError(f"{folder}: no files data/*/*.parquet")
    wanted = [name for name in features if name in _OWN]
    counters = ["episode_index", "frame_index", *(["next.success"] if "next.success" in features else [])]
    try:
        room = sum(
            meta.row_group(i).column(j).total_uncompressed_size
            for meta in map(pa.parquet.read_metadata, paths)
            for i in range(meta.num_row_groups)
            for j in range(meta.num_columns)
            if meta.row_group(i).column(j).path_in_schema.split(".list.")[0] in (*wanted, *counters)
        )
        if room > LARGEST:
            raise UserError(f"{folder}: unfolds to more than {LARGEST / 1024**3:.0f} GiB")
        table = pa.concat_tables([pa.parquet.read_table(path, columns=[*wanted, *counters]) for path in paths])
        table = table.sort_by([("episode_index", "ascending"), ("frame_index", "ascending")])
        arrays = {_OWN[name]: _matrix(table.column(name).combine_chunks()) for name in wanted}
        of = table.column("episode_index").to_numpy()
        succeeded = table.column("next.success").to_numpy() if len(counters) > 2 else None
    except (pa.ArrowException, OSError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{folder}: damaged, or not as its info.json says ({one_line(error)})") from error
    if not wanted:
        raise UserError(f"{folder}: has neither 'action' nor 'observation.state' nor 'sim.qpos'")
    numbers, lengths = np.unique(of, return_counts=True)
    success = None
    if succeeded is not None:
        success = np.array([succeeded[of == number].any() for number in numbers])
    return checked(Recording(arrays, lengths, success, rate, folder))


def _matrix(column: Any) -> np.ndarray:
    """`[rows, n]` of a column of lists, or of numbers."""
    pa = _pyarrow()
    if hasattr(column.type, "value_type"):
        if column.null_count or len(pa.compute.unique(pa.compute.list_value_length(column))) != 1:
            raise ValueError("rows of different lengths")
        return column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1)
    return column.to_numpy(zero_copy_only=False)[:, None]
