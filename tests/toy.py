"""A toy task: a bead on a rail that must reach a goal."""

from typing import Any

import jax
import jax.numpy as jnp
import mujoco

from expertgen_jax import scenes
from expertgen_jax.task import Data, Script, Start, Task

HORIZON, HOLD, EPS = 10, 2, 0.02
BLOW_UP = 1.0  # an action of exactly this makes the toy's controller command nonsense


def toy_scene() -> mujoco.MjSpec:
    spec = scenes.empty_scene()
    body = spec.worldbody.add_body(name="bead", pos=[0, 0, 0.5], gravcomp=1)
    body.add_joint(name="x", type=mujoco.mjtJoint.mjJNT_SLIDE, axis=[1, 0, 0], armature=1.0)
    body.add_geom(type=mujoco.mjtGeom.mjGEOM_SPHERE, size=[0.01, 0, 0], mass=0.1, contype=0, conaffinity=0)
    spec.add_actuator(name="x", target="x", trntype=mujoco.mjtTrn.mjTRN_JOINT).set_to_position(kp=2000.0, kv=90.0)
    return spec


def toy_script() -> Script:
    def act(memory: jax.Array, data: Data, context: Any, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        return memory + 1, jnp.clip((context["goal"] - data.ctrl) / 0.1, -0.5, 0.5)

    return Script(lambda key: jnp.float32(0.0), act)


TOY = Task(
    name="toy",
    scene=toy_scene,
    control_dt=0.05,
    horizon=HORIZON,
    action_size=1,
    observation={"x": "m", "goal": "m"},
    reset=lambda key: Start(
        qpos=(x := jax.random.uniform(key, (1,), minval=-0.1, maxval=0.1)), ctrl=x, context={"goal": jnp.array([0.2])}
    ),
    observe=lambda data, context: {"goal": context["goal"], "x": data.qpos},
    control=lambda data, action: jnp.where(action == BLOW_UP, 1e6, data.ctrl + 0.1 * action),
    success=lambda data, context: jnp.abs(data.qpos[0] - context["goal"][0]) < EPS,
    lenient=lambda data, context: data.qpos[0] > 0.15,
    script=toy_script(),
    privileged=lambda data, context: data.qvel,
    hold=HOLD,
)
