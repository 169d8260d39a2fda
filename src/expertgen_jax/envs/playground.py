"""Environments of MuJoCo Playground as tasks: what `expertgen steer --task FILE.py` takes.

    env = registry.load("FingerTurnHard", config_overrides={"impl": "jax"})
    task = as_task(env, "finger_turn", horizon=250, observe=env._get_obs, success=..., script=...)

An environment of Playground gives the scene, how an episode starts, the control rate and the actions. What is observed
and what success is are functions of a world's state and its `info` there, without public names: they are given.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from mujoco_playground import MjxEnv

from expertgen_jax.errors import UserError
from expertgen_jax.task import Control, Data, Predicate, Script, Start, Task

_LOOKS = ("cam_", "geom_rgba", "light_", "mat_", "site_rgba", "site_size", "tex_", "skin_", "names", "text_", "paths")
"""What of a model does not change how it moves, by how its fields' names begin."""


def as_task(
    env: MjxEnv,
    name: str,
    *,
    horizon: int,
    observe: Callable[[Data, Mapping[str, Any]], jax.Array],
    success: Predicate,
    script: Script,
    control: Control | None = None,
    scene: Callable[[], mujoco.MjSpec] | None = None,
    **others: Any,
) -> Task:
    """An environment of Playground as a task with a 0/1 reward.

    Args:
      env: loaded with `config_overrides={"impl": "jax"}`, so that its starts are drawn on every device.
      name: of the task.
      horizon: control steps until an episode is cut off.
      observe: `(data, info) -> [n]`, such as `env._get_obs`; reads fields of `Data` alone.
      success: `(data, info) -> bool`.
      script: the imperfect demonstrator, as in `Task`; `info` is its context.
      control: `(data, action) -> ctrl`; by default an action spans each actuator's range.
      scene: of the task, where the environment changes its model after it has loaded its file.
      **others: further fields of `Task`.

    Returns:
      The task; its context is `info`, which stays as it is at the start of an episode.

    Raises:
      UserError: episodes start in motion, the environment's model is not that of its file, or an actuator has no range.
    """
    make = scene or functools.partial(file_scene, env)
    if different := _differences(make().compile(), env.mj_model):
        raise UserError(
            f"{name}: the environment's model is not that of its file ({', '.join(different)}): give `scene`"
        )
    if not env.mj_model.actuator_ctrllimited.all() and control is None:
        raise UserError(f"{name}: an actuator has no range: give `control`")

    @jax.jit  # what else the environment computes at a start is left out
    def begin(key: jax.Array) -> tuple[Start, jax.Array]:
        state = env.reset(key)
        at = state.data
        moving = {"mocap_pos": at.mocap_pos, "mocap_quat": at.mocap_quat} if env.mj_model.nmocap else {}
        return Start(at.qpos, state.info, at.ctrl, **moving), at.qvel

    if jnp.any(jax.vmap(begin)(jax.random.split(jax.random.PRNGKey(0), 4))[1]):
        raise UserError(f"{name}: its episodes start in motion; tasks start at rest")
    low, high = env.mj_model.actuator_ctrlrange.T

    return Task(
        name=name,
        scene=make,
        control_dt=env.dt,
        horizon=horizon,
        action_size=env.action_size,
        observation={"obs": "1"},
        reset=lambda key: begin(jax.random.key_data(key))[0],
        observe=lambda data, info: {"obs": observe(data, info)},
        success=success,
        script=script,
        control=control or (lambda data, action: low + (high - low) * (action + 1) / 2),
        **others,
    )


def file_scene(env: MjxEnv) -> mujoco.MjSpec:
    """The scene of an environment's file, with the environment's options."""
    with open(env.xml_path) as file:
        spec = mujoco.MjSpec.from_string(file.read(), include=env.model_assets, assets=env.model_assets)
    for option in dir(spec.option):
        if not option.startswith("_") and not callable(getattr(spec.option, option)):
            setattr(spec.option, option, getattr(env.mj_model.opt, option))
    return spec


def _differences(mj: mujoco.MjModel, other: mujoco.MjModel) -> list[str]:
    """Names of fields that two models differ in, but for their looks."""
    names = [x for x in dir(mj) if isinstance(getattr(mj, x), np.ndarray) and not x.startswith(_LOOKS)]
    return [x for x in names if not np.array_equal(getattr(mj, x), getattr(other, x))]
