"""Recordings survive the formats of others bit by bit; what is none is refused in a line."""

import io
import json
import shutil
from pathlib import Path

import h5py
import numcodecs
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from expertgen_jax.data import conversion, diffusion_policy, lerobot, robomimic
from expertgen_jax.data.recording import Recording, checked
from expertgen_jax.errors import UserError

LENGTHS = np.array([5, 1, 3])


def recording(pictures=True, success=(True, False, True)):
    rng = np.random.default_rng(0)
    widths = {"actions": 4, "obs": 6, "qpos": 1, "mocap_pos": 3}
    arrays = {name: rng.normal(size=(9, n)).astype(np.float32) for name, n in widths.items()}
    if pictures:
        arrays["images.front"] = rng.integers(256, size=(9, 8, 8, 3), dtype=np.uint8)
    return Recording(arrays, LENGTHS, None if success is None else np.array(success), 20.0)


def written(kind, tmp_path, **how):
    path = tmp_path / {lerobot: "set", robomimic: "set.hdf5", diffusion_policy: "set.zarr"}[kind]
    names = ({"obs": list("abcdef")},) if kind is lerobot else ()
    task = () if kind is diffusion_policy else ("peg",)
    kind.write(path, recording(**how), *task, *names)
    return path


@pytest.mark.parametrize("kind", [lerobot, robomimic, diffusion_policy])
@pytest.mark.parametrize("success", [(True, False, True), None])
def test_what_is_written_is_read_bit_by_bit(kind, success, tmp_path):
    before, after = recording(success=success), conversion.read(written(kind, tmp_path, success=success))
    assert after.arrays.keys() == before.arrays.keys() - {"images.front"}  # pictures are left aside
    for name, x in after.arrays.items():
        np.testing.assert_array_equal(x, before.arrays[name], err_msg=name)
    np.testing.assert_array_equal(after.lengths, LENGTHS)
    assert after.rate == 20.0
    if success is None:
        assert after.success is None
    else:
        np.testing.assert_array_equal(after.success, success)


def test_lerobots_files_are_as_it_describes_them(tmp_path):
    folder = written(lerobot, tmp_path)
    info = json.loads((folder / "meta/info.json").read_text())
    assert (info["codebase_version"], info["total_episodes"], info["total_frames"], info["fps"]) == ("v3.0", 3, 9, 20)
    table = pq.read_table(folder / "data/chunk-000/file-000.parquet")
    assert set(table.column_names) == set(info["features"])
    assert info["features"]["observation.state"] == {"dtype": "float32", "shape": [6], "names": list("abcdef")}
    assert table.column("action").type == pa.list_(pa.float32(), 4)
    assert table.column("sim.qpos").type == pa.float32() and info["features"]["sim.qpos"]["shape"] == [1]
    np.testing.assert_array_equal(table.column("frame_index"), [0, 1, 2, 3, 4, 0, 0, 1, 2])
    np.testing.assert_allclose(table.column("timestamp").to_numpy()[:5], np.arange(5) / 20, atol=1e-7)
    episodes = pq.read_table(folder / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    assert [(x["dataset_from_index"], x["dataset_to_index"], x["length"]) for x in episodes] == [
        *((0, 5, 5), (5, 6, 1), (6, 9, 3)),
    ]
    stats = json.loads((folder / "meta/stats.json").read_text())
    np.testing.assert_allclose(stats["action"]["mean"], recording().arrays["actions"].mean(0), rtol=1e-5)
    assert np.shape(stats["observation.images.front"]["mean"]) == (3, 1, 1)
    assert pd.read_parquet(folder / "meta/tasks.parquet").to_dict() == {"task_index": {"peg": 0}}  # as LeRobot reads it
    picture = table.column("observation.images.front")[7].as_py()["bytes"]
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(picture))), recording().arrays["images.front"][7])
    with pytest.raises(UserError, match="is there already"):
        lerobot.write(folder, recording(), "peg", {})
    with pytest.raises(UserError, match="a whole number"):
        lerobot.write(tmp_path / "odd", recording()._replace(rate=33.3), "peg", {})
    assert [path.name for path in tmp_path.iterdir()] == ["set"]  # nothing half-written


def test_robomimics_files_are_as_it_describes_them(tmp_path):
    with h5py.File(written(robomimic, tmp_path)) as file:
        data = file["data"]
        assert data.attrs["total"] == 9 and json.loads(data.attrs["env_args"])["env_name"] == "peg"
        demo = data["demo_2"]
        assert demo.attrs["num_samples"] == 3 and demo["obs/front_image"].shape == (3, 8, 8, 3)
        np.testing.assert_array_equal(demo["dones"], [0, 0, 1])
        np.testing.assert_array_equal(demo["rewards"], [0, 0, 1])
        np.testing.assert_array_equal(demo["next_obs/obs"][:-1], demo["obs/obs"][1:])
        assert demo["next_obs"].keys() == demo["obs"].keys()
    with pytest.raises(UserError, match=r"ends in \.hdf5"):
        robomimic.write(tmp_path / "set", recording(), "peg")


def test_replay_buffers_are_as_diffusion_policy_has_them(tmp_path):
    folder = written(diffusion_policy, tmp_path)
    root = zarr.open_group(folder, mode="r")
    assert root.metadata.zarr_format == 2  # as its authors' zarr reads
    assert set(root["data"]) == {"action", "obs", "qpos", "mocap_pos", "front"}
    np.testing.assert_array_equal(root["meta/episode_ends"][:], [5, 6, 9])
    np.testing.assert_array_equal(root["data/front"][:], recording().arrays["images.front"])
    with pytest.raises(UserError, match="is there already"):
        diffusion_policy.write(folder, recording())
    archive = shutil.make_archive(str(tmp_path / "set.zarr"), "zip", folder)
    np.testing.assert_array_equal(conversion.read(Path(archive)).arrays["actions"], recording().arrays["actions"])


def test_a_buffer_of_theirs_needs_a_rate(tmp_path):
    """Without ours, as theirs are: `keypoint` and the rest are left aside."""
    root = zarr.open_group(tmp_path / "pusht.zarr", mode="w", zarr_format=2)
    rows = np.arange(18, dtype=np.float64).reshape(9, 2)
    data = root.create_group("data")
    for name in ("action", "state", "keypoint"):
        data.create_array(name, data=rows)
    root.create_group("meta").create_array("episode_ends", data=np.array([4, 9]))
    with pytest.raises(UserError, match="give --rate"):
        conversion.read(tmp_path / "pusht.zarr")
    found = conversion.read(tmp_path / "pusht.zarr", 10.0)
    assert found.rate == 10.0 and found.success is None and found.lengths.tolist() == [4, 5]
    assert found.arrays.keys() == {"actions"} and found.arrays["actions"].dtype == np.float32


def put(name, values, **how):
    def change(root):
        del root[name]
        root.create_array(name, data=np.asarray(values), **how)

    return change


ZARR = {
    "no ends": (lambda root: root["meta"].__delitem__("episode_ends"), "no 'meta/episode_ends'"),
    "no data": (lambda root: root.__delitem__("data"), "neither"),
    "a group for numbers": (
        lambda root: (root["data"].__delitem__("action"), root["data"].create_group("action")),
        "is a group",
    ),
    "ends that are halves": (put("meta/episode_ends", [5.5, 9.0]), "whole numbers"),
    "ends in two columns": (put("meta/episode_ends", [[5, 9]]), "whole numbers"),
    "ends that go back": (put("meta/episode_ends", [5, 3, 9]), "empty"),
    "ends before the end": (put("meta/episode_ends", [5, 6, 8]), "9 rows, the episodes 8"),
    "no episodes": (put("meta/episode_ends", np.zeros(0, int)), "no episodes"),
    "words": (put("data/action", np.array(["a"] * 9)), "numbers"),
    "too few rows": (put("data/action", np.zeros((8, 4))), "8 rows"),
    "not a number": (put("data/action", np.full((9, 4), np.nan)), "not finite"),
    "complex": (put("data/action", np.zeros((9, 4), complex)), "must be numbers"),
    "a pickle": (put("data/action", np.zeros((9, 4)), filters=[numcodecs.Pickle()]), "pickle"),
    "chunks that are far too large": (
        lambda root: root["data"].create_array("qvel", shape=(9, 4), dtype="f8", chunks=(10**9, 4)),
        "more than 8 GiB",
    ),
    "chunks that are far too many": (
        lambda root: root["data"].create_array("qvel", shape=(10**8, 1), dtype="f4", chunks=(1, 1)),
        "more than 8 GiB",
    ),
    "far too much": (lambda root: root["data"].create_array("qvel", shape=(10**9, 9), dtype="f8"), "more than 8 GiB"),
    "no rate": (lambda root: root.attrs.__delitem__("rate"), "give --rate"),
    "a rate in words": (lambda root: root.attrs.__setitem__("rate", "fast"), "give --rate"),
    "a rate of nothing": (lambda root: root.attrs.__setitem__("rate", -1), "rows a second"),
    "success by halves": (put("meta/success", [0.5, 1.0, 0.0]), "0 or 1"),
    "success of too many": (put("meta/success", [True]), "success has shape"),
}


@pytest.mark.parametrize("kind", ZARR)
def test_a_buffer_that_is_no_recording_is_refused_in_a_line(kind, tmp_path):
    change, said = ZARR[kind]
    folder = written(diffusion_policy, tmp_path)
    change(zarr.open_group(folder, mode="r+"))
    with pytest.raises(UserError, match=said) as error:
        conversion.read(folder)
    assert "\n" not in str(error.value)


def damaged(content, cuts, flips):
    """Bytes with some of them changed, and the end cut off."""
    content = bytearray(content[: len(content) - cuts])
    for place, value in flips:
        if content:
            content[place % len(content)] = value
    return bytes(content)


@pytest.mark.parametrize("kind", [lerobot, robomimic, diffusion_policy, None], ids=["lerobot", "hdf5", "zarr", "npz"])
def test_whatever_happens_to_a_file_it_is_read_or_refused_in_a_line(kind, tmp_path_factory):
    """Bytes of any file of a recording changed or cut off, as disks and networks do."""
    folder = tmp_path_factory.mktemp("spoilt")
    if kind is None:
        np.savez(whole := folder / "set.npz", lengths=LENGTHS, rate=20.0, qpos=np.zeros((9, 2)))
    else:
        whole = written(kind, folder)
    files = sorted(path for path in whole.rglob("*") if path.is_file()) if whole.is_dir() else [whole]
    flip = st.tuples(st.integers(0, 10**6), st.integers(0, 255))
    numbers = iter(range(10**6))

    @settings(max_examples=60, deadline=None, derandomize=True, database=None)
    @given(st.sampled_from(files), st.one_of(st.just(0), st.integers(1, 400)), st.lists(flip, max_size=6))
    def tried(file, cuts, flips):
        copy = folder / str(next(numbers)) / whole.name
        copy.parent.mkdir()
        shutil.copytree(whole, copy) if whole.is_dir() else shutil.copyfile(whole, copy)
        path = copy / file.relative_to(whole) if whole.is_dir() else copy
        path.write_bytes(damaged(path.read_bytes(), cuts, flips))
        try:
            assert (conversion.read(copy).lengths > 0).all()
        except UserError as error:
            assert "\n" not in str(error)
        shutil.rmtree(copy.parent)

    tried()


def spoilt(path, change):
    """An HDF5 file changed by hand."""
    with h5py.File(path, "r+") as file:
        change(file["data"])


def without(name):
    return lambda data: [data[demo].pop(name) for demo in data if name in data[demo]]


def replaced(name, value, demo="demo_0"):
    def change(data):
        del data[demo][name]
        data[demo][name] = value

    return change


HDF5 = {
    "nothing in it": (lambda data: [data.pop(name) for name in list(data)], "no episodes"),
    "no actions or states": (lambda data: [data[d].pop(n) for d in data for n in ("actions", "states")], "neither"),
    "text for numbers": (replaced("actions", np.array([b"a"] * 5)), "numbers|no robomimic"),
    "not a number": (replaced("actions", np.full((5, 4), np.nan)), "not finite"),
    "too large for float32": (replaced("actions", np.full((5, 4), 1e300)), "not finite"),
    "another width": (replaced("actions", np.zeros((5, 3))), "no robomimic|dimension"),
    "actions too few": (replaced("actions", np.zeros((4, 4))), "rows"),
    "an empty episode": (replaced("actions", np.zeros((0, 4))), "empty"),
    "states in some only": (lambda data: data["demo_1"].pop("states"), "some episodes only"),
    "an observation too long": (replaced("obs/obs", np.zeros((6, 6))), "rows"),
    "a group for numbers": (
        lambda data: (data["demo_0"].pop("actions"), data["demo_0"].create_group("actions")),
        "is a group",
    ),
    "numbers for a group": (
        lambda data: (data["demo_0"].pop("obs"), data["demo_0"].create_dataset("obs", data=[1.0])),
        "no robomimic",
    ),
    "settings that are a list": (lambda data: data.attrs.modify("env_args", "[]"), "no robomimic"),
    "settings that are none": (lambda data: data.attrs.modify("env_args", "{"), "no robomimic"),
    "a rate of nothing": (
        lambda data: data.attrs.modify("env_args", json.dumps({"env_kwargs": {"control_freq": 0}})),
        "rows a second",
    ),
}


@pytest.mark.parametrize("kind", HDF5)
def test_hdf5_that_is_no_recording_is_refused_in_a_line(kind, tmp_path):
    change, said = HDF5[kind]
    path = written(robomimic, tmp_path)
    spoilt(path, change)
    with pytest.raises(UserError, match=said) as error:
        conversion.read(path)
    assert "\n" not in str(error.value)


def info(**change):
    def spoil(folder):
        path = folder / "meta/info.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | change))

    return spoil


def column(name, values):
    def spoil(folder):
        path = folder / "data/chunk-000/file-000.parquet"
        table = pq.read_table(path).drop_columns(name)
        pq.write_table(table if values is None else table.append_column(name, [values]), path)

    return spoil


LEROBOT = {
    "no info": (lambda folder: (folder / "meta/info.json").unlink(), "no LeRobotDataset"),
    "info that is none": (lambda folder: (folder / "meta/info.json").write_text("{"), "no LeRobotDataset"),
    "info of another kind": (lambda folder: (folder / "meta/info.json").write_text("[]"), "no LeRobotDataset"),
    "an older version": (info(codebase_version="v2.1"), "v2.1"),
    "no rate": (info(fps="fast"), "no LeRobotDataset"),
    "a rate of nothing": (info(fps=0), "rows a second"),
    "no features": (info(features={}), "neither"),
    "no data": (lambda folder: (folder / "data/chunk-000/file-000.parquet").unlink(), "no files"),
    "data that is none": (lambda f: (f / "data/chunk-000/file-000.parquet").write_bytes(b"PAR1"), "damaged"),
    "no actions": (column("action", None), "damaged"),
    "no episodes told": (column("episode_index", None), "damaged"),
    "rows of many lengths": (column("action", pa.array([[1.0]] * 8 + [[1.0, 2.0]])), "damaged"),
    "rows that would fit all the same": (
        column("action", pa.array([[1.0], [2.0, 3.0, 4.0], *[[5.0, 6.0]] * 7])),
        "different lengths",
    ),
    "no list for a row": (column("action", pa.array([None, *[[5.0, 6.0]] * 8])), "damaged"),
    "text for numbers": (column("action", pa.array(["a"] * 9)), "damaged|numbers"),
    "text by numbers": (column("action", pa.array(["a"] * 9).dictionary_encode()), "damaged|numbers"),
    "nothing for a number": (column("action", pa.array([[1.0, None]] * 9)), "not finite|damaged"),
    "not a number": (column("action", pa.array([[float("inf")]] * 9)), "not finite"),
}


@pytest.mark.parametrize("kind", LEROBOT)
def test_a_folder_that_is_no_recording_is_refused_in_a_line(kind, tmp_path):
    change, said = LEROBOT[kind]
    folder = written(lerobot, tmp_path)
    change(folder)
    with pytest.raises(UserError, match=said) as error:
        conversion.read(folder)
    assert "\n" not in str(error.value)


NPZ = {
    "no lengths": ({"rate": 20.0}, "needs 'lengths'"),
    "no rate": ({"lengths": [2]}, "needs"),
    "lengths that are none": ({"lengths": [2.0], "rate": 20.0}, "whole numbers"),
    "a list in a list": ({"lengths": [[2]], "rate": 20.0}, "whole numbers"),
    "two rates": ({"lengths": [2], "rate": [20.0, 20.0]}, "a number"),
    "no episodes": ({"lengths": np.zeros(0, int), "rate": 20.0}, "no episodes"),
    "empty episodes": ({"lengths": [2, 0], "rate": 20.0}, "empty"),
    "rows too many": ({"lengths": [2], "rate": 20.0, "qpos": np.zeros((3, 1))}, "3 rows"),
    "complex numbers": ({"lengths": [2], "rate": 20.0, "qpos": np.zeros((2, 1), complex)}, "must be numbers"),
    "success of too many": ({"lengths": [2], "rate": 20.0, "success": [1, 1]}, "success has shape"),
    "success in one": ({"lengths": [2], "rate": 20.0, "success": 1}, "success has shape"),
    "success in words": ({"lengths": [2], "rate": 20.0, "success": ["no"]}, "0 or 1"),
    "success by halves": ({"lengths": [2], "rate": 20.0, "success": [0.5]}, "0 or 1"),
    "success that is no number": ({"lengths": [2], "rate": 20.0, "success": [np.nan]}, "0 or 1"),
    "a number for rows": ({"lengths": [2], "rate": 20.0, "dt": 0.05}, "a single number"),
    "a rate in words": ({"lengths": [2], "rate": "fast"}, "needs"),
    "a rate below nothing": ({"lengths": [2], "rate": -1.0}, "rows a second"),
    "objects": ({"lengths": [2], "rate": 20.0, "qpos": np.array([{}, {}])}, "not an .npz"),
}


@pytest.mark.parametrize("kind", NPZ)
def test_an_archive_that_is_no_recording_is_refused_in_a_line(kind, tmp_path):
    arrays, said = NPZ[kind]
    np.savez(tmp_path / "states.npz", **arrays)
    with pytest.raises(UserError, match=said) as error:
        conversion.read(tmp_path / "states.npz")
    assert "\n" not in str(error.value)


def test_what_is_no_file_of_a_kind_is_refused_in_a_line(tmp_path):
    (tmp_path / "damaged.npz").write_bytes(b"PK\x03\x04")
    (tmp_path / "damaged.zip").write_text("no archive")
    (tmp_path / "damaged.hdf5").write_bytes(b"\x89HDF")
    (tmp_path / "other.csv").write_text("1,2")
    for name, said in (
        *(("damaged.npz", "damaged"), ("damaged.hdf5", "damaged"), ("other.csv", "expected"), ("none", "no such")),
        ("damaged.zip", "not a zip file"),
    ):
        with pytest.raises(UserError, match=said):
            conversion.read(tmp_path / name)


@pytest.mark.parametrize("kind", [lerobot, robomimic, diffusion_policy, None], ids=["lerobot", "hdf5", "zarr", "npz"])
def test_a_rate_that_is_told_here_holds(kind, tmp_path):
    """Where a recording tells another, one of nothing, or none."""
    if kind is None:
        np.savez(path := tmp_path / "set.npz", lengths=LENGTHS, qpos=np.zeros((9, 2)))
    else:
        path = written(kind, tmp_path)
    assert conversion.read(path, 12.5).rate == 12.5
    with pytest.raises(UserError, match="rows a second"):
        conversion.read(path, 1e9)
    if kind is lerobot:
        info(fps=0)(path)
        assert conversion.read(path, 12.5).rate == 12.5


def test_a_recording_that_is_one_stays_as_it_is():
    before = recording()
    after = checked(before)
    assert after.arrays["images.front"].dtype == np.uint8
    np.testing.assert_array_equal(after.arrays["qpos"], before.arrays["qpos"])
    np.testing.assert_array_equal(after.starts, [0, 5, 6])
    np.testing.assert_array_equal(after.episode(2)["obs"], before.arrays["obs"][6:])
