"""What carries a plug or a gripper: the floating hand, or an arm. To tasks both are the pose of a hand that they move.

A pose is six numbers: x, y, z (m), yaw, pitch, roll (rad), of the tool centre point in the world. Both robots are
commanded by the target of an impedance at the tool, a spring and a damper of capped force; `data.ctrl` is the whole of
a controller's state.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol, runtime_checkable

import jax.numpy as jnp
import mujoco
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from expertgen_jax import scenes
from expertgen_jax.scenes import panda
from expertgen_jax.sim import control, kinematics
from expertgen_jax.sim.kinematics import Chain, Frames
from expertgen_jax.task import Spectator

RobotName = Literal["hand", "panda"]
IMPEDANCE = slice(0, 6)
"""The impedance's actuators, of each robot, in `ctrl`."""


@runtime_checkable
class Robot(Protocol):
    """A robot in a compiled scene, whose joints are the first of `qpos`, whose actuators the first of `ctrl`."""

    joints: int
    """Numbers in `qpos` and `qvel`."""
    commands: int
    """Numbers in `ctrl`."""
    lag: float
    """Control steps by which its pose follows its target, about."""
    proprioception: Mapping[str, str]
    """Name and unit of each part of `sense`."""

    def sense(self, data: Any) -> dict[str, Array]:
        """What it measures of itself, beside where its hand is."""

    def pose(self, data: Any) -> Float[Array, "6"]:
        """Where the hand is."""

    def velocity(self, data: Any) -> Float[Array, "6"]:
        """How fast its pose changes (m/s, rad/s)."""

    def target(self, data: Any) -> Float[Array, "6"]:
        """Where its impedance pulls it to."""

    def pose_at(self, qpos: Float[Array, "nq"]) -> Float[Array, "6"]:
        """Where it is at given positions of the joints."""

    def start(self, pose: Float[Array, "6"]) -> tuple[Float[Array, "joints"], Float[Array, "commands"]]:
        """Its part of `qpos` and `ctrl` where it rests at a pose."""

    def move(
        self, data: Any, action: Float[Array, "6"], step_sizes: Float[ArrayLike, "6"], leads: Float[ArrayLike, "6"]
    ) -> Float[Array, "nu"]:
        """`ctrl` after an action, as of `control.move_target`."""


def add(name: RobotName, spec: mujoco.MjSpec, fingers: bool = True) -> mujoco.MjsBody:
    """Adds a robot to a scene, before anything else that moves, and returns its body `hand`; see `scenes.add_hand`."""
    return {"hand": scenes.add_hand, "panda": scenes.add_panda}[name](spec, fingers)


def of(mj: mujoco.MjModel) -> Robot:
    """The robot of a scene."""
    arm = mujoco.mj_name2id(mj, mujoco.mjtObj.mjOBJ_JOINT, panda.PANDA_JOINTS[0]) >= 0
    return Panda(mj) if arm else Hand()


def spectator(name: RobotName, near: Spectator) -> Spectator:
    """The camera of videos: of the hand `near` it, of an arm further back."""
    if name == "hand":
        return near
    x, y, z = near.lookat
    return near._replace(lookat=(x - 0.12, y, z + 0.12), distance=near.distance + 0.6)


def towards(robot: Robot, data: Any, goal: Float[Array, "6"], step_sizes: Float[ArrayLike, "6"]) -> Float[Array, "6"]:
    """The action in [-1, 1] that moves a robot's target towards a pose."""
    return jnp.clip((goal - robot.target(data)) / step_sizes, -1.0, 1.0)


def along(
    robot: Robot, data: Any, here: Float[Array, "6"], there: Float[Array, "6"], step_sizes: Float[ArrayLike, "6"]
) -> Float[Array, "6"]:
    """The action in [-1, 1] that moves a hand along a path from `here`, where it should be now, to `there`: its target
    goes ahead by what the robot lags behind and by what it has fallen behind."""
    goal = there + robot.lag * (there - here) + here - robot.pose(data)
    return towards(robot, data, goal, step_sizes)


class Hand:
    """The floating hand, see `scenes.add_hand`: its pose is its joints' positions."""

    joints = commands = len(scenes.HAND_JOINTS)
    lag = 1.0
    proprioception: Mapping[str, str] = {}

    def sense(self, data: Any) -> dict[str, Array]:
        """See `Robot`, as for the rest."""
        return {}

    def pose(self, data: Any) -> Float[Array, "6"]:
        return data.qpos[:6]

    def velocity(self, data: Any) -> Float[Array, "6"]:
        return data.qvel[:6]

    def target(self, data: Any) -> Float[Array, "6"]:
        return data.ctrl[:6]

    def pose_at(self, qpos: Float[Array, "nq"]) -> Float[Array, "6"]:
        return qpos[:6]

    def start(self, pose: Float[Array, "6"]) -> tuple[Float[Array, "6"], Float[Array, "6"]]:
        return pose, pose

    def move(
        self, data: Any, action: Float[Array, "6"], step_sizes: Float[ArrayLike, "6"], leads: Float[ArrayLike, "6"]
    ) -> Float[Array, "nu"]:
        return control.move_target(data, action, step_sizes, leads)


HOME = np.array([0.0, 0.1, 0.0, -2.2, 0.0, 2.3, 0.0], np.float32)
"""The posture that the arm keeps to as far as its tool leaves it free (rad)."""
POSTURE_STIFFNESS = 10.0
"""(N m/rad)."""
FARTHEST_TURN = 2.2
"""Of the hand, about the vertical (rad): joint 7 ends at 2.9, and half a turn has no rotation vector."""
WRENCH_RANGE = np.array([20.0] * 3 + [2.0] * 3, np.float32)
"""Of what is felt at the tool (N, N m)."""
TORQUE_SHARE, STEP_SHARE, POSTURE_SHARE = 0.8, 0.65, 0.15
"""What the impedance's springs may ask for of the joints' limits of torque, and of its rate, and posture of that; the
rest is left to damping, to gravity, and to the step that the joints' state here is late by."""


class Panda:
    """The arm, see `scenes.add_panda`: what is read of it comes from where its links are."""

    joints, commands = len(panda.PANDA_JOINTS), 6 + len(panda.PANDA_JOINTS)
    lag = 2.0
    proprioception: Mapping[str, str] = {
        "joint_position": "rad",
        "joint_velocity": "rad/s",
        "external_wrench": "N, N m",  # on the tool, along the world's axes, clipped to 20 and 2
    }

    def __init__(self, mj: mujoco.MjModel):
        """For the scene that has it."""
        self.hand, self.links = mj.body("hand").id, np.array([mj.body(name).id for name in panda.PANDA_LINKS])
        self.stiffness = np.repeat(np.asarray(scenes.STIFFNESS, np.float32), 3)
        self.torque_step = panda.TORQUE_RATE_LIMIT * mj.opt.timestep
        self.torques = np.array([mj.sensor(name).adr[0] for name in panda.PANDA_JOINTS])

    def sense(self, data: Any) -> dict[str, Array]:
        """See `Robot`, as for the rest. The wrench is estimated from the torques that the joints measure, as if the arm
        stood still: it errs by what moves the arm's mass, and by the joints' friction."""
        moves, position, velocity = self.jacobian(data), data.qpos[: self.joints], data.qvel[: self.joints]
        external = panda.JOINT_DAMPING * velocity - data.sensordata[self.torques]
        wrench = jnp.linalg.solve(moves @ moves.T + 1e-4 * jnp.eye(6), moves @ external)
        return {
            "joint_position": position,
            "joint_velocity": velocity,
            "external_wrench": jnp.clip(wrench, -WRENCH_RANGE, WRENCH_RANGE),
        }

    def pose(self, data: Any) -> Float[Array, "6"]:
        return _pose(Frames(data.xpos[self.hand], data.xmat[self.hand]))

    def velocity(self, data: Any) -> Float[Array, "6"]:
        moves = self.jacobian(data) @ data.qvel[: self.joints]
        angles = kinematics.yaw_pitch_roll(data.xmat[self.hand])
        return jnp.concatenate([moves[:3], kinematics.rates(angles, moves[3:])])

    def target(self, data: Any) -> Float[Array, "6"]:
        return _pose(Frames(data.ctrl[:3], kinematics.exponential(data.ctrl[3:6])))

    def pose_at(self, qpos: Float[Array, "nq"]) -> Float[Array, "6"]:
        return _pose(kinematics.forward(chain(), qpos[: self.joints])[1])

    def start(self, pose: Float[Array, "6"]) -> tuple[Float[Array, "7"], Float[Array, "13"]]:
        tool = Frames(pose[:3], kinematics.turned(pose[3:]))
        x, y, _ = pose[:3] - jnp.array(panda.BASE)
        ahead = jnp.arctan2(y, x)
        first = jnp.asarray(HOME).at[0].set(ahead).at[6].set(ahead - pose[3])
        return kinematics.inverse(chain(), tool, first), jnp.append(_command(pose), jnp.zeros(self.joints))

    def jacobian(self, data: Any) -> Float[Array, "6 7"]:
        """See `kinematics.jacobian`."""
        return kinematics.jacobian(Frames(data.xpos[self.links], data.xmat[self.links]), data.xpos[self.hand])

    def move(
        self, data: Any, action: Float[Array, "6"], step_sizes: Float[ArrayLike, "6"], leads: Float[ArrayLike, "6"]
    ) -> Float[Array, "nu"]:
        """As of the hand, but slower where the joints' torques would change faster, or become larger, than they may;
        and the posture is pulled to `HOME`."""
        pose, moves = self.pose(data), self.jacobian(data)
        moved = control.moved(self.target(data), pose, action, step_sizes, leads)
        moved = moved.at[3].set(jnp.clip(moved[3], -FARTHEST_TURN, FARTHEST_TURN))
        before, here = data.ctrl[IMPEDANCE], _command(pose)

        def torque(stretch: Float[Array, "6"]) -> Float[Array, "7"]:
            return moves.T @ (self.stiffness * stretch)

        wanted = here + _scaled(_command(moved) - here, torque, TORQUE_SHARE * panda.TORQUE_LIMITS)
        after = before + _scaled(wanted - before, torque, STEP_SHARE * self.torque_step)
        free = jnp.eye(self.joints) - moves.T @ jnp.linalg.solve(moves @ moves.T + 1e-4 * jnp.eye(6), moves)
        posture = free @ (POSTURE_STIFFNESS * (HOME - data.qpos[: self.joints]))
        posture, held = _scaled(posture, jnp.asarray, panda.POSTURE_TORQUE), data.ctrl[6 : self.commands]
        held += _scaled(posture - held, jnp.asarray, POSTURE_SHARE * self.torque_step)
        return data.ctrl.at[: self.commands].set(jnp.append(after, held))


@functools.cache
def chain() -> Chain:
    """The arm's kinematics, from the world to the tool."""
    a, d, alpha = panda.DH.T
    pos = np.stack([a, -d * np.sin(alpha), d * np.cos(alpha)], axis=1)
    pos[0] += panda.BASE
    zero, one, cos, sin = np.zeros(7), np.ones(7), np.cos(alpha), np.sin(alpha)
    mat = np.stack([one, zero, zero, zero, cos, -sin, zero, sin, cos], axis=1).reshape(7, 3, 3)
    return Chain(np.append(pos, [[0, 0, panda.TOOL]], axis=0), np.append(mat, [np.diag([1.0, -1.0, -1.0])], axis=0))


def _scaled(change: Array, torque: Callable[[Array], Array], limits: ArrayLike) -> Array:
    """`change`, or so much of it that no torque (N m) of it exceeds its limit."""
    return change / jnp.maximum(1.0, (jnp.abs(torque(change)) / jnp.asarray(limits, jnp.float32)).max())


def _pose(tool: Frames) -> Float[Array, "6"]:
    return jnp.append(tool.pos, kinematics.yaw_pitch_roll(tool.mat))


def _command(pose: Float[Array, "6"]) -> Float[Array, "6"]:
    """The impedance's commands for a pose: position and rotation vector."""
    return jnp.append(pose[:3], kinematics.logarithm(kinematics.turned(pose[3:])))
