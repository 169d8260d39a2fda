"""What tests share. Compiling an MJX program takes seconds, so programs are built once a session."""

import functools
import os
from collections.abc import Callable, Mapping
from typing import NamedTuple

os.environ.setdefault("MUJOCO_GL", "egl")  # before MuJoCo is imported: its renderer needs no display then

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from numpy.typing import ArrayLike

from expertgen_jax import physics, rollout
from expertgen_jax.physics import mjx  # which silences its comment on Warp
from expertgen_jax.scenes import OPENING
from expertgen_jax.tasks import TASKS
from expertgen_jax.tasks.fit import Context

BACKENDS = ("native", "mjx")
WORLDS, CONTROL_STEPS = 12, 30  # one shape for every `press`, hence one compilation a back end


class Path(NamedTuple):
    """What `press` saw at every substep, `[worlds, substeps, ...]`; xpos and xmat are the hand's."""

    qpos: np.ndarray
    xpos: np.ndarray
    xmat: np.ndarray


@pytest.fixture(scope="session")
def envs() -> Callable[[str, str], rollout.Env]:
    """`(task name, back end) -> Env`, cached."""
    return functools.cache(lambda task, backend: rollout.make_env(TASKS[task](), backend))


@pytest.fixture(scope="session")
def world(envs) -> rollout.World:
    """The peg at the start of an episode."""
    env = envs("peg", "native")
    return jax.jit(lambda key: rollout.reset(env, key))(jax.random.key(3))


def press_program(env: rollout.Env) -> Callable[[np.ndarray, np.ndarray], Path]:
    """`(qpos [n, 6], ctrl [n, 30, 6]) -> Path` for n <= WORLDS: plays commands from rest and looks at each substep."""
    hand = env.model.mj.body("hand").id

    def play(qpos: jax.Array, ctrl: jax.Array) -> Path:
        def substep(data, command):
            data = physics.step(env.model, data, command, 1)
            return data, Path(data.qpos, data.xpos[hand], data.xmat[hand])

        if env.model.backend == "native":
            start = physics.init(env.model, qpos, ctrl=qpos, mocap_pos=jnp.zeros((1, 3)))
        else:  # what `init` would add, the first step computes anyway; compiling it takes 10 s
            start = mjx.make_data(env.model.device).replace(
                qpos=qpos, mocap_pos=jnp.zeros((1, 3)), mocap_quat=jnp.array([[1.0, 0, 0, 0]])
            )
        return jax.lax.scan(substep, start, jnp.repeat(ctrl, env.nstep, axis=0))[1]

    program = jax.jit(jax.vmap(play))

    def press(qpos: np.ndarray, ctrl: np.ndarray) -> Path:
        count = len(qpos)
        rows = np.arange(WORLDS) % count
        return Path(*(np.asarray(x)[:count] for x in program(np.float32(qpos)[rows], np.float32(ctrl)[rows])))

    return press


@pytest.fixture(scope="session")
def press(envs) -> Callable[..., Callable[[np.ndarray, np.ndarray], Path]]:
    """`press_program` by back end and task (the peg), cached."""
    return functools.cache(lambda backend, task="peg": press_program(envs(task, backend)))


def deepest(mj: mujoco.MjModel, path: np.ndarray) -> np.ndarray:
    """How deep parts lie in each other (m) in each state of `path [T, nq]`, by the C engine's collision detection."""
    data, depths = mujoco.MjData(mj), []
    for qpos in path:
        data.qpos = qpos
        mujoco.mj_kinematics(mj, data)
        mujoco.mj_collision(mj, data)
        depths.append(-min(data.contact.dist, default=0.0))
    return np.array(depths)


def assert_judged(env: rollout.Env, cases: dict[str, tuple[bool, bool | None, np.ndarray]]) -> None:
    """Strict and lenient success in poses `{description: (strict, lenient or None where either will do, qpos)}`.

    The socket stands at the origin, and is seen where it is not.
    """

    def judge(qpos: jax.Array) -> tuple[jax.Array, jax.Array]:
        data = physics.init(env.model, qpos, ctrl=qpos, mocap_pos=jnp.zeros((1, 3)))
        fit = jax.tree.map(lambda x: x[0], env.sizes["fit"])
        context = Context(fit, jnp.array([0.002, -0.002, 0.0]), jnp.float32(0.05))
        return env.task.success(data, context), env.task.lenient(data, context)

    got = jax.jit(jax.vmap(judge))(np.float32([qpos for *_, qpos in cases.values()]))
    for what, (strict, lenient, _), strict_got, lenient_got in zip(cases, cases.values(), *got, strict=True):
        assert bool(strict_got) == strict, f"{what}: strict"
        assert lenient is None or bool(lenient_got) == lenient, f"{what}: lenient"


CLOSED, OPEN = np.full(2, OPENING / 2), np.zeros(2)


def hand_at(place: ArrayLike, fingers: ArrayLike, yaw: float = 0.0) -> np.ndarray:
    """The hand's part of `qpos`, and `ctrl`, of tasks with a gripper: `[8]`."""
    return np.concatenate([place, [yaw, 0, 0], fingers])


def assert_judged_on_table(
    env: rollout.Env,
    cases: Mapping[str, tuple[bool, np.ndarray, float]],
    mocap_pos: ArrayLike = (),
    mocap_quat: ArrayLike = (),
) -> None:
    """Success of `{description: (success, qpos, speed of the object)}`."""
    given = {"mocap_pos": mocap_pos, "mocap_quat": mocap_quat}
    mocap = {name: jnp.asarray([x], jnp.float32) for name, x in given.items() if len(np.asarray(x))}

    def judge(qpos: jax.Array, speed: jax.Array) -> jax.Array:
        data = physics.init(env.model, qpos, ctrl=qpos[:8], **mocap)
        return env.task.success(data.replace(qvel=data.qvel.at[8].set(speed)), ())

    poses, speeds = (np.float32([case[i] for case in cases.values()]) for i in (1, 2))
    for what, (want, *_), got in zip(cases, cases.values(), jax.jit(jax.vmap(judge))(poses, speeds), strict=True):
        assert bool(got) == want, what
