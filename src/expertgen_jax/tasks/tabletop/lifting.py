"""Lifting: a banana, a brick, a peach."""

import functools

import jax
import jax.numpy as jnp

from expertgen_jax import scenes
from expertgen_jax.sim.robots import RobotName
from expertgen_jax.task import Data, Level, Start, Task
from expertgen_jax.tasks.tabletop import family, gripping
from expertgen_jax.tasks.tabletop.family import Handled, Thing

LIFTED = 0.100
"""Of success, above where the thing stood (m)."""
SLOW = 0.050, 0.5
"""Speeds below which a lifted thing is held and not on its way (m/s, rad/s)."""
THINGS = {
    "lift_banana": Thing(scenes.add_banana, scenes.BANANA_RADIUS, 0.022, misjudged=0.035),
    "lift_brick": Thing(scenes.add_brick, scenes.BRICK[2], 0.070, misjudged=0.020),
    "lift_peach": Thing(scenes.add_peach, scenes.PEACH_RADIUS, 0.032, misjudged=0.020, symmetry=0.0),
}
SUMMARIES = {name: f"Lift a {name.removeprefix('lift_')} by 100 mm and hold it." for name in THINGS}


def lift(name: str, randomization: Level = "off", robot: RobotName = "hand") -> Task:
    """A thing is lifted off the table and held. One of `THINGS`.

    Task:
        A floating hand with a parallel-jaw gripper, force-limited, so that it holds, slips and drops, picks the thing
        up.
    Randomisation:
        Every episode draws the thing's place (within 150 mm of the middle), its yaw (any) and the hand's start. With
        `--randomization` also friction, masses, the hand's stiffness and the gripper's force, delays of actions by up
        to 1 or 2 control steps, and how things are seen: 4 or 8 mm and 3 or 6 degrees off, jittering, late, now and
        then not.
    Success:
        The thing is more than 100 mm above where it lay, squeezed between the pads, slower than 50 mm/s and 0.5 rad/s,
        for 5 control steps in a row (0.25 s).
    """
    thing = THINGS[name]
    scene = functools.partial(family.scene, robot, thing)
    handled = Handled(scene().compile(), thing)
    gripper = handled.gripper

    def reset(key: jax.Array, reach: float = 0.15) -> Start:
        place_key, hand_key, yaw_key = jax.random.split(key, 3)
        qpos, ctrl = gripper.ready(hand_key)
        lying = family.lying(thing, family.somewhere(place_key, reach), yaw_key)
        return Start(jnp.concatenate([qpos, lying]), (), ctrl)

    def lifted(data: Data) -> jax.Array:
        return handled.place(data)[2] - thing.height

    def success(data: Data) -> jax.Array:
        """Lifted, held between the pads, and slow: not thrown, and not carried on the fingers' backs."""
        way = gripper.seen(data, handled.place(data))
        held = (jnp.abs(way) < jnp.array([0.03, 0.06, 0.06])).all() & gripper.squeezes(data)
        return (lifted(data) > LIFTED) & held & handled.still(data, *SLOW)

    def final_pose(data: Data) -> dict[str, jax.Array]:
        return {
            "lifted_by": lifted(data),
            "beside_the_hand": jnp.linalg.norm((handled.place(data) - gripper.place(data))[:2]),
            "speed": jnp.linalg.norm(handled.velocity(data)),
        }

    return family.task(
        name,
        scene=scene,
        horizon=100,
        observation=family.OBJECT_OBSERVATION,
        reset=reset,
        observe=handled.observe,
        success=success,
        script=gripping.phase_by_phase(gripper, *handled.judge(), family.picking(up=0.16)),
        final_pose=final_pose,
        bodies=("object",),
        randomization=randomization,
    )
