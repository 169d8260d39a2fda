"""Between files of others and demonstrations of a task."""

import operator
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from expertgen_jax.data import diffusion_policy, lerobot, robomimic, states
from expertgen_jax.data.recording import Recording, check_room, checked
from expertgen_jax.data.states import Replay
from expertgen_jax.errors import UserError
from expertgen_jax.learning import student
from expertgen_jax.learning.demos import DemoSet
from expertgen_jax.sim import episode, rollout
from expertgen_jax.sim.episode import Env, Frame, World
from expertgen_jax.sim.rollout import Agent


class Imported(NamedTuple):
    """Demonstrations from a file.

    Attributes:
      demos: of the task.
      told: success of each episode as the file tells it; None where it does not.
      open_loop: the recorded actions once more from the recorded starts, where there are both.
      followed: the recorded states once more, where the demonstrations are made of them.
    """

    demos: DemoSet
    told: np.ndarray | None
    open_loop: Replay | None
    followed: Replay | None


def read(path: Path, rate: float | None = None) -> Recording:
    """Reads a recording by its kind: a folder of LeRobot, robomimic's `.hdf5`, a zarr group of Diffusion Policy, or an
    `.npz` archive with arrays of `Recording`, `lengths`, `rate` (Hz) and perhaps `success`.

    Args:
      path: the file or folder.
      rate: rows a second (Hz), where it does not tell, or wrongly.

    Raises:
      UserError: it is none of these, or not as it should be.
    """
    if not path.exists():
        raise UserError(f"{path}: no such file")
    if diffusion_policy.is_one(path):
        return diffusion_policy.read(path, rate)
    if path.is_dir():
        return lerobot.read(path, rate)
    if path.suffix in robomimic.SUFFIXES:
        return robomimic.read(path, rate)
    if path.suffix == ".npz":
        return _read_npz(path, rate)
    raise UserError(f"{path}: expected .hdf5, .npz, the folder of a LeRobotDataset, or a zarr group or its .zip")


def _read_npz(path: Path, rate: float | None) -> Recording:
    try:
        check_room(path)
        with open(path, "rb") as file, np.load(file) as archive:
            arrays = {name: archive[name] for name in archive.files}
        lengths, told, success = (arrays.pop(name, None) for name in ("lengths", "rate", "success"))
    except UserError:
        raise
    except Exception as error:  # zipfile, zlib and NumPy raise what they like on damaged files
        raise UserError(f"{path}: not an .npz archive, or damaged") from error
    good = lengths is not None and lengths.ndim == 1 and lengths.dtype.kind in "iu"
    if not good or (rate is None and (told is None or told.dtype.kind not in "fiu" or told.size != 1)):
        raise UserError(f"{path}: needs 'lengths', whole numbers [episodes], and 'rate', a number")
    return checked(Recording(arrays, lengths, success, float(np.ravel(told)[0]) if rate is None else rate, path))


def imported(env: Env, recording: Recording, key: jax.Array) -> Imported:
    """Demonstrations of a task: as they were recorded where the recording has the task's observations and actions at
    its control rate, else by following the recorded states, or the poses of its tool.

    Raises:
      UserError: it has neither, or something is not the task's own.
    """
    if "tool_pos" in recording.arrays and "qpos" not in recording.arrays:
        recording = states.of_tool(env, recording)
    task, arrays, path = env.task, recording.arrays, recording.source
    told, obs, replay = recording.success, observations(env, recording), None
    own = "actions" in arrays and arrays["actions"].shape[1:] == (task.action_size,) and states.in_step(env, recording)
    own = own and np.abs(arrays["actions"]).max() <= 1 + 1e-6
    if own and "qpos" in arrays and (task.follow is not None or "ctrl" in arrays):
        _, replay = states.open_loop(env, recording, key)
    if obs is None or not own:
        if "qpos" not in arrays:
            raise UserError(f"{path}: has no 'qpos', nor what '{task.name}' observes and does: {_lack(env, recording)}")
        demos, followed = states.from_states(env, recording, key)
        return Imported(demos, told, replay, followed)
    success = told if told is not None else None if replay is None else replay.success
    if success is None:
        raise UserError(f"{path}: does not tell which episodes succeeded, and has no 'qpos' to try them")
    return Imported(DemoSet(obs, arrays["actions"], recording.lengths, success), told, replay, None)


def observations(env: Env, recording: Recording) -> np.ndarray | None:
    """The task's observation `[time, obs_size]` if the recording has it, as a vector or in its parts."""
    arrays, (size, _) = recording.arrays, episode.sizes(env)
    if "obs" in arrays:
        return arrays["obs"] if arrays["obs"].shape[1:] == (size,) else None
    parts = [arrays.get(f"obs.{name}") for name in dict.fromkeys(episode.entries(env))]
    if any(part is None for part in parts):
        return None
    joined = np.concatenate([np.reshape(x, (len(x), -1)) for x in parts if x is not None], axis=1)
    return joined if joined.shape[1] == size else None


def in_parts(env: Env, recording: Recording) -> Recording:
    """The recording with each part of the task's observation by its name, `obs.NAME`, instead of the vector."""
    names, obs = np.array(episode.entries(env)), recording.arrays["obs"]
    parts = {f"obs.{name}": obs[:, names == name] for name in dict.fromkeys(names.tolist())}
    return recording._replace(arrays={n: x for n, x in recording.arrays.items() if n != "obs"} | parts)


def _lack(env: Env, recording: Recording) -> str:
    """What keeps a recording from being one of the task's observations and actions."""
    task, arrays = env.task, recording.arrays
    if not states.in_step(env, recording):
        return f"{recording.rate:g} rows a second, expected {1 / task.control_dt:g}"
    if "actions" not in arrays:
        return "'actions' is missing"
    if observations(env, recording) is None and "obs" in arrays:
        return f"'obs' has {arrays['obs'].shape[1:]} numbers, expected {episode.sizes(env)[0]}"
    missing = [name for name in dict.fromkeys(episode.entries(env)) if f"obs.{name}" not in arrays]
    if missing and "obs" not in arrays:
        return f"'obs.{missing[0]}' is missing"
    found = f"{arrays['actions'].shape[1:]} numbers within {np.abs(arrays['actions']).max():.3g}"
    return f"'actions' has {found}, expected {task.action_size} within 1"


def recorded(env: Env, agent: Agent, key: jax.Array, episodes: int, size: int = 0) -> Recording:
    """Plays episodes, for others.

    Args:
      env: the task.
      agent: who plays.
      key: of the episodes.
      episodes: how many.
      size: of the colour pictures of the task's cameras (pixels); 0 for none.
    """
    worlds, frames = jax.device_get(rollout.record(env, agent, key, episodes))
    active = frames.active
    names = ("qpos", *(("mocap_pos", "mocap_quat") if env.model.mj.nmocap else ()))
    arrays = {"actions": frames.action[active], "obs": frames.obs[active]}
    arrays |= {name: getattr(frames, name)[active].reshape(active.sum(), -1) for name in names}
    if size:
        arrays |= pictures(env, worlds, frames, size)
    return Recording(arrays, active.sum(1), worlds.success, 1 / env.task.control_dt)


def pictures(env: Env, worlds: World, frames: Frame, size: int) -> dict[str, np.ndarray]:
    """What the task's cameras see at every control step, `images.CAMERA: [time, size, size, 3] uint8`."""

    def of_episode(i: int) -> np.ndarray:
        world, frame = jax.tree.map(operator.itemgetter(i), (worlds, frames))
        image = student.looked_back(env, world, frame.qpos, frame.mocap_pos, frame.mocap_quat, size=size)
        return (255 * np.asarray(image.rgb)[frame.active] + 0.5).astype(np.uint8)

    seen = np.concatenate([of_episode(i) for i in range(len(frames.active))])
    return {f"images.{name}": seen[:, i] for i, name in enumerate(env.task.cameras)}
