"""What tasks with a gripper share: actions, what is felt and seen of the hand, a demonstrator that goes phase by phase.

An action is the step of the hand's target (6 numbers) and the gripper: 1 opens it, -1 closes it.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from expertgen_jax import scenes
from expertgen_jax.sim import robots
from expertgen_jax.sim.robots import RobotName
from expertgen_jax.task import Data, Follow, Script

ACTION_SIZE = 7
CONTROL_DT = 0.05
STEP_SIZES = np.array([0.020] * 3 + [0.20] * 3, np.float32)
"""Travel of the hand's target for a full action (m, rad)."""
LEADS = np.array([0.030] * 3 + [0.30] * 3, np.float32)
"""Largest distance of the target from the hand (m, rad): at most 24 N and 3 N m."""
READY = 0.25
"""Height at which the hand starts (m)."""
SQUEEZE = 0.004
"""How far fingers that press on something stay behind their command (m): at least 8 N."""
CLOSES, OPENS = 0.006, 0.002
"""Of a recording: fingers that have closed further than this, and do not open by more than that in a step, are told to
close (m)."""
LOWEST = 0.015
"""Height that a demonstrator goes down to (m): its pads then press on the table with 4 N."""

PROPRIOCEPTION = {
    "hand_pose": "m, rad",
    "hand_velocity": "m/s, rad/s",
    "target_lead": "m, rad",
    "closing": "m",  # of each finger
    "grip": "m",  # how far the fingers are from where they were told to go: what they hold
}
HAND_OBSERVATION = {
    "hand_height": "m",
    "hand_rotation": "rad",
    **{name: unit for name, unit in PROPRIOCEPTION.items() if name != "hand_pose"},
}


def scene(robot: RobotName, max_contact_points: int = 16) -> mujoco.MjSpec:
    """The table and the robot with a gripper."""
    spec = scenes.empty_scene(max_contact_points=max_contact_points)
    # Pads must turn with what they hold, and nothing may creep out of them: a brick does at 0.2 mm/s, and at an
    # impedance of 0.93 at 1.4 mm/s. At 0.99 from 6 um on, in MJX it jumped at 0.2 m/s now and then.
    for geom in (spec.default.geom, *spec.geoms):
        geom.solimp = [0.5, 0.99, 2e-5, 0.5, 2.0]
        geom.friction = [1.0, 0.005, 0.0001]
        geom.condim = 4
    scenes.add_gripper(spec, robots.add(robot, spec, fingers=False))
    return spec


class Gripper:
    """A scene's robot with its gripper, in a compiled scene.

    Attributes:
      robot: that carries it.
    """

    def __init__(self, mj: mujoco.MjModel):
        self.robot, self._hand = robots.of(mj), mj.body("hand").id
        joints, commands = self.robot.joints, self.robot.commands
        self._fingers = slice(joints, joints + 2)  # in `qpos`
        self._told = slice(commands, commands + 2)  # in `ctrl`

    def ready(self, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Its part of `qpos` and of `ctrl` at the start, within 20 mm of `READY`, open."""
        beside = jax.random.uniform(key, (3,), minval=-0.02, maxval=0.02)
        qpos, ctrl = self.robot.start(jnp.concatenate([beside + jnp.array([0.0, 0.0, READY]), jnp.zeros(3)]))
        return jnp.append(qpos, jnp.zeros(2)), jnp.append(ctrl, jnp.zeros(2))

    def place(self, data: Data) -> jax.Array:
        """Where the hand is `[3]` (m)."""
        return self.robot.pose(data)[:3]

    def yaw(self, data: Data) -> jax.Array:
        """How it is turned (rad)."""
        return self.robot.pose(data)[3]

    def sense(self, data: Data) -> dict[str, jax.Array]:
        """The entries of `PROPRIOCEPTION`."""
        pose, closing = self.robot.pose(data), data.qpos[self._fingers]
        return {
            "hand_pose": pose,
            "hand_velocity": self.robot.velocity(data),
            "target_lead": self.robot.target(data) - pose,
            "closing": closing.mean(keepdims=True),
            "grip": (data.ctrl[self._told] - closing).mean(keepdims=True),
        }

    def observe(self, data: Data) -> dict[str, jax.Array]:
        """The entries of `HAND_OBSERVATION`."""
        felt = self.sense(data)
        pose = felt.pop("hand_pose")
        return {"hand_height": pose[2:3], "hand_rotation": pose[3:], **felt}

    def is_open(self, data: Data) -> jax.Array:
        """It has let go."""
        return (data.qpos[self._fingers] < 0.005).all()

    def squeezes(self, data: Data) -> jax.Array:
        """Both fingers press on something: it keeps them from where they were told to close."""
        return (data.ctrl[self._told] - data.qpos[self._fingers] > SQUEEZE).all()

    def seen(self, data: Data, point: jax.Array) -> jax.Array:
        """A point of the world `[3]` in the hand's frame."""
        return data.xmat[self._hand].T @ (point - self.place(data))

    def between_pads(self, data: Data, point: jax.Array) -> jax.Array:
        """A point `[3]` lies between the pads, where they would hold it."""
        return (jnp.abs(self.seen(data, point)) < jnp.array([0.045, 0.020, 0.040])).all()

    def command(self, data: Data, action: jax.Array) -> jax.Array:
        """`Task.control`."""
        closing = (1 - jnp.clip(action[6], -1.0, 1.0)) / 2 * scenes.OPENING / 2
        return self.robot.move(data, action[:6], STEP_SIZES, LEADS).at[self._told].set(closing)

    @property
    def follow(self) -> Follow:
        """`Task.follow`. How hard fingers press no state tells: what is closed, and does not open, is pressed."""

        def ctrl(qpos: jax.Array) -> jax.Array:
            return jnp.append(self.robot.start(self.robot.pose_at(qpos))[1], self._pressing(qpos, qpos))

        def act(data: Data, here: jax.Array, there: jax.Array) -> jax.Array:
            move = robots.along(self.robot, data, self.robot.pose_at(here), self.robot.pose_at(there), STEP_SIZES)
            return jnp.append(move, 1 - 4 * self._pressing(here, there)[0] / scenes.OPENING)

        return Follow(ctrl, act)

    def _pressing(self, here: jax.Array, there: jax.Array) -> jax.Array:
        """How far the fingers are told to close `[2]` on the way from one state to another (m)."""
        closing = there[self._fingers].mean()
        opens = closing < here[self._fingers].mean() - OPENS
        return jnp.where((closing > CLOSES) & ~opens, scenes.OPENING / 2, 0.0) * jnp.ones(2)


ARRIVED = np.array([0.012] * 3 + [0.15], np.float32)
"""How near the hand comes to where a demonstrator sends it (x, y, z in m, yaw in rad)."""
GRIPPING = 6
"""Control steps that a demonstrator gives the gripper to close or to open."""
PATIENCE = 40
"""Control steps after which a demonstrator goes on all the same."""


class Phase(NamedTuple):
    """A phase of a demonstration; it ends when the hand has arrived and the gripper, if told otherwise than before, has
    had time to move.

    Attributes:
      goal: where the hand goes (x, y, z, yaw), given where things are believed to be.
      grip: 1 opens the gripper, -1 closes it.
      speed: largest action.
    """

    goal: Callable[[Any], jax.Array]
    grip: float
    speed: float = 0.5


class _Memory(NamedTuple):
    believed: Any  # where things are thought to be: seen once, at the start
    bias: Any  # beside where they are
    phase: jax.Array
    spent: jax.Array  # control steps in this phase


def phase_by_phase(
    gripper: Gripper, look: Callable[[Data], Any], spread: Any, phases: list[Phase], noise: float = 0.1
) -> Script:
    """A demonstrator as one writes it down: phase by phase, without looking again, and without a second try.

    It does not wait where it has arrived: of episodes that wait half of the time, a clone learns to wait.

    Args:
      gripper: that acts.
      look: `data -> believed`, a pytree of arrays: where things are.
      spread: of the same structure; standard deviations of its errors, constant over an episode.
      phases: in order; the last lasts to the end.
      noise: standard deviation of the noise on its actions.
    """
    leaves, structure = jax.tree.flatten(spread)
    grips, speeds = np.array([(phase.grip, phase.speed) for phase in phases], np.float32).T
    least = np.where(np.diff(grips, prepend=grips[0]), GRIPPING, 0)
    last = len(phases) - 1

    def init(key: jax.Array) -> _Memory:
        keys = jax.random.split(key, len(leaves))
        bias = [s * jax.random.normal(k, jnp.shape(s)) for s, k in zip(leaves, keys, strict=True)]
        bias = jax.tree.unflatten(structure, bias)
        return _Memory(jax.tree.map(jnp.zeros_like, bias), bias, jnp.int32(0), jnp.int32(0))

    def step(memory: _Memory, data: Any, context: Any, key: jax.Array) -> tuple[_Memory, jax.Array]:
        seen = jax.tree.map(jnp.add, look(data), memory.bias)
        begins = (memory.phase == 0) & (memory.spent == 0)
        believed = jax.tree.map(lambda new, old: jnp.where(begins, new, old), seen, memory.believed)
        goals = jnp.stack([phase.goal(believed) for phase in phases])
        goals = goals.at[:, 2].max(LOWEST)
        arrived = (jnp.abs(gripper.robot.pose(data)[:4] - goals[memory.phase]) < ARRIVED).all()
        over = (arrived & (memory.spent >= jnp.asarray(least)[memory.phase])) | (memory.spent >= PATIENCE)
        over &= memory.phase < last
        now, spent = memory.phase + over, jnp.where(over, 0, memory.spent)
        speed, grip = jnp.asarray(speeds)[now], jnp.asarray(grips)[now]
        move = robots.towards(gripper.robot, data, jnp.append(goals[now], jnp.zeros(2)), STEP_SIZES)
        move = jnp.clip(move, -speed, speed) + noise * jax.random.normal(key, move.shape)
        action = jnp.clip(jnp.append(move, grip), -1.0, 1.0)
        return _Memory(believed, memory.bias, now, spent + 1), action

    return Script(init, step)
