"""Success in poses made by hand."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from expertgen_jax.scenes import OPENING
from expertgen_jax.sim import episode, physics
from expertgen_jax.tasks.assembly.fit import Context


def assert_judged(env: episode.Env, cases: dict[str, tuple[bool, bool | None, np.ndarray]]) -> None:
    """Strict and lenient success in poses `{description: (strict, lenient or None where either will do, qpos)}`.

    The socket stands at the origin, and is seen where it is not.
    """

    def judge(qpos: jax.Array) -> tuple[jax.Array, jax.Array]:
        data = physics.init(env.model, qpos, ctrl=qpos, mocap_pos=jnp.zeros((1, 3)))
        fit = jax.tree.map(lambda x: x[0], env.parameters["fit"])
        context = Context(fit, jnp.array([0.002, -0.002, 0.0]), jnp.float32(0.05), jnp.zeros(0))
        assert env.task.lenient is not None
        return env.task.success(data, context), env.task.lenient(data, context)

    got = jax.jit(jax.vmap(judge))(np.array([qpos for *_, qpos in cases.values()], np.float32))
    for what, (strict, lenient, _), strict_got, lenient_got in zip(cases, cases.values(), *got, strict=True):
        assert bool(strict_got) == strict, f"{what}: strict"
        assert lenient is None or bool(lenient_got) == lenient, f"{what}: lenient"


CLOSED, OPEN = np.full(2, OPENING / 2), np.zeros(2)


def hand_at(place: ArrayLike, fingers: ArrayLike, yaw: float = 0.0) -> np.ndarray:
    """The hand's part of `qpos`, and `ctrl`, of tasks with a gripper: `[8]`."""
    return np.concatenate([place, [yaw, 0, 0], fingers])


def assert_judged_on_table(
    env: episode.Env,
    cases: Mapping[str, tuple[bool, np.ndarray, float]],
    commands: Mapping[str, ArrayLike] = {},
    mocap_pos: ArrayLike = (),
    mocap_quat: ArrayLike = (),
) -> None:
    """Success of `{description: (success, qpos, speed of what is handled)}`; the fingers are told to be where they are,
    but for `commands`."""
    given = {"mocap_pos": mocap_pos, "mocap_quat": mocap_quat}
    mocap = {name: jnp.asarray([x], jnp.float32) for name, x in given.items() if len(np.asarray(x))}

    def judge(qpos: jax.Array, speed: jax.Array, fingers: jax.Array) -> jax.Array:
        data = physics.init(env.model, qpos, ctrl=jnp.concatenate([qpos[:6], fingers]), **mocap)
        return env.task.success(data.replace(qvel=data.qvel.at[8].set(speed)), ())

    poses, speeds = (np.array([case[i] for case in cases.values()], np.float32) for i in (1, 2))
    fingers = np.array([commands.get(what, qpos[6:8]) for what, (_, qpos, _) in cases.items()], np.float32)
    judged = jax.jit(jax.vmap(judge))(poses, speeds, fingers)
    for what, (want, *_), got in zip(cases, cases.values(), judged, strict=True):
        assert bool(got) == want, what
