"""A parallel-jaw gripper on the floating hand, of the size of a Robotiq 2F-85."""

import mujoco

OPENING = 0.085
"""Between the open pads (m)."""
GRIP_FORCE = 15.0
"""Cap of each finger's drive, and what each pad presses with (N)."""
PAD_FRICTION = 1.0
FINGER_JOINTS = ("left_finger", "right_finger")
_PAD = (0.004, 0.011, 0.020)  # half sizes (m)


def add_gripper(spec: mujoco.MjSpec, hand: mujoco.MjsBody) -> None:
    """Adds two fingers to the hand, that slide along its x axis: the joints and position actuators `FINGER_JOINTS`.

    A joint is 0 where the gripper is open and `OPENING / 2` where the pads meet at the hand's origin. The two are
    coupled, as by a linkage, so that what is held stays in the middle; drives are force-limited, so that it can slip.
    Links and palm are touched as capsules, by things and by what stands on the table.
    Pads and things collide as bit 1 with the table and each other, and as bit 2 with what stands on the table and does
    not move: MJX would collide that with the table too, and contacts between what cannot move blow the solver up.
    """
    for side, name in zip((-1, 1), FINGER_JOINTS, strict=True):
        finger = hand.add_body(name=name, pos=[side * OPENING / 2, 0, 0], gravcomp=1)
        finger.add_joint(
            name=name,
            type=mujoco.mjtJoint.mjJNT_SLIDE,
            axis=[-side, 0, 0],
            range=[0, OPENING / 2],
            limited=True,
            armature=0.2,
        )
        finger.add_geom(
            name=f"{name}_pad",
            type=mujoco.mjtGeom.mjGEOM_BOX,
            pos=[side * _PAD[0], 0, 0],
            size=_PAD,
            mass=0.02,
            material="hand",
            friction=[PAD_FRICTION, 0.01, 0.0001],
            contype=3,
            conaffinity=1,
        )
        finger.add_geom(
            name=f"{name}_link",
            type=mujoco.mjtGeom.mjGEOM_BOX,
            pos=[side * 0.010, 0, 0.030],
            size=[0.006, 0.010, 0.034],
            mass=0.02,
            material="hand",
            contype=0,
            conaffinity=0,
        )
        _add_touch(finger, f"{name}_touch", [side * 0.012, 0, 0.030], [side * 0.012, 0, 0.060])
        drive = spec.add_actuator(name=name, target=name, trntype=mujoco.mjtTrn.mjTRN_JOINT)
        drive.set_to_position(kp=2000.0, kv=40.0)
        drive.forcelimited = True
        drive.forcerange = [-GRIP_FORCE, GRIP_FORCE]
    _add_touch(hand, "palm_touch", [-0.045, 0, 0.08], [0.045, 0, 0.08], radius=0.018)
    coupling = spec.add_equality(
        name="linkage", type=mujoco.mjtEq.mjEQ_JOINT, name1=FINGER_JOINTS[0], name2=FINGER_JOINTS[1]
    )
    coupling.data[:2] = [0.0, 1.0]


def _add_touch(body: mujoco.MjsBody, name: str, start: list[float], end: list[float], radius: float = 0.008) -> None:
    """Adds a capsule that is not drawn and collides with things, and with what stands on the table."""
    body.add_geom(
        name=name,
        type=mujoco.mjtGeom.mjGEOM_CAPSULE,
        size=[radius, 0, 0],
        fromto=[*start, *end],
        mass=0.0,
        group=3,
        contype=2,
        conaffinity=4,
    )
