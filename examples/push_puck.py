"""A custom task: a fingertip pushes a puck over a table to a goal.

    expertgen steer --task examples/push_puck.py

A task file defines what `expertgen_jax.task.Task` lists, as plain functions of one world. They must be pure, because
they run under `jit` and `vmap`; `data` has the fields of `mjx.Data`.
"""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from expertgen_jax import scenes
from expertgen_jax.sim.control import action_towards, move_target
from expertgen_jax.task import Script, Spectator, Start

control_dt = 0.05  # s between two actions
horizon = 100  # actions in an episode
action_size = 2  # target velocity of the fingertip along x and y
observation = {"finger": "m", "goal": "m", "finger_velocity": "m/s", "puck_velocity": "m/s", "target_lead": "m"}
spectator = Spectator((0.0, 0.0, 0.0), 0.5, 90.0, -50.0)

FINGER, PUCK = slice(0, 2), slice(2, 4)  # in qpos and qvel
FINGER_RADIUS, PUCK_RADIUS = 0.008, 0.025
STEP_SIZES, LEADS = np.full(2, 0.01, np.float32), np.full(2, 0.02, np.float32)


def scene() -> mujoco.MjSpec:
    """Two upright capsules that slide in the plane: the finger by its actuators, the puck by being pushed."""
    spec = scenes.empty_scene()
    for name, radius, mass, material, group in (
        ("finger", FINGER_RADIUS, 0.5, "hand", 2),
        ("puck", PUCK_RADIUS, 0.2, "plug", 4),
    ):
        body = spec.worldbody.add_body(name=name, pos=[0, 0, 0.03], gravcomp=1)
        shape = dict(type=mujoco.mjtGeom.mjGEOM_CAPSULE, size=[radius, 0.02, 0], mass=mass, material=material)
        body.add_geom(name=name, contype=group, conaffinity=6 - group, **shape)
        for axis in ([1, 0, 0], [0, 1, 0]):
            joint = body.add_joint(name=f"{name}_{axis}", type=mujoco.mjtJoint.mjJNT_SLIDE, axis=axis)
            if name == "puck":
                joint.damping, joint.frictionloss = [2.0, 0, 0], 0.3  # the table's dry friction
            else:
                actuator = spec.add_actuator(name=joint.name, target=joint.name, trntype=mujoco.mjtTrn.mjTRN_JOINT)
                actuator.set_to_position(kp=400, kv=30)
    return spec


def reset(key: jax.Array) -> Start:
    """The puck near the centre, the finger to its left, the goal to its right."""
    puck_key, finger_key, goal_key = jax.random.split(key, 3)
    puck = jax.random.uniform(puck_key, (2,), minval=-0.03, maxval=0.03)
    finger = puck + jnp.array([-0.08, 0.0]) + jax.random.uniform(finger_key, (2,), minval=-0.03, maxval=0.03)
    goal = puck + jnp.array([0.11, 0.0]) + jax.random.uniform(goal_key, (2,), minval=-0.06, maxval=0.06)
    return Start(qpos=jnp.concatenate([finger, puck]), ctrl=finger, context={"goal": goal})


def observe(data, context):
    """Positions relative to the puck, velocities, and how far the finger is pushed off its target."""
    puck = data.qpos[PUCK]
    return {
        "finger": data.qpos[FINGER] - puck,
        "goal": context["goal"] - puck,
        "finger_velocity": data.qvel[FINGER],
        "puck_velocity": data.qvel[PUCK],
        "target_lead": data.ctrl - data.qpos[FINGER],
    }


def control(data, action):
    """The action moves the impedance target of the finger."""
    return move_target(data, action, STEP_SIZES, LEADS, FINGER)


def success(data, context):
    """The puck rests within 8 mm of the goal."""
    return (jnp.linalg.norm(context["goal"] - data.qpos[PUCK]) < 0.008) & (jnp.linalg.norm(data.qvel[PUCK]) < 0.02)


def final_pose(data, context):
    """What is reported of final states."""
    return {"distance": jnp.linalg.norm(context["goal"] - data.qpos[PUCK])}


def script_init(key):
    """The demonstrator is wrong about the goal's direction: one angle an episode (rad)."""
    return 0.12 * jax.random.normal(key)


def script_act(angle, data, context, key):
    """Goes behind the puck, then pushes straight on and never corrects; it stops beside the goal at the latest."""
    seen = observe(data, context)
    turn = jnp.array([[jnp.cos(angle), -jnp.sin(angle)], [jnp.sin(angle), jnp.cos(angle)]])
    ahead = turn @ seen["goal"] / (jnp.linalg.norm(seen["goal"]) + 1e-6)
    reach = jnp.linalg.norm(seen["finger"])
    behind = -(FINGER_RADIUS + PUCK_RADIUS + 0.005) * ahead
    lined_up = (jnp.linalg.norm(seen["finger"] - behind) < 0.004) | (reach < FINGER_RADIUS + PUCK_RADIUS + 0.003)
    push = jnp.where(jnp.dot(seen["goal"], -seen["finger"]) > 0, -0.4 * seen["finger"] / reach, 0.0) * 0.02
    goal = jnp.where(lined_up, data.qpos[FINGER] + push, data.qpos[PUCK] + behind)
    action = action_towards(data, goal, STEP_SIZES, FINGER)
    return angle, jnp.clip(action + 0.1 * jax.random.normal(key, (2,)), -1.0, 1.0)


script = Script(script_init, script_act)
