"""A floating hand with six-axis impedance."""

import mujoco
import numpy as np

from expertgen_jax.scenes.base import DRY_FRICTION_SEARCH

HAND_JOINTS = ("hand_x", "hand_y", "hand_z", "hand_yaw", "hand_pitch", "hand_roll")

ARMATURE = (1.0, 0.01)
"""Reflected inertia of the translations (kg) and rotations (kg m^2). A heavy hand keeps contacts calm: in MJX's float32
a hand of 0.5 kg pressed at 30 N hopped 1.4 mm into the wall."""
STIFFNESS = (800.0, 20.0)
"""Of the impedance: N/m, N m/rad."""
DAMPING = (60.0, 0.8)
"""Of the impedance: N s/m, N m s/rad."""
MAX_FORCE = (30.0, 3.0)
"""The actuators' caps: N, N m."""


def add_hand(spec: mujoco.MjSpec, fingers: bool = True) -> mujoco.MjsBody:
    """Adds a hand to the world: the joints `HAND_JOINTS` and a position actuator for each, gravity compensated.

    Its origin is the tool centre point; fingers and palm are drawn above it and do not collide. Attach a plug by
    adding geoms to the returned body, or, without `fingers`, a gripper (`add_gripper`).
    """
    body = spec.worldbody.add_body(name="hand", gravcomp=1)
    axes = ([1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1], [0, 1, 0], [1, 0, 0])
    for i, (name, axis) in enumerate(zip(HAND_JOINTS, axes, strict=True)):
        kind = i // 3
        joint_type = mujoco.mjtJoint.mjJNT_HINGE if kind else mujoco.mjtJoint.mjJNT_SLIDE
        body.add_joint(name=name, type=joint_type, axis=axis, armature=ARMATURE[kind])
        actuator = spec.add_actuator(name=name, target=name, trntype=mujoco.mjtTrn.mjTRN_JOINT)
        actuator.set_to_position(kp=STIFFNESS[kind], kv=DAMPING[kind])
        actuator.forcelimited = True
        actuator.forcerange = [-MAX_FORCE[kind], MAX_FORCE[kind]]
    draw_hand(body, fingers)
    return body


def draw_hand(body: mujoco.MjsBody, fingers: bool) -> None:
    """Adds the palm, and fingers, as geoms that do not collide."""
    drawn = (
        [("palm", [0, 0, 0.045], [0.03, 0.012, 0.015])] if fingers else [("palm", [0, 0, 0.08], [0.06, 0.02, 0.018])]
    )
    if fingers:
        drawn += [
            (f"{side}_finger", [x, 0, 0.012], [0.005, 0.009, 0.022]) for side, x in (("left", -0.015), ("right", 0.015))
        ]
    for name, pos, size in drawn:
        body.add_geom(
            name=name,
            type=mujoco.mjtGeom.mjGEOM_BOX,
            pos=pos,
            size=size,
            mass=0.001,
            material="hand",
            contype=0,
            conaffinity=0,
        )


HELD_JOINTS = ("slip_y", "slip_z", "slip_turn")
GRIP = 40.0
"""Force along the pads at which what they hold slips (N), as of 40 N on each side and a friction of 0.5."""
_RUBBING = 0.006
"""How far from their middle pads rub, in the mean, where what they hold turns between them (m)."""
_SLIP = (0.010, 0.35)
"""How far what is held can slip (m, rad)."""
_HELD_ARMATURE = (0.1, 1e-3)
"""Inertia added to what is held (kg, kg m^2): a plug of 20 g would chatter in contact."""


def hold(spec: mujoco.MjSpec) -> None:
    """Lets the body `plug` slip in the fingers, in the plane of their pads: by the joints `HELD_JOINTS`, along y and z
    of the hand and about its x axis, which dry friction holds."""
    plug = spec.body("plug")
    spec.option.ls_iterations = DRY_FRICTION_SEARCH
    unit = 180 / np.pi if spec.compiler.degree else 1.0
    for name, axis in zip(HELD_JOINTS, ([0, 1, 0], [0, 0, 1], [1, 0, 0]), strict=True):
        turns = name == "slip_turn"
        reach = unit * _SLIP[1] if turns else _SLIP[0]
        plug.add_joint(
            name=name,
            type=mujoco.mjtJoint.mjJNT_HINGE if turns else mujoco.mjtJoint.mjJNT_SLIDE,
            axis=axis,
            pos=-np.asarray(plug.pos),
            limited=True,
            range=[-reach, reach],
            frictionloss=_RUBBING * GRIP if turns else GRIP,
            armature=_HELD_ARMATURE[turns],
            solimp_friction=[0.9999, 0.9999, 0.001, 0.5, 2.0],  # MuJoCo's friction creeps; so by less than 0.1 mm/s
        )


def add_force_torque_sensor(spec: mujoco.MjSpec, site: str) -> None:
    """Adds sensors of the force and the torque about `site` that its body feels, in the site's frame (N, N m).

    In `sensordata` they are six numbers.
    """
    for kind in (mujoco.mjtSensor.mjSENS_FORCE, mujoco.mjtSensor.mjSENS_TORQUE):
        spec.add_sensor(
            name=f"{site}_{kind.name[7:].lower()}", type=kind, objtype=mujoco.mjtObj.mjOBJ_SITE, objname=site
        )
