"""What tasks on a table share: things that lie about, how they are seen, misjudged and picked up.

The family: `lifting`, `drawers`, `pushing`, `placing`; the hand and its gripper are in `gripping`.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from expertgen_jax.sim.robots import RobotName
from expertgen_jax.task import Box, Data, Level, Reset, Script, Senses, Spectator, Start, Task, View
from expertgen_jax.tasks import joints
from expertgen_jax.tasks.tabletop import gripping
from expertgen_jax.tasks.tabletop.gripping import HAND_OBSERVATION, Gripper, Phase
from expertgen_jax.tasks.tabletop.randomization import RANDOMIZATIONS, Episode, Eyes

VERSION = 2
"""Since success is stricter: lifts are held and slow, things are let go, drawers pulled by the handle."""
STILL, STILL_SPIN = 0.010, 0.3
"""Speeds below which a thing is at rest (m/s, rad/s)."""
OBJECT_OBSERVATION = {
    "object_position": "m",  # relative to the hand, world axes
    "object_height": "m",  # above where it lies
    "object_axes": "1",  # its x and z axes, in the world
    "object_turn": "1",  # cosine and sine of how far the pads are turned from a grasp, times the thing's symmetry
    "object_velocity": "m/s",
}


class Thing(NamedTuple):
    """What is handled: the body `object`, whose free joint is the first after those of the gripper.

    Attributes:
      add: `(spec, name)`, adds it to a scene.
      height: of its body's origin when it rests (m).
      grasp: height of the hand's origin for grasping (m).
      misjudged: standard deviation of where the demonstrator believes it to be (m).
      turned: standard deviation of the yaw that the demonstrator believes it to have (rad).
      symmetry: a turn by this much makes no difference to a grasp (rad); 0 where no turn does.
    """

    add: Callable[[mujoco.MjSpec, str], mujoco.MjsBody]
    height: float
    grasp: float
    misjudged: float
    turned: float = 0.4
    symmetry: float = np.pi


def scene(
    robot: RobotName, thing: Thing, *others: Callable[[mujoco.MjSpec], Any], max_contact_points: int = 16
) -> mujoco.MjSpec:
    """The table, the robot with its gripper, the thing, and what `others` add."""
    spec = gripping.scene(robot, max_contact_points)
    thing.add(spec, "object")
    for add in others:
        add(spec)
    return spec


def lying(thing: Thing, place: jax.Array, yaw_key: jax.Array) -> jax.Array:
    """The pose `[7]` of a thing that lies at `place: [2]`, with a random yaw."""
    half = jax.random.uniform(yaw_key, (), maxval=2 * jnp.pi) / 2
    return jnp.concatenate([place, jnp.stack([jnp.float32(thing.height), jnp.cos(half), 0.0, 0.0, jnp.sin(half)])])


def somewhere(key: jax.Array, reach: float) -> jax.Array:
    """A place `[2]` within `reach` of the middle of the table along x and y (m)."""
    return jax.random.uniform(key, (2,), minval=-reach, maxval=reach)


def clear_of(key: jax.Array, reach: float, there: jax.Array, distance: float) -> jax.Array:
    """A place `[2]` as of `somewhere`, more than `distance` from `there: [2]` (m): the first of 128, else the corner
    farthest from there."""
    places = jax.random.uniform(key, (128, 2), minval=-reach, maxval=reach)
    clear = jnp.linalg.norm(places - there, axis=1) > distance
    return jnp.where(clear.any(), first(places, clear), -reach * jnp.where(there < 0, -1.0, 1.0))


def first(places: jax.Array, good: jax.Array) -> jax.Array:
    """Of random `places: [n, ...]` the first that is `good: [n]`."""
    return places[good.argmax()]


class Handled:
    """The thing of a compiled scene, and the gripper that handles it.

    Attributes:
      thing: what it is; body: its number in the model.
      gripper: of the scene.
    """

    def __init__(self, mj: mujoco.MjModel, thing: Thing):
        self.thing, self.gripper, self.body = thing, Gripper(mj), mj.body("object").id
        motion = mj.body_dofadr[self.body]
        self._velocity, self._spin = slice(motion, motion + 3), slice(motion + 3, motion + 6)

    def place(self, data: Data) -> jax.Array:
        """Where it is `[3]` (m)."""
        return data.xpos[self.body]

    def velocity(self, data: Data) -> jax.Array:
        """How fast it is `[3]` (m/s)."""
        return data.qvel[self._velocity]

    def across(self, data: Data) -> jax.Array:
        """The yaw at which pads close along its y axis (rad)."""
        return jnp.arctan2(data.xmat[self.body][1, 0], data.xmat[self.body][0, 0]) + jnp.pi / 2

    def still(self, data: Data, speed: float = STILL, spin: float = STILL_SPIN) -> jax.Array:
        """It is at rest, or slow at most (m/s, rad/s)."""
        return (jnp.linalg.norm(self.velocity(data)) < speed) & (jnp.linalg.norm(data.qvel[self._spin]) < spin)

    def observe(self, data: Data) -> dict[str, jax.Array]:
        """The entries of `OBJECT_OBSERVATION`."""
        thing = self.thing
        turn = (2 * np.pi / thing.symmetry if thing.symmetry else 0.0) * (self.across(data) - self.gripper.yaw(data))
        return {
            "object_position": self.place(data) - self.gripper.place(data),
            "object_height": self.place(data)[2:] - thing.height,
            "object_axes": data.xmat[self.body][:, jnp.array([0, 2])].T.ravel(),
            "object_turn": jnp.stack([jnp.cos(turn), jnp.sin(turn)]),
            "object_velocity": self.velocity(data),
        }

    def judge(self) -> tuple[Callable[[Any], jax.Array], jax.Array]:
        """How a demonstrator sees it, as where to grasp it (x, y, z, yaw), and how badly."""
        thing = self.thing

        def look(data: Data) -> jax.Array:
            half = thing.symmetry / 2
            yaw = (self.across(data) + half) % thing.symmetry - half if half else 0.0
            return jnp.append(self.place(data).at[2].set(thing.grasp), yaw)

        return look, jnp.array([thing.misjudged, thing.misjudged, 0.005, thing.turned])


def picking(up: float, where: Callable[[Any], jax.Array] = lambda believed: believed) -> list[Phase]:
    """Above, down, close, and `up` above the grasp (m); `where` that is, given what is believed."""

    def above(by: float) -> Callable[[Any], jax.Array]:
        return lambda believed: where(believed).at[2].add(by)

    return [
        Phase(above(0.12), 1.0, speed=1.0),
        Phase(above(0.0), 1.0),
        Phase(above(0.0), -1.0),
        Phase(above(up), -1.0),
    ]


def task(
    name: str,
    *,
    scene: Callable[[], mujoco.MjSpec],
    horizon: int,
    observation: dict[str, str],
    reset: Reset,
    observe: Callable[[Any], dict[str, jax.Array]],
    success: Callable[[Any], jax.Array],
    script: Script,
    final_pose: Callable[[Any], Mapping[str, jax.Array]],
    bodies: tuple[str, ...],
    drawer: str = "",
    randomization: Level,
    preset: Mapping[str, Any] | None = None,
) -> Task:
    """A task on the table.

    Args:
      name: see `Task`, as for `scene` and `horizon`.
      observation: see `Task`, as for `observe`; what is seen of the hand is added.
      reset: `(key, reach) -> Start`, with a default; `reach` is how far things lie from the middle (m).
      success: of `data`, as for `final_pose`.
      script: see `Task`.
      bodies: what cameras see, see `randomization.Eyes`, as for `drawer`.
      randomization: how much of the physics, and of what is seen, differs from episode to episode.
      preset: see `Task`.
    """
    ranges = RANDOMIZATIONS[randomization]
    scene = joints.rubbing(scene, ranges.joints)
    mj = scene().compile()
    gripper = Gripper(mj)
    plain = Task(
        name=name,
        scene=scene,
        control_dt=gripping.CONTROL_DT,
        horizon=horizon,
        action_size=gripping.ACTION_SIZE,
        observation=observation | HAND_OBSERVATION,
        reset=reset,
        observe=lambda data, context: observe(data) | gripper.observe(data),
        control=gripper.command,
        success=lambda data, context: success(data),
        script=script,
        nominal_reset=functools.partial(reset, reach=0.0),
        follow=gripper.follow,
        senses=Senses(
            {**gripping.PROPRIOCEPTION, **gripper.robot.proprioception},
            lambda data: gripper.sense(data) | gripper.robot.sense(data),
            cameras={
                "front": View(eye=(0.0, -0.45, 0.35), target=(0.0, 0.0, 0.05), fovy=0.8),
                "side": View(eye=(0.45, 0.0, 0.35), target=(0.0, 0.0, 0.05), fovy=0.8),
                "wrist": View(eye=(0.0, -0.09, 0.06), target=(0.0, 0.0, -0.04), fovy=0.9, body="hand"),
            },
            workspace=Box(low=(-0.3, -0.3, 0.012), high=(0.3, 0.3, 0.3)),
            clutter=(0.28, 0.38),
        ),
        final_pose=lambda data, context: final_pose(data),
        preset=preset,
        spectator=Spectator((0.0, 0.0, 0.08), 0.75, 120.0, -30.0),
        version=VERSION,
    )
    if randomization == "off":
        return plain
    return seen_by(plain, Eyes(mj, ranges, gripping.CONTROL_DT, bodies, drawer))


def seen_by(task: Task, eyes: Eyes) -> Task:
    """`task` under randomisation: what is observed, also by the demonstrator, is what the eyes report."""

    def drawn(reset: Reset) -> Reset:
        def with_episode(key: jax.Array) -> Start:
            fields, episode, delays = eyes.draw(jax.random.fold_in(key, 1))
            return reset(key)._replace(context=episode, fields=fields, delays=delays)

        return with_episode

    def act(memory: Any, data: Any, context: Episode, key: jax.Array) -> tuple[Any, jax.Array]:
        return task.script.act(memory, eyes.believed(data, context), context, key)

    return dataclasses.replace(
        task,
        reset=drawn(task.reset),
        nominal_reset=None if task.nominal_reset is None else drawn(task.nominal_reset),
        observe=lambda data, context: task.observe(eyes.believed(data, context), context),
        true_observe=task.observe,
        script=Script(task.script.init, act),
        update=eyes.update,
        privileged=eyes.known,
        max_delay=eyes.ranges.max_delay,
    )
