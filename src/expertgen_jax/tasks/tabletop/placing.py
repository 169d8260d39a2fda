"""Placing: a strawberry into a bowl, a banana on a can."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from expertgen_jax import scenes
from expertgen_jax.sim.robots import RobotName
from expertgen_jax.task import Data, Level, Start, Task
from expertgen_jax.tasks.tabletop import family, gripping
from expertgen_jax.tasks.tabletop.family import OBJECT_OBSERVATION, Handled, Thing
from expertgen_jax.tasks.tabletop.gripping import Phase

STRAWBERRY = Thing(scenes.add_strawberry, scenes.STRAWBERRY_RADIUS, 0.020, misjudged=0.012)
BANANA = Thing(scenes.add_banana, scenes.BANANA_RADIUS, 0.022, misjudged=0.015, turned=0.2)
LET_GO = 0.067
"""Distance of the hand's origin from the middle line of a banana (m) at which its pads are 30 mm away."""
PRESET = {"prior": {"chunk": 8}}


class Places(NamedTuple):
    """Where a demonstrator believes things to be: a thing (x, y, z, yaw), and where it goes (x, y)."""

    thing: jax.Array
    goal: jax.Array


def placing(over: float, low: float, away: float) -> list[Phase]:
    """Picks a thing up, carries it to the goal, lowers it, lets go, and moves away: heights of the hand (m)."""

    def at_goal(height: float) -> Callable[[Places], jax.Array]:
        return lambda at: jnp.concatenate([at.goal, jnp.stack([jnp.float32(height), at.thing[3]])])

    return [
        *family.picking(up=over, where=lambda at: at.thing),
        Phase(at_goal(over), -1.0),
        Phase(at_goal(low), -1.0, speed=0.3),
        Phase(at_goal(low), 1.0),
        Phase(at_goal(away), 1.0),
    ]


def strawberry_in_bowl(randomization: Level = "off", robot: RobotName = "hand") -> Task:
    """Put a strawberry into a bowl.

    Task:
        A floating hand with a parallel-jaw gripper picks a strawberry off the table, carries it over a bowl and lets
        go.
    Randomisation:
        Every episode draws the places of strawberry and bowl (within 120 mm of the middle, clear of each other), the
        strawberry's yaw and the hand's start. With
        `--randomization` also friction, masses, the hand's stiffness and the gripper's force, delays of actions by up
        to 1 or 2 control steps, and how things are seen: 4 or 8 mm and 3 or 6 degrees off, jittering, late, now and
        then not.
    Success:
        The strawberry is inside the bowl, below its rim, at rest, and the gripper is open, for 5 control steps in a row
        (0.25 s).
    """
    thing = STRAWBERRY
    scene = functools.partial(family.scene, robot, thing, scenes.add_bowl)
    mj = scene().compile()
    handled, bowl = Handled(mj, thing), mj.body("bowl").id
    gripper = handled.gripper

    def reset(key: jax.Array, reach: float = 0.12) -> Start:
        place_key, hand_key, yaw_key, bowl_key = jax.random.split(key, 4)
        there = family.somewhere(bowl_key, reach)
        place = family.clear_of(place_key, 0.12, there, scenes.BOWL_RADIUS + 0.06)
        qpos, ctrl = gripper.ready(hand_key)
        lying = family.lying(thing, place, yaw_key)
        return Start(jnp.concatenate([qpos, lying]), (), ctrl, mocap_pos=jnp.append(there, 0.0)[None])

    def beside_bowl(data: Data) -> jax.Array:
        return handled.place(data) - data.xpos[bowl]

    def observe(data: Data) -> dict[str, jax.Array]:
        return handled.observe(data) | {
            "bowl_position": (data.xpos[bowl] - gripper.place(data))[:2],
            "beside_bowl": beside_bowl(data),
        }

    def success(data: Data) -> jax.Array:
        """Inside, below the rim, at rest, and let go."""
        way = beside_bowl(data)
        inside = (jnp.linalg.norm(way[:2]) < scenes.BOWL_RADIUS * 2 / 3) & (way[2] > 0) & (way[2] < scenes.BOWL_RIM)
        return inside & handled.still(data) & gripper.is_open(data)

    def final_pose(data: Data) -> dict[str, jax.Array]:
        way = beside_bowl(data)
        return {"beside_the_middle": jnp.linalg.norm(way[:2]), "height_in_bowl": way[2]}

    look, spread = handled.judge()
    return family.task(
        "strawberry_in_bowl",
        scene=scene,
        horizon=150,
        observation=OBJECT_OBSERVATION | {"bowl_position": "m", "beside_bowl": "m"},
        reset=reset,
        observe=observe,
        success=success,
        script=gripping.phase_by_phase(
            gripper,
            lambda data: Places(look(data), data.xpos[bowl][:2]),
            Places(spread, jnp.full(2, thing.misjudged)),
            placing(over=0.13, low=0.075, away=0.13),
        ),
        final_pose=final_pose,
        bodies=("object", "bowl"),
        randomization=randomization,
        preset=PRESET,
    )


def stack_banana(randomization: Level = "off", robot: RobotName = "hand") -> Task:
    """Lay a banana on top of a can.

    Task:
        A floating hand with a parallel-jaw gripper picks a banana off the table, lays it across a can that can topple,
        and moves away.
    Randomisation:
        Every episode draws the places of banana and can (within 120 mm of the middle, clear of each other), the
        banana's yaw and the hand's start. With
        `--randomization` also friction, masses, the hand's stiffness and the gripper's force, delays of actions by up
        to 1 or 2 control steps, and how things are seen: 4 or 8 mm and 3 or 6 degrees off, jittering, late, now and
        then not.
    Success:
        The banana's middle is above the can's top, within its radius, at the height at which it rests there, within 10
        mm; it is at rest, the can stands, and the gripper is open and 30 mm away from any part of the banana, for 5
        control steps in a row (0.25 s).
    """
    thing = BANANA
    # Upright on four contacts, a banana on up to eight, and the pads.
    add_can = functools.partial(scenes.add_can, name="can")
    scene = functools.partial(family.scene, robot, thing, add_can, max_contact_points=20)
    mj = scene().compile()
    handled, can = Handled(mj, thing), mj.body("can").id
    gripper, body = handled.gripper, handled.body
    middle = np.asarray(mj.body("object").ipos, np.float32)
    along = np.asarray(scenes.BANANA_LINE, np.float32)
    on_top = scenes.CAN_HEIGHT / 2 + scenes.BANANA_RADIUS

    def reset(key: jax.Array, reach: float = 0.12) -> Start:
        place_key, hand_key, yaw_key, can_key = jax.random.split(key, 4)
        there = family.somewhere(can_key, reach)
        place = family.clear_of(place_key, 0.12, there, 0.16)
        qpos, ctrl = gripper.ready(hand_key)
        upright = jnp.concatenate([there, jnp.array([scenes.CAN_HEIGHT / 2, 1.0, 0.0, 0.0, 0.0])])
        return Start(jnp.concatenate([qpos, family.lying(thing, place, yaw_key), upright]), (), ctrl)

    def centre(data: Data) -> jax.Array:
        return data.xpos[body] + data.xmat[body] @ middle

    def beside_can(data: Data) -> jax.Array:
        """From the can's middle to the banana's."""
        return centre(data) - data.xpos[can]

    def observe(data: Data) -> dict[str, jax.Array]:
        return handled.observe(data) | {
            "can_position": data.xpos[can] - gripper.place(data),
            "can_axis": data.xmat[can][:2, 2],
            "beside_can": beside_can(data),
        }

    def success(data: Data) -> jax.Array:
        """On top of a standing can, at rest, and the gripper open and 30 mm away."""
        way = beside_can(data)
        on_can = (jnp.linalg.norm(way[:2]) < scenes.CAN_RADIUS) & (jnp.abs(way[2] - on_top) < 0.010)
        standing = (data.xmat[can][2, 2] > np.cos(0.1)) & (jnp.abs(data.xpos[can][2] - scenes.CAN_HEIGHT / 2) < 0.005)
        away = (
            jnp.linalg.norm(data.xpos[body] + along @ data.xmat[body].T - gripper.place(data), axis=1) > LET_GO
        ).all()
        return on_can & standing & handled.still(data) & away & gripper.is_open(data)

    def final_pose(data: Data) -> dict[str, jax.Array]:
        way = beside_can(data)
        return {
            "beside_the_axis": jnp.linalg.norm(way[:2]),
            "above_the_top": way[2] - scenes.CAN_HEIGHT / 2,
            "from_the_hand": jnp.linalg.norm(centre(data) - gripper.place(data)),
        }

    look, spread = handled.judge()
    height = scenes.CAN_HEIGHT + thing.grasp
    return family.task(
        "stack_banana",
        scene=scene,
        horizon=200,
        observation=OBJECT_OBSERVATION | {"can_position": "m", "can_axis": "1", "beside_can": "m"},
        reset=reset,
        observe=observe,
        success=success,
        script=gripping.phase_by_phase(
            gripper,
            lambda data: Places(look(data), data.xpos[can][:2]),
            Places(spread, jnp.full(2, thing.misjudged)),
            placing(over=height + 0.06, low=height + 0.004, away=height + 0.09),
        ),
        final_pose=final_pose,
        bodies=("object", "can"),
        randomization=randomization,
        preset={"prior": {**PRESET["prior"], "epochs": 70}},  # with 24 its prior succeeds in 29 %, with 71 in 56
    )
