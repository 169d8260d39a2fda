"""Plays commands from rest and looks at every substep: how deep parts sink into each other."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from expertgen_jax.sim import episode, physics, robots
from expertgen_jax.sim.physics import mjx  # which silences its comment on Warp

BACKENDS = ("native", "mjx")
WORLDS, CONTROL_STEPS = 12, 30  # one shape for every `press`, hence one compilation a back end


class Path(NamedTuple):
    """What `press` saw at every substep, `[worlds, substeps, ...]`; xpos and xmat are the hand's."""

    qpos: np.ndarray
    xpos: np.ndarray
    xmat: np.ndarray


def press_program(env: episode.Env) -> Callable[[np.ndarray, np.ndarray], Path]:
    """`(pose [n, 6], targets [n, 30, 6]) -> Path` for n <= WORLDS: pulls the hand to targets, from where it rests at a
    pose, and looks at each substep."""
    hand, robot = env.model.mj.body("hand").id, robots.of(env.model.mj)

    def play(pose: jax.Array, targets: jax.Array) -> Path:
        qpos, held = robot.start(pose)
        qpos = jnp.append(qpos, jnp.zeros(env.model.mj.nq - robot.joints))  # a plug in its place
        ctrl = jax.vmap(lambda target: robot.start(target)[1])(targets)

        def substep(data: Any, command: jax.Array) -> tuple[Any, Path]:
            data = physics.step(env.model, data, command, 1)
            return data, Path(data.qpos, data.xpos[hand], data.xmat[hand])

        if env.model.backend == "native":
            start = physics.init(env.model, qpos, ctrl=held, mocap_pos=jnp.zeros((1, 3)))
        else:  # what `init` would add, the first step computes anyway; compiling it takes 10 s
            start = mjx.make_data(env.model.device).replace(
                qpos=qpos, mocap_pos=jnp.zeros((1, 3)), mocap_quat=jnp.array([[1.0, 0, 0, 0]])
            )
        return jax.lax.scan(substep, start, jnp.repeat(ctrl, env.nstep, axis=0))[1]

    program = jax.jit(jax.vmap(play), compiler_options=physics.compiler_options(env.model) or None)

    def press(pose: np.ndarray, targets: np.ndarray) -> Path:
        count = len(pose)
        rows = np.arange(WORLDS) % count
        given = (np.asarray(x, np.float32)[rows] for x in (pose, targets))
        return Path(*(np.asarray(x)[:count] for x in program(*given)))

    return press


def deepest(mj: mujoco.MjModel, path: np.ndarray) -> np.ndarray:
    """How deep parts lie in each other (m) in each state of `path [T, nq]`, by the C engine's collision detection."""
    data, depths = mujoco.MjData(mj), []
    for qpos in path:
        data.qpos = qpos
        mujoco.mj_kinematics(mj, data)
        mujoco.mj_collision(mj, data)
        depths.append(-min(data.contact.dist, default=0.0))
    return np.array(depths)
