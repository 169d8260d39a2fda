"""A Franka Emika Panda in place of the floating hand: seven joints, with the hand's impedance at its tool.

Kinematics and limits are the manufacturer's (docs of the Franka Control Interface, "Robot and interface
specifications"); masses and inertias those that Gaz et al. (2019, "Dynamic identification of the Franka Emika Panda
robot with retrieval of feasible parameters") identified; shapes are capsules.
"""

import mujoco
import numpy as np

from expertgen_jax.scenes.hand import DAMPING, HAND_JOINTS, STIFFNESS, draw_hand

PANDA_JOINTS = tuple(f"panda_joint{i}" for i in range(1, 8))
PANDA_LINKS = tuple(f"panda_link{i}" for i in range(1, 8))

BASE = (-0.52, 0.0, 0.0)
"""Where it stands (m)."""
DH = np.array(
    [
        (0.0, 0.333, 0.0),
        (0.0, 0.0, -np.pi / 2),
        (0.0, 0.316, np.pi / 2),
        (0.0825, 0.0, np.pi / 2),
        (-0.0825, 0.384, -np.pi / 2),
        (0.0, 0.0, np.pi / 2),
        (0.088, 0.0, np.pi / 2),
    ]
)
"""Denavit-Hartenberg parameters in Craig's convention, of each joint: a (m), d (m), alpha (rad)."""
TOOL = 0.107 + 0.1034
"""From the last joint to the flange, and on to the tool centre point (m)."""
POSITION_LIMITS = np.array(
    [
        (-2.8973, 2.8973),
        (-1.7628, 1.7628),
        (-2.8973, 2.8973),
        (-3.0718, -0.0698),
        (-2.8973, 2.8973),
        (-0.0175, 3.7525),
        (-2.8973, 2.8973),
    ]
)
"""Of the joints (rad)."""
VELOCITY_LIMITS = np.array([2.175] * 4 + [2.61] * 3)
"""(rad/s)."""
TORQUE_LIMITS = np.array([87.0] * 4 + [12.0] * 3)
"""(N m)."""
TORQUE_RATE_LIMIT = 1000.0
"""(N m/s)."""
STOP_SHORT = 0.02
"""So far before a limit the model's joint stops (rad), because a stop gives way a little."""
JOINT_ARMATURE, JOINT_DAMPING = 0.1, 3.0
"""Reflected inertia of motors and gears (kg m^2), and damping (N m s/rad), which also calms motion that leaves the tool
where it is."""
POSTURE_TORQUE = 4.0
"""Cap of what holds the posture (N m)."""

_INERTIALS = (
    (4.970684, (0.003875, 0.002081, -0.04762), (0.70337, 0.70661, 0.009117, -0.000139, 0.006772, 0.019169)),
    (0.646926, (-0.003141, -0.02872, 0.003495), (0.007962, 0.02811, 0.025995, -0.003925, 0.010254, 0.000704)),
    (3.228604, (0.027518, 0.039252, -0.066502), (0.037242, 0.036155, 0.01083, -0.004761, -0.011396, -0.012805)),
    (3.587895, (-0.05317, 0.104419, 0.027454), (0.025853, 0.019552, 0.028323, 0.007796, -0.001332, 0.008641)),
    (1.225946, (-0.011953, 0.041065, -0.038437), (0.035549, 0.029474, 0.008627, -0.002117, -0.004037, 0.000229)),
    (1.666555, (0.060149, -0.014117, -0.010517), (0.001964, 0.004354, 0.005433, 0.000109, -0.001158, 0.000341)),
    (0.735522, (0.010517, -0.004252, 0.061597), (0.012516, 0.010027, 0.004815, -0.000428, -0.001196, -0.000741)),
)
"""Of each link in its own frame: mass (kg), centre of mass (m), inertia about it: xx, yy, zz, xy, xz, yz (kg m^2)."""
_CAPSULES = (
    ((0, 0, -0.27, 0, 0, -0.04, 0.060), (0, 0, -0.04, 0, 0, 0.0, 0.065)),
    ((0, 0, -0.06, 0, 0, 0.06, 0.060),),
    ((0, 0, -0.26, 0, 0, -0.10, 0.060), (0, 0, -0.10, 0.0825, 0, 0, 0.055)),
    ((0, 0, -0.06, 0, 0, 0.06, 0.058),),
    ((0, 0, -0.33, 0, 0.04, -0.22, 0.055), (0, 0.06, -0.20, 0, 0.06, -0.05, 0.038)),
    ((0, 0, -0.04, 0, 0, 0.03, 0.050), (0.03, 0, 0, 0.088, 0, 0, 0.045)),
    ((0, 0, 0.0, 0, 0, 0.085, 0.045),),
)
"""Of each link in its own frame: from, to, radius (m)."""
_TOUCHING = ("panda_link5", "panda_link6", "panda_link7")
"""Links that come down to where things are."""


def add_panda(spec: mujoco.MjSpec, fingers: bool = True) -> mujoco.MjsBody:
    """Adds the arm, which stands at `BASE`, gravity compensated, and returns the body `hand` at its flange.

    That is as `add_hand` makes it: its origin is the tool centre point, its axes are the world's where the tool points
    down; attach a plug or a gripper in the same way. Actuators: the hand's six, here as an impedance between the sites
    `tool` and `frame`, whose commands are the tool's position (m) and rotation vector (rad) in the world, then a motor
    for each joint, capped at `POSTURE_TORQUE`; all together are capped at the joints' torques, which sensors of the
    joints' names measure (N m). The forearm and what is beyond collide with the table, with what stands on it, and with
    things.

    Args:
      spec: the scene.
      fingers: draws fingers, as of `add_hand`.
    """
    unit = 180 / np.pi if spec.compiler.degree else 1.0
    spec.add_material(name="arm", rgba=[0.93, 0.93, 0.95, 1])
    spec.geom("table").size = [0.65, 0.5, 0.05]
    body = spec.worldbody.add_body(name="panda_base", pos=BASE)
    _add_capsule(body, (-0.05, 0, 0.03, 0.0, 0, 0.04, 0.07))
    links = zip(PANDA_LINKS, PANDA_JOINTS, DH, POSITION_LIMITS, TORQUE_LIMITS, _INERTIALS, _CAPSULES, strict=True)
    for link, joint, (a, d, alpha), limits, torque, (mass, centre, inertia), capsules in links:
        body = body.add_body(
            name=link,
            pos=[a, -d * np.sin(alpha), d * np.cos(alpha)],
            quat=[np.cos(alpha / 2), np.sin(alpha / 2), 0, 0],
            gravcomp=1,
            explicitinertial=True,
            mass=mass,
            ipos=centre,
            fullinertia=inertia,
        )
        body.add_joint(
            name=joint,
            type=mujoco.mjtJoint.mjJNT_HINGE,
            axis=[0, 0, 1],
            limited=True,
            range=unit * (limits + np.array([STOP_SHORT, -STOP_SHORT])),
            actfrclimited=True,
            actfrcrange=[-torque, torque],
            armature=JOINT_ARMATURE,
            damping=[JOINT_DAMPING, 0, 0],
        )
        for capsule in capsules:
            _add_capsule(body, capsule, touching=link in _TOUCHING)
    hand = body.add_body(name="hand", pos=[0, 0, TOOL], quat=[0, 1, 0, 0], gravcomp=1)
    hand.add_site(name="tool")
    draw_hand(hand, fingers)
    spec.worldbody.add_site(name="frame")
    for i, name in enumerate(HAND_JOINTS):
        actuator = spec.add_actuator(name=name, target="tool", refsite="frame", trntype=mujoco.mjtTrn.mjTRN_SITE)
        # Position x, y, z; then about x, y, z.
        actuator.gear = np.eye(6)[i]
        actuator.set_to_position(kp=STIFFNESS[i // 3], kv=DAMPING[i // 3])
    for joint in PANDA_JOINTS:
        motor = spec.add_actuator(name=joint, target=joint, trntype=mujoco.mjtTrn.mjTRN_JOINT)
        motor.forcelimited, motor.forcerange = True, [-POSTURE_TORQUE, POSTURE_TORQUE]
        spec.add_sensor(
            name=joint, type=mujoco.mjtSensor.mjSENS_JOINTACTFRC, objtype=mujoco.mjtObj.mjOBJ_JOINT, objname=joint
        )
    return hand


def _add_capsule(body: mujoco.MjsBody, capsule: tuple[float, ...], touching: bool = False) -> None:
    *ends, radius = capsule
    body.add_geom(
        type=mujoco.mjtGeom.mjGEOM_CAPSULE,
        fromto=ends,
        size=[radius, 0, 0],
        mass=0.0,
        material="arm",
        contype=2 if touching else 0,
        conaffinity=4 if touching else 0,
    )
