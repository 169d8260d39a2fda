"""Playground's FingerTurnHard: a finger of two joints turns a spinner until its tip is in a target.

expertgen steer --task examples/finger_turn.py
"""

import jax
import jax.numpy as jnp
from mujoco_playground import registry

from expertgen_jax.envs import playground
from expertgen_jax.task import Context, Data, Script, Spectator

# What it observes and rewards has no names but these, with an underscore, in Playground.
env = registry.load("FingerTurnHard", config_overrides={"impl": "jax"})


def success(data: Data, info: Context) -> jax.Array:
    return env._get_reward(data, None, info, None) > 0


def begin(key: jax.Array) -> dict[str, jax.Array]:
    return {"joints": jnp.zeros(2), "left": jnp.zeros((), jnp.int32)}


def swipe(
    memory: dict[str, jax.Array], data: Data, info: Context, key: jax.Array
) -> tuple[dict[str, jax.Array], jax.Array]:
    """Swipes at the spinner anyhow, and stops where its tip has come into the target."""
    draw, wait = jax.random.split(key)
    new = memory["left"] == 0
    low, high = env.mj_model.jnt_range[:2].T
    joints = jnp.where(new, jax.random.uniform(draw, (2,), minval=low, maxval=high), memory["joints"])
    joints = jnp.where(success(data, info), data.qpos[:2], joints)
    left = jnp.where(new, jax.random.randint(wait, (), 10, 30), memory["left"] - 1)
    action = jnp.clip(0.8 * (joints - data.qpos[:2]) - 0.15 * data.qvel[:2], -1.0, 1.0)
    return {"joints": joints, "left": left}, action


task = playground.as_task(
    env,
    "finger_turn",
    horizon=250,
    observe=env._get_obs,
    success=success,
    script=Script(begin, swipe),
    spectator=Spectator((0.0, 0.0, 0.4), 1.2, 90.0, -10.0),
)
