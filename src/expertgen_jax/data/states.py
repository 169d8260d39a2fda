"""Demonstrations from recorded states: another simulator's, or a robot's, at any rate.

The state of a recording's first row is set up, and what follows is done again in physics, with the action that takes
the robot along the recorded path (`Task.follow`). What is observed, what is done and whether it succeeds is then as
true as of any demonstration.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from jax.scipy.spatial.transform import Rotation

from expertgen_jax import scenes
from expertgen_jax.data.recording import Recording
from expertgen_jax.errors import UserError
from expertgen_jax.learning import demos
from expertgen_jax.learning.demos import DemoSet
from expertgen_jax.sim import episode, kinematics, physics, robots, rollout
from expertgen_jax.sim.episode import Env, World
from expertgen_jax.sim.rollout import Agent, Policy

SETTLING = 10
"""Control steps that the last state is held for."""


class Replay(NamedTuple):
    """How well recorded episodes were done again.

    Attributes:
      success: `[episodes]` bool.
      apart: `[episodes]`, how far the farthest body was from its recorded place, median over time (m).
      at_bound: share of control steps in which an action that is not always at its bound was.
    """

    success: np.ndarray
    apart: np.ndarray
    at_bound: float


def from_states(env: Env, recording: Recording, key: jax.Array) -> tuple[DemoSet, Replay]:
    """Demonstrations that follow recorded states.

    Args:
      env: the task, on the C engine.
      recording: with `qpos`; and with `qvel`, `ctrl`, `mocap_pos` and `mocap_quat` where they are not, in an episode's
        first row, as at rest and at the start of an episode of the task.
      key: of what a state does not tell, such as how things are misjudged.

    Raises:
      UserError: the task cannot follow states, or they are not its own.
    """
    follow = env.task.follow
    if follow is None:
        raise UserError(f"{recording.source}: has states only, and task '{env.task.name}' defines no `follow`")
    paths, lengths = resampled(env, recording)

    def act(params: Any, memory: Any, world: World, key: jax.Array) -> tuple[Any, jax.Array]:
        along, step = memory
        here, there = along[jnp.minimum(step, len(along) - 1)], along[jnp.minimum(step + 1, len(along) - 1)]
        return (along, step + 1), jnp.clip(follow.act(world.data, here, there), -1.0, 1.0)[None]

    memories = (jnp.asarray(paths), jnp.zeros(len(paths), jnp.int32))
    follower = Agent("following", Policy(1, lambda key: (), act))
    return done_again(env, follower, recording, paths, lengths + SETTLING, memories, key)


def of_tool(env: Env, recording: Recording) -> Recording:
    """The recording with `qpos`, for one that tells where a robot's tool was instead of how its joints stood.

    Args:
      env: the task, of a robot of this package.
      recording: with `tool_pos: [time, 3]` (m) and `tool_quat: [time, 4]` (w, x, y, z), the pose of the body `hand` in
        the world; `gripper: [time]`, how far the pads are apart (m), where the robot has a gripper; and
        `rest: [time, n]`, what follows the robot's in `qpos`, such as where things are, of which an episode's first row
        is set up.

    Raises:
      UserError: something is missing or of another size, or the robot is none of this package.
    """
    mj, arrays, source = env.model.mj, recording.arrays, recording.source
    if mj.joint(0).name not in (scenes.HAND_JOINTS[0], scenes.PANDA_JOINTS[0]):
        raise UserError(f"{source}: has poses of a tool, and '{env.task.name}' no robot of which they could be")
    robot = robots.of(mj)
    fingers = sum(mj.joint(i).name in scenes.FINGER_JOINTS for i in range(mj.njnt))
    sizes = {"tool_pos": 3, "tool_quat": 4, "gripper": min(fingers, 1), "rest": mj.nq - robot.joints - fingers}
    time, told = len(arrays["tool_pos"]), {}
    for name, size in sizes.items():
        told[name] = np.reshape(arrays[name], (time, -1)) if size and name in arrays else np.zeros((time, 0))
        if told[name].shape[1] != size:
            raise UserError(f"{source}: '{name}' has {told[name].shape[1]} numbers a row, expected {size}")
    if (np.linalg.norm(told["tool_quat"], axis=1) < 1e-6).any():
        raise UserError(f"{source}: 'tool_quat' holds zeros, which are no rotation")
    turns = Rotation.from_quat(jnp.asarray(told["tool_quat"][:, [1, 2, 3, 0]])).as_matrix()
    angles = np.asarray(jax.vmap(kinematics.yaw_pitch_roll)(turns))
    angles = np.concatenate([np.unwrap(x, axis=0) for x in np.split(angles, recording.starts[1:])])
    joints = jax.vmap(lambda pose: robot.start(pose)[0])(np.concatenate([told["tool_pos"], angles], axis=1))
    closing = np.clip((scenes.OPENING - told["gripper"]) / 2, 0.0, scenes.OPENING / 2)  # others open wider
    qpos = np.concatenate([joints, np.repeat(closing, fingers, axis=1), told["rest"]], axis=1)
    return recording._replace(arrays={**arrays, "qpos": qpos.astype(np.float32)})


def open_loop(env: Env, recording: Recording, key: jax.Array) -> tuple[DemoSet, Replay]:
    """The recorded actions, the task's own and in step, once more from the recorded starts; see `from_states`.

    Raises:
      UserError: the states are not the task's own.
    """
    paths, lengths = resampled(env, recording)
    actions = _padded([recording.episode(i)["actions"] for i in range(len(lengths))], paths.shape[1])

    def act(params: Any, memory: Any, world: World, key: jax.Array) -> tuple[Any, jax.Array]:
        told, step = memory
        return (told, step + 1), told[jnp.minimum(step, len(told) - 1)][None]

    memories = (jnp.asarray(actions), jnp.zeros(len(paths), jnp.int32))
    replayer = Agent("replaying", Policy(1, lambda key: (), act))
    return done_again(env, replayer, recording, paths, lengths, memories, key)


def in_step(env: Env, recording: Recording) -> bool:
    """Whether its rows come at the task's control rate."""
    return abs(recording.rate * env.task.control_dt - 1) < 0.01


def resampled(env: Env, recording: Recording) -> tuple[np.ndarray, np.ndarray]:
    """The `qpos` of each episode at the task's control rate, `[episodes, time, nq]`, the last one repeated for at least
    `SETTLING`, and their lengths without that, in control steps.

    Raises:
      UserError: there is no `qpos`, or one of another model.
    """
    mj, dt = env.model.mj, env.task.control_dt
    rate = 1 / dt if in_step(env, recording) else recording.rate
    if "qpos" not in recording.arrays:
        raise UserError(f"{recording.source}: holds no 'qpos'")
    if recording.arrays["qpos"].shape[1:] != (mj.nq,):
        joints = ", ".join(mj.joint(i).name for i in range(mj.njnt))
        found = recording.arrays["qpos"].shape[1:]
        raise UserError(
            f"{recording.source}: 'qpos' has {found} numbers a row, expected {mj.nq}, of the joints {joints}"
        )
    quats = [mj.jnt_qposadr[i] + 3 for i in range(mj.njnt) if mj.jnt_type[i] == mujoco.mjtJoint.mjJNT_FREE]
    paths = []
    for number, length in enumerate(recording.lengths):
        qpos = recording.episode(number)["qpos"].astype(np.float64)
        for adr in quats:  # two of which mean the same turn
            turns = qpos[:, adr : adr + 4]
            flips = np.where((turns[1:] * turns[:-1]).sum(1) < 0, -1.0, 1.0)
            turns[1:] *= np.cumprod(flips)[:, None]
        times = np.arange(0.0, (length - 1) / rate + 1e-9, dt)
        taken = np.stack([np.interp(times, np.arange(length) / rate, x) for x in qpos.T], axis=1)
        for adr in quats:
            taken[:, adr : adr + 4] /= np.maximum(np.linalg.norm(taken[:, adr : adr + 4], axis=1, keepdims=True), 1e-9)
        paths.append(taken.astype(np.float32))
    lengths = np.array([len(x) for x in paths])
    return _padded(paths, lengths.max() + SETTLING), lengths


def _padded(rows: list[np.ndarray], time: int) -> np.ndarray:
    return np.stack([np.concatenate([x, np.repeat(x[-1:], time - len(x), axis=0)]) for x in rows])


def done_again(
    env: Env,
    agent: Agent,
    recording: Recording,
    paths: np.ndarray,
    lengths: np.ndarray,
    memories: Any,
    key: jax.Array,
) -> tuple[DemoSet, Replay]:
    """Plays an agent from the recorded starts, each for so many control steps at most, and compares with `paths`."""
    mj, follow = env.model.mj, env.task.follow
    if len(env.task.variants) > 1:
        raise UserError(f"{recording.source}: states do not tell which variant of '{env.task.name}' they are of")
    env = env.replace(task=dataclasses.replace(env.task, horizon=paths.shape[1]))
    first = {name: x[recording.starts] for name, x in recording.arrays.items()}
    given = {"qpos": paths[:, 0]}
    mocap = {"mocap_pos": (mj.nmocap, 3), "mocap_quat": (mj.nmocap, 4)} if mj.nmocap else {}
    for name, shape in {"qvel": (mj.nv,), "ctrl": (mj.nu,), **mocap}.items():
        if name in first:
            if first[name][0].size != np.prod(shape):
                raise UserError(
                    f"{recording.source}: '{name}' has {first[name][0].size} numbers a row, expected {np.prod(shape)}"
                )
            given[name] = first[name].reshape(-1, *shape)

    @jax.jit
    @jax.vmap
    def begin(key: jax.Array, given: dict[str, jax.Array]) -> World:
        world = episode.reset(env, key)
        rest = {name: getattr(world.data, name) for name in ("ctrl", "mocap_pos", "mocap_quat")}
        if follow is not None:
            rest["ctrl"] = follow.ctrl(given["qpos"])
        data = physics.init(physics.with_fields(env.model, world.fields), **(rest | given))
        return episode.restart(env, world.replace(data=data))

    keys = rollout.episode_keys(key, jnp.arange(len(paths)))
    worlds, frames = jax.device_get(rollout.record_from(env, agent, begin(keys, given), memories, keys))
    success = worlds.success & (worlds.steps <= lengths)
    within = frames.active & (np.arange(frames.active.shape[1]) < lengths[:, None])
    replayed = demos.episodes(success, frames._replace(active=within))
    bound = np.abs(replayed.actions) > 1 - 1e-6
    apart = np.array([_apart(mj, path[:n], x[:n]) for path, x, n in zip(paths, frames.qpos, lengths, strict=True)])
    return replayed, Replay(success, apart, float(bound[:, ~bound.all(0)].any(1).mean()))


def _apart(mj: mujoco.MjModel, one: np.ndarray, other: np.ndarray) -> float:
    """How far the farthest body of two paths `[time, nq]` is apart, median over time (m)."""
    data, places = mujoco.MjData(mj), []
    for path in (one, other):
        for qpos in path:
            data.qpos[:] = qpos
            mujoco.mj_kinematics(mj, data)
            places.append(data.xpos.copy())
    apart = np.diff(np.reshape(places, (2, len(one), mj.nbody, 3)), axis=0)[0]
    return float(np.median(np.linalg.norm(apart, axis=-1).max(-1)))
