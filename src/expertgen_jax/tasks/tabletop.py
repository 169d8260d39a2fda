"""The table-top family: everyday things, grasped by a gripper on a floating hand.

An action is the step of the hand's target (6 numbers) and the gripper: 1 opens it, -1 closes it.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from expertgen_jax import control, scenes
from expertgen_jax.task import Box, Script, Start, Task, View
from expertgen_jax.tasks.randomization import Name

HAND, FINGERS, OBJECT = slice(0, 6), slice(6, 8), slice(8, 15)
STEP_SIZES = np.array([0.020] * 3 + [0.20] * 3, np.float32)
"""Travel of the hand's target for a full action (m, rad)."""
LEADS = np.array([0.030] * 3 + [0.30] * 3, np.float32)
"""Largest distance of the target from the hand (m, rad): at most 24 N and 3 N m."""
READY = 0.25
"""Height at which the hand starts (m)."""
LIFTED = 0.100
"""Of success (m), above where the thing stood."""

OBSERVATION = {
    "object_position": "m",  # relative to the hand, world axes
    "object_height": "m",
    "object_axes": "1",  # its x and z axes, in the world
    "object_velocity": "m/s",
    "hand_height": "m",
    "hand_rotation": "rad",
    "hand_velocity": "m/s, rad/s",
    "target_lead": "m, rad",
    "closing": "m",  # of each finger
    "grip": "m",  # how far the fingers are from where they were told to go: what they hold
}
PROPRIOCEPTION = {"hand_pose": "m, rad", **{name: OBSERVATION[name] for name in ("hand_velocity", "target_lead")}}
PROPRIOCEPTION |= {name: OBSERVATION[name] for name in ("closing", "grip")}


class Thing(NamedTuple):
    """What is lifted.

    Attributes:
      add: `(spec, name)`, adds it to a scene.
      height: of its body's origin when it rests (m).
      grasp: height of the hand's origin for grasping (m).
      misjudged: standard deviation of where the demonstrator believes it to be (m).
      round: any yaw will do.
    """

    add: Callable[[mujoco.MjSpec, str], mujoco.MjsBody]
    height: float
    grasp: float
    misjudged: float
    round: bool = False


THINGS = {
    "lift_banana": Thing(scenes.add_banana, scenes.BANANA_RADIUS, 0.022, misjudged=0.035),
    "lift_brick": Thing(scenes.add_brick, scenes.BRICK[2], 0.070, misjudged=0.020),
    "lift_peach": Thing(scenes.add_peach, scenes.PEACH_RADIUS, 0.032, misjudged=0.020, round=True),
}


class Context(NamedTuple):
    """Constants of an episode: the height at which the thing stood (m)."""

    height: jax.Array


def lift(name: str, randomization: Name = "off") -> Task:
    """One of `THINGS`: lifted by 100 mm and held."""
    thing = THINGS[name]
    scene = functools.partial(_scene, thing)
    mj = scene().compile()
    body = mj.body("object").id

    def reset(key: jax.Array, reach: float = 0.15) -> Start:
        place_key, hand_key, yaw_key = jax.random.split(key, 3)
        place = jax.random.uniform(place_key, (2,), minval=-reach, maxval=reach)
        beside = jax.random.uniform(hand_key, (3,), minval=-0.02, maxval=0.02)
        half = jax.random.uniform(yaw_key, (), maxval=2 * jnp.pi) / 2
        hand = jnp.concatenate([beside + jnp.array([0.0, 0.0, READY]), jnp.zeros(3)])
        pose = jnp.concatenate([place, jnp.stack([thing.height, jnp.cos(half), 0.0, 0.0, jnp.sin(half)])])
        ctrl = jnp.concatenate([hand, jnp.zeros(2)])
        return Start(jnp.concatenate([ctrl, pose]), Context(jnp.float32(thing.height)), ctrl)

    def feel(data: Any) -> dict[str, jax.Array]:
        return {
            "hand_pose": data.qpos[HAND],
            "hand_velocity": data.qvel[HAND],
            "target_lead": data.ctrl[HAND] - data.qpos[HAND],
            "closing": data.qpos[FINGERS].mean(keepdims=True),
            "grip": (data.ctrl[FINGERS] - data.qpos[FINGERS]).mean(keepdims=True),
        }

    def observe(data: Any, context: Context) -> dict[str, jax.Array]:
        felt = feel(data)
        return {
            "object_position": data.xpos[body] - data.qpos[:3],
            "object_height": data.xpos[body][2:] - context.height,
            "object_axes": data.xmat[body][:, jnp.array([0, 2])].T.ravel(),
            "object_velocity": data.qvel[8:11],
            "hand_height": data.qpos[2:3],
            "hand_rotation": data.qpos[3:6],
            **{name: felt[name] for name in felt if name != "hand_pose"},
        }

    def act(data: Any, action: jax.Array) -> jax.Array:
        closing = (1 - jnp.clip(action[6], -1.0, 1.0)) / 2 * scenes.OPENING / 2
        return control.move_target(data, action[:6], STEP_SIZES, LEADS, HAND).at[FINGERS].set(closing)

    def success(data: Any, context: Context) -> jax.Array:
        """Lifted, and held between the pads: not thrown, and not carried on the fingers' backs."""
        way = data.xmat[mj.body("hand").id].T @ (data.xpos[body] - data.qpos[:3])
        held = (jnp.abs(way) < jnp.array([0.03, 0.06, 0.06])).all()
        return (data.xpos[body][2] - context.height > LIFTED) & held

    def final_pose(data: Any, context: Context) -> dict[str, jax.Array]:
        return {
            "lifted_by": data.xpos[body][2] - context.height,
            "beside_the_hand": jnp.linalg.norm(data.xpos[body][:2] - data.qpos[:2]),
            "speed": jnp.linalg.norm(data.qvel[8:11]),
        }

    return Task(
        name=name,
        scene=scene,
        control_dt=0.05,
        horizon=100,
        action_size=7,
        observation=OBSERVATION,
        reset=reset,
        observe=observe,
        control=act,
        success=success,
        script=pick_up(thing, body),
        nominal_reset=functools.partial(reset, reach=0.0),
        proprioception=PROPRIOCEPTION,
        feel=feel,
        cameras={
            "front": View(eye=(0.0, -0.45, 0.35), target=(0.0, 0.0, 0.05), fovy=0.8),
            "side": View(eye=(0.45, 0.0, 0.35), target=(0.0, 0.0, 0.05), fovy=0.8),
            "wrist": View(eye=(0.0, -0.09, 0.06), target=(0.0, 0.0, -0.04), fovy=0.9, body="hand"),
        },
        workspace=Box(low=(-0.3, -0.3, 0.002), high=(0.3, 0.3, 0.3)),
        final_pose=final_pose,
        camera=((0.0, 0.0, 0.08), 0.75, 120.0, -30.0),
    )


def _scene(thing: Thing) -> mujoco.MjSpec:
    spec = scenes.empty_scene(max_contact_points=16)
    # Pads must turn with what they hold, and nothing may creep out of them: a brick does at 0.2 mm/s, and at an
    # impedance of 0.93 at 1.4 mm/s. At 0.99 from 6 um on, in MJX it jumped at 0.2 m/s now and then.
    for geom in (spec.default.geom, *spec.geoms):
        geom.solimp = [0.5, 0.99, 2e-5, 0.5, 2.0]
        geom.friction = [1.0, 0.005, 0.0001]
        geom.condim = 4
    scenes.add_gripper(spec, scenes.add_hand(spec, fingers=False))
    thing.add(spec, "object")
    return spec


class _Memory(NamedTuple):
    believed: jax.Array  # [4], where the thing is thought to be, and its yaw: seen once, at the start
    bias: jax.Array  # [4], beside where it is
    step: jax.Array


ABOVE, DOWN, CLOSED = 25, 45, 58
"""Control steps at which the demonstrator is above the thing, down at it, and has closed the gripper."""


def pick_up(thing: Thing, body: int, turned: float = 0.4, noise: float = 0.1) -> Script:
    """Goes above, descends, closes, lifts: by the clock, without looking again.

    Args:
      thing: what is lifted.
      body: its number.
      turned: standard deviation of the yaw that it believes the thing to have (rad).
      noise: of the noise on its actions.
    """

    def init(key: jax.Array) -> _Memory:
        spread = jnp.array([thing.misjudged, thing.misjudged, 0.005, turned])
        return _Memory(jnp.zeros(4), spread * jax.random.normal(key, (4,)), jnp.int32(0))

    def act(memory: _Memory, data: Any, context: Context, key: jax.Array) -> tuple[_Memory, jax.Array]:
        along = jnp.arctan2(data.xmat[body][1, 0], data.xmat[body][0, 0])  # pads close across it
        yaw = jnp.float32(0.0) if thing.round else along % jnp.pi - jnp.pi / 2
        seen = jnp.append(data.xpos[body].at[2].set(thing.grasp), yaw) + memory.bias
        believed = jnp.where(memory.step == 0, seen, memory.believed)
        step = memory.step
        height = jnp.where(step < ABOVE, believed[2] + 0.12, believed[2])
        height = jnp.where(step >= CLOSED, believed[2] + 0.16, height)
        height = jnp.maximum(height, 0.015)  # the pads would meet the table
        goal = jnp.concatenate([believed[:2], jnp.stack([height, believed[3], 0.0, 0.0])])
        move = control.action_towards(data, goal, STEP_SIZES, HAND)
        move = jnp.where(step >= ABOVE, jnp.clip(move, -0.5, 0.5), move)
        move += noise * jax.random.normal(key, (6,))
        grip = jnp.where(step < DOWN, 1.0, -1.0)
        return _Memory(believed, memory.bias, step + 1), jnp.clip(jnp.append(move, grip), -1.0, 1.0)

    return Script(init, act)
