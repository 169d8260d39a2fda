"""What tests share. Compiling an MJX program takes seconds, so programs are built once a session."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mujoco import mjx

from expertgen_jax import physics, rollout
from expertgen_jax.tasks import TASKS

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
