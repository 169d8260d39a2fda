"""A cabinet's drawer: opened by its handle; opened, filled and shut."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from expertgen_jax import scenes
from expertgen_jax.sim.robots import RobotName
from expertgen_jax.task import Data, Level, Start, Task
from expertgen_jax.tasks.tabletop import family, gripping
from expertgen_jax.tasks.tabletop.family import OBJECT_OBSERVATION, Handled, Thing
from expertgen_jax.tasks.tabletop.gripping import Gripper, Phase

PULLED = 0.150
"""How far open a drawer must be to count as opened (m)."""
STOPPED = 0.050
"""Speed of a drawer below which it is no longer on its way (m/s)."""
BY_HANDLE, CLEAR = 0.050, 0.050
"""The hand is at the handle where it is nearer than this, and clear of a thing where it is farther (m)."""
SHUT = 0.010
"""How far open it may be to count as shut (m)."""
CABINET = (0.0, 0.14)
"""Where the cabinet stands, give or take (m)."""
BLOCK = Thing(scenes.add_block, scenes.BLOCK, 0.020, misjudged=0.018, turned=0.3, symmetry=np.pi / 2)
CABINET_OBSERVATION = {
    "handle_position": "m",  # relative to the hand, world axes
    "cabinet_axis": "1",  # its x axis, in the world
    "opening": "m",
    "opening_speed": "m/s",
}


class Cabinet:
    """A scene's cabinet: its numbers in the model, what is seen of it, and by whom."""

    def __init__(self, mj: mujoco.MjModel):
        self.gripper = Gripper(mj)
        self.body, self.drawer = mj.body("cabinet").id, mj.body("drawer").id
        self.qpos, self.dof = int(mj.joint("drawer").qposadr[0]), int(mj.joint("drawer").dofadr[0])

    def place(self, key: jax.Array, reach: float) -> tuple[jax.Array, jax.Array]:
        """`mocap_pos` and `mocap_quat` of a random start, within `reach` of its place (m) and 15 degrees."""
        x, y, turn = jax.random.uniform(key, (3,), minval=-1.0, maxval=1.0)
        half = np.deg2rad(15.0) * turn / 2
        pos = jnp.array([*CABINET, 0.0]) + reach * jnp.stack([x, y, 0.0 * x])
        return pos[None], jnp.stack([jnp.cos(half), 0.0, 0.0, jnp.sin(half)])[None]

    def opening(self, data: Data) -> jax.Array:
        """How far open the drawer is (m)."""
        return data.qpos[self.qpos]

    def speed(self, data: Data) -> jax.Array:
        """How fast it opens (m/s)."""
        return data.qvel[self.dof]

    def outwards(self, data: Data) -> jax.Array:
        """The direction `[3]` in which it opens."""
        return -data.xmat[self.body][:, 1]

    def handle(self, data: Data) -> jax.Array:
        """The handle's middle `[3]`."""
        return data.xpos[self.drawer] + data.xmat[self.drawer] @ jnp.array(scenes.HANDLE)

    def inside(self, data: Data, point: jax.Array) -> jax.Array:
        """A point of the world `[3]` in the drawer's frame."""
        return data.xmat[self.drawer].T @ (point - data.xpos[self.drawer])

    def observe(self, data: Data) -> dict[str, jax.Array]:
        """The entries of `CABINET_OBSERVATION`."""
        return {
            "handle_position": self.handle(data) - self.gripper.place(data),
            "cabinet_axis": data.xmat[self.body][:2, 0],
            "opening": data.qpos[self.qpos, None],
            "opening_speed": self.speed(data)[None],
        }


class Seen(NamedTuple):
    """What a demonstrator believes: where the handle of the shut drawer is (x, y, z, yaw), which way it opens (rad),
    and where the thing lies, if there is one (x, y, z, yaw)."""

    handle: jax.Array
    way: jax.Array
    thing: jax.Array


def look_at(cabinet: Cabinet, look_at_thing: Callable[[Any], jax.Array]) -> Callable[[Any], Seen]:
    """How a demonstrator sees the scene."""

    def look(data: Data) -> Seen:
        way = cabinet.outwards(data)
        angle = jnp.arctan2(way[1], way[0])
        shut = cabinet.handle(data) - cabinet.opening(data) * way
        return Seen(jnp.append(shut, angle + jnp.pi / 2), angle, look_at_thing(data))

    return look


def before(out: float, up: float = 0.0) -> Callable[[Seen], jax.Array]:
    """Where the hand goes: `out` along the drawer's way from the handle of the shut drawer, and `up` (m)."""

    def goal(seen: Seen) -> jax.Array:
        return seen.handle + jnp.stack([out * jnp.cos(seen.way), out * jnp.sin(seen.way), up, 0.0])

    return goal


def pulling(out: float) -> list[Phase]:
    """Over the handle, down, close, and `out` (m)."""
    return [
        Phase(before(0.0, 0.10), 1.0, speed=1.0),
        Phase(before(0.0), 1.0),
        Phase(before(0.0), -1.0),
        Phase(before(out), -1.0),
    ]


MISJUDGED = 0.016
"""Standard deviation of where a demonstrator believes a handle to be (m)."""
HANDLE_SPREAD = np.array([MISJUDGED, MISJUDGED, 0.005, 0.1], np.float32)


def open_drawer(randomization: Level = "off", robot: RobotName = "hand") -> Task:
    """Open a drawer by its handle.

    Task:
        A floating hand with a parallel-jaw gripper takes the handle of a cabinet's drawer and pulls it open.
    Randomisation:
        Every episode draws the cabinet's place (within 50 mm), its yaw (within 15 degrees) and the hand's start. With
        `--randomization` also friction, masses, the hand's stiffness and the gripper's force, delays of actions by up
        to 1 or 2 control steps, and how things are seen: 4 or 8 mm and 3 or 6 degrees off, jittering, late, now and
        then not.
    Success:
        The drawer is open by more than 150 mm, slower than 50 mm/s, and the hand within 50 mm of its handle, for 5
        control steps in a row (0.25 s).
    """

    def scene() -> mujoco.MjSpec:
        spec = gripping.scene(robot)
        scenes.add_cabinet(spec)
        return spec

    cabinet = Cabinet(scene().compile())

    def reset(key: jax.Array, reach: float = 0.05) -> Start:
        cabinet_key, hand_key = jax.random.split(key)
        qpos, ctrl = cabinet.gripper.ready(hand_key)
        return Start(jnp.append(qpos, 0.0), (), ctrl, *cabinet.place(cabinet_key, reach))

    def success(data: Data) -> jax.Array:
        """Pulled out by its handle, and no longer moving."""
        at_handle = jnp.linalg.norm(cabinet.handle(data) - cabinet.gripper.place(data)) < BY_HANDLE
        return (cabinet.opening(data) > PULLED) & (jnp.abs(cabinet.speed(data)) < STOPPED) & at_handle

    return family.task(
        "open_drawer",
        scene=scene,
        horizon=150,
        observation=CABINET_OBSERVATION,
        reset=reset,
        observe=cabinet.observe,
        success=success,
        script=gripping.phase_by_phase(
            cabinet.gripper,
            look_at(cabinet, lambda data: jnp.zeros(0)),
            Seen(jnp.asarray(HANDLE_SPREAD), jnp.float32(0.15), jnp.zeros(0)),
            pulling(out=0.19),
        ),
        final_pose=lambda data: {"opening": cabinet.opening(data)},
        bodies=("cabinet",),
        drawer="drawer",
        randomization=randomization,
    )


def put_in_drawer(randomization: Level = "off", robot: RobotName = "hand") -> Task:
    """Put a block into a drawer that is shut before and after.

    Task:
        A floating hand with a parallel-jaw gripper opens a cabinet's drawer, picks a block off the table, drops it in,
        and pushes the drawer shut. The longest task: 300 control steps.
    Randomisation:
        Every episode draws the places of cabinet and block (within 50 mm), the yaw of the cabinet (within 15 degrees)
        and of the block (any), and the hand's start. With
        `--randomization` also friction, masses, the hand's stiffness and the gripper's force, delays of actions by up
        to 1 or 2 control steps, and how things are seen: 4 or 8 mm and 3 or 6 degrees off, jittering, late, now and
        then not.
    Success:
        The block lies on the drawer's floor, at rest, the drawer is open by less than 10 mm, and the hand is 50 mm away
        from the block, for 5 control steps in a row (0.25 s).
    """
    thing = BLOCK
    scene = functools.partial(family.scene, robot, thing, scenes.add_cabinet)
    mj = scene().compile()
    cabinet, handled = Cabinet(mj), Handled(mj, thing)

    def reset(key: jax.Array, reach: float = 0.05) -> Start:
        cabinet_key, hand_key, place_key, yaw_key = jax.random.split(key, 4)
        qpos, ctrl = cabinet.gripper.ready(hand_key)
        place = jnp.array([0.20, -0.05]) + family.somewhere(place_key, reach)
        qpos = jnp.concatenate([qpos, family.lying(thing, place, yaw_key), jnp.zeros(1)])
        return Start(qpos, (), ctrl, *cabinet.place(cabinet_key, reach))

    def in_drawer(data: Data) -> jax.Array:
        return cabinet.inside(data, handled.place(data))

    def observe(data: Data) -> dict[str, jax.Array]:
        return handled.observe(data) | cabinet.observe(data) | {"object_in_drawer": in_drawer(data)}

    def success(data: Data) -> jax.Array:
        """It lies in the drawer, at rest, nobody holds it, and that is shut."""
        way = in_drawer(data)
        floor = scenes.DRAWER_FLOOR + thing.height
        inside = (jnp.abs(way[:2]) < jnp.array(scenes.DRAWER_INSIDE)).all() & (jnp.abs(way[2] - floor) < 0.015)
        clear = jnp.linalg.norm(handled.place(data) - cabinet.gripper.place(data)) > CLEAR
        return inside & handled.still(data) & (cabinet.opening(data) < SHUT) & clear

    def final_pose(data: Data) -> dict[str, jax.Array]:
        x, y, z = in_drawer(data)
        return {"opening": cabinet.opening(data), "in_drawer_x": x, "in_drawer_y": y, "in_drawer_z": z}

    look, spread = handled.judge()
    out = 0.17
    # The middle of what is open of the drawer, as seen from the handle of the shut one.
    over = before(out - 0.10, 0.11)

    def carried(seen: Seen) -> jax.Array:
        return over(seen).at[3].set(seen.thing[3])

    phases = [
        *pulling(out),
        Phase(before(out), 1.0),
        Phase(before(out, 0.12), 1.0),
        *family.picking(up=0.14, where=lambda seen: seen.thing),
        Phase(carried, -1.0, speed=0.7),
        Phase(lambda seen: carried(seen).at[2].add(-0.03), 1.0),
        Phase(before(out + 0.07, 0.12), -1.0, speed=0.7),
        Phase(before(out + 0.07), -1.0),
        Phase(before(-0.02), -1.0),
    ]
    return family.task(
        "put_in_drawer",
        scene=scene,
        horizon=300,
        observation=OBJECT_OBSERVATION | CABINET_OBSERVATION | {"object_in_drawer": "m"},
        reset=reset,
        observe=observe,
        success=success,
        script=gripping.phase_by_phase(
            cabinet.gripper,
            look_at(cabinet, look),
            Seen(jnp.asarray(HANDLE_SPREAD), jnp.float32(0.08), spread),
            phases,
        ),
        final_pose=final_pose,
        bodies=("object", "cabinet"),
        drawer="drawer",
        randomization=randomization,
        preset={"prior": {"chunk": 8}},
    )
