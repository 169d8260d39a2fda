"""What stands on the table and is not picked up: a cabinet with a drawer, a mark on the table."""

import mujoco
import numpy as np
from numpy.typing import ArrayLike

DRAWER_TRAVEL = 0.200
"""How far the drawer opens (m)."""
DRAWER_INSIDE = (0.060, 0.085)
"""Half width and half length inside (m)."""
DRAWER_FLOOR, DRAWER_RIM = 0.012, 0.062
"""Heights above the table (m)."""
HANDLE = (0.0, -0.130, 0.045)
"""The middle of the handle in the cabinet's frame when the drawer is shut (m)."""
_PLATE = 0.005  # half thickness (m)
_TOP = 0.090  # of the cabinet (m)


def add_cabinet(spec: mujoco.MjSpec) -> mujoco.MjsBody:
    """A cabinet whose drawer opens along its -y axis, by the slide joint `drawer`; its origin on the table.

    The cabinet is the mocap body `cabinet`, so that its pose is part of an episode's start; the drawer, the body
    `drawer`, is its child, with the same origin when shut. The handle is an upright bar, 30 mm before the front, that
    pads embrace from the sides.
    """
    cabinet = spec.worldbody.add_body(name="cabinet", mocap=True)
    wide, long = DRAWER_INSIDE[0] + 0.022, DRAWER_INSIDE[1] + 2 * _PLATE
    for side in (-1, 1):
        add_fixed(cabinet, f"cabinet{side}", [side * wide, 0, _TOP / 2], [_PLATE, long, _TOP / 2])
    add_fixed(cabinet, "cabinet_back", [0, long + _PLATE, _TOP / 2], [wide, _PLATE, _TOP / 2])
    add_fixed(cabinet, "cabinet_top", [0, 0, _TOP + _PLATE], [wide + _PLATE, long, _PLATE])

    drawer = cabinet.add_body(name="drawer", gravcomp=1)
    drawer.add_joint(
        name="drawer",
        type=mujoco.mjtJoint.mjJNT_SLIDE,
        axis=[0, -1, 0],
        range=[0, DRAWER_TRAVEL],
        limited=True,
        damping=8.0,
    )
    width, length = DRAWER_INSIDE
    middle, half = (DRAWER_RIM + DRAWER_FLOOR) / 2, (DRAWER_RIM - DRAWER_FLOOR) / 2
    for name, pos, size in (
        ("floor", [0, 0, DRAWER_FLOOR - _PLATE], [width, length, _PLATE]),
        ("left", [-width - _PLATE, 0, middle], [_PLATE, length, half]),
        ("right", [width + _PLATE, 0, middle], [_PLATE, length, half]),
        ("back", [0, length + _PLATE, middle], [width, _PLATE, half]),
        ("front", [0, -length - _PLATE, 0.044], [wide, _PLATE, 0.040]),
    ):
        add_fixed(drawer, f"drawer_{name}", pos, size, mass=0.1)
    bar = dict(material="hand", contype=0)
    drawer.add_geom(
        name="handle",
        type=mujoco.mjtGeom.mjGEOM_CAPSULE,
        pos=HANDLE,
        size=[0.007, 0.024, 0],
        mass=0.02,
        conaffinity=2,
        **bar,
    )
    for end in (-1, 1):
        stay = [*HANDLE[:2], HANDLE[2] + end * 0.022, 0, -length - _PLATE, HANDLE[2] + end * 0.022]
        drawer.add_geom(
            name=f"stay{end}",
            type=mujoco.mjtGeom.mjGEOM_CAPSULE,
            size=[0.004, 0, 0],
            fromto=stay,
            mass=0.01,
            conaffinity=0,
            **bar,
        )
    return cabinet


def add_mark(spec: mujoco.MjSpec, radius: float) -> mujoco.MjsBody:
    """A target on the table, that nothing touches: the mocap body `mark`, a disc within two rings as wide."""
    body = spec.worldbody.add_body(name="mark", mocap=True)
    for rings, rgba in enumerate([[0.1, 0.2, 0.7, 1], [0.95, 0.95, 0.95, 1], [0.1, 0.2, 0.7, 1]]):
        body.add_geom(
            type=mujoco.mjtGeom.mjGEOM_CYLINDER,
            size=[(1 + rings) * radius, (3 - rings) * 0.0005, 0],  # each covers the middle of the next (m)
            rgba=rgba,
            contype=0,
            conaffinity=0,
        )
    return body


def add_fixed(
    body: mujoco.MjsBody,
    name: str,
    pos: ArrayLike,
    size: ArrayLike,
    quat: ArrayLike = (1.0, 0.0, 0.0, 0.0),
    mass: float = 0.0,
) -> None:
    """Adds a box that collides with pads and things, and not with the table; half sizes (m)."""
    body.add_geom(
        name=name,
        type=mujoco.mjtGeom.mjGEOM_BOX,
        pos=np.asarray(pos, float),
        quat=np.asarray(quat, float),
        size=np.asarray(size, float),
        mass=mass,
        material="steel",
        contype=0,
        conaffinity=2,
    )
