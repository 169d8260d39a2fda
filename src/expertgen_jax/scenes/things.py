"""Things on a table, free to move: built of boxes, capsules and spheres that every back end can collide."""

import itertools
from typing import Any

import mujoco
import numpy as np

BANANA_RADIUS, PEACH_RADIUS, STRAWBERRY_RADIUS, PEAR_RADIUS = 0.017, 0.032, 0.015, 0.030
BRICK = (0.030, 0.020, 0.050)
"""Half sizes (m)."""
BLOCK = 0.020
"""Half size (m)."""
CAN_RADIUS, CAN_HEIGHT = 0.035, 0.100
_ARC, _SPREAD = 0.12, np.linspace(-0.75, 0.75, 5)  # radius and angles of a banana's arc (m, rad)
BANANA_LINE = _ARC * np.stack([np.sin(_SPREAD), np.cos(_SPREAD) - np.cos(0.375), 0 * _SPREAD], axis=1)
"""Five points of a banana's middle line, from end to end, in its frame `[5, 3]` (m)."""
_BOX, _SPHERE = mujoco.mjtGeom.mjGEOM_BOX, mujoco.mjtGeom.mjGEOM_SPHERE


def add_banana(spec: mujoco.MjSpec, name: str) -> mujoco.MjsBody:
    """Four capsules on an arc of 180 mm, 120 g; it lies on the table at z = 17 mm, thinnest along its y axis."""
    body = _add_free(spec, name, BANANA_RADIUS)
    for i, (a, b) in enumerate(itertools.pairwise(BANANA_LINE)):
        _add_solid(body, f"{name}{i}", mujoco.mjtGeom.mjGEOM_CAPSULE, [BANANA_RADIUS, 0, 0], 0.03, fromto=[*a, *b])
    return body


def add_brick(spec: mujoco.MjSpec, name: str) -> mujoco.MjsBody:
    """A box of 60 x 40 x 100 mm, 250 g, upright."""
    body = _add_free(spec, name, BRICK[2])
    _add_solid(body, name, _BOX, BRICK, 0.25)
    return body


def add_block(spec: mujoco.MjSpec, name: str) -> mujoco.MjsBody:
    """A cube of 40 mm, 60 g."""
    body = _add_free(spec, name, BLOCK)
    _add_solid(body, name, _BOX, [BLOCK] * 3, 0.06)
    return body


def add_peach(spec: mujoco.MjSpec, name: str) -> mujoco.MjsBody:
    """A ball of 64 mm, 130 g, that rolls."""
    body = _add_free(spec, name, PEACH_RADIUS)
    _add_solid(body, name, _SPHERE, [PEACH_RADIUS, 0, 0], 0.13)
    return body


def add_pear(spec: mujoco.MjSpec, name: str) -> mujoco.MjsBody:
    """Two balls, of 30 and 22 mm radius, one behind the other along its x axis; 150 g; soft, so that it soon rests."""
    body = _add_free(spec, name, PEAR_RADIUS, damping=1e-3)
    _add_solid(body, name, _SPHERE, [PEAR_RADIUS, 0, 0], 0.11)
    _add_solid(body, f"{name}_neck", _SPHERE, [0.022, 0, 0], 0.04, pos=[0.033, 0, -0.008])
    return body


def add_strawberry(spec: mujoco.MjSpec, name: str) -> mujoco.MjsBody:
    """Two balls, of 15 and 11 mm radius, one behind the other along its x axis; 20 g; soft, so that it soon rests."""
    body = _add_free(spec, name, STRAWBERRY_RADIUS, damping=5e-5)
    _add_solid(body, name, _SPHERE, [STRAWBERRY_RADIUS, 0, 0], 0.014)
    _add_solid(body, f"{name}_tip", _SPHERE, [0.011, 0, 0], 0.006, pos=[0.012, 0, 0])
    return body


def add_can(spec: mujoco.MjSpec, name: str) -> mujoco.MjsBody:
    """A can of 70 x 100 mm, 350 g, upright: drawn round, touched as a square prism of the same cross-section."""
    body = _add_free(spec, name, CAN_HEIGHT / 2)
    half = CAN_RADIUS * np.sqrt(np.pi) / 2
    _add_solid(body, name, _BOX, [half, half, CAN_HEIGHT / 2], 0.35, group=3)
    body.add_geom(
        name=f"{name}_drawn",
        type=mujoco.mjtGeom.mjGEOM_CYLINDER,
        size=[CAN_RADIUS, CAN_HEIGHT / 2, 0],
        mass=0.0,
        material="steel",
        contype=0,
        conaffinity=0,
    )
    return body


def _add_free(spec: mujoco.MjSpec, name: str, height: float, damping: float = 0.0) -> mujoco.MjsBody:
    """A body that moves freely; `damping` brings to rest what rolls (N m s/rad)."""
    body = spec.worldbody.add_body(name=name, pos=[0, 0, height])
    body.add_joint(name=name, type=mujoco.mjtJoint.mjJNT_FREE, damping=damping)
    return body


def _add_solid(
    body: mujoco.MjsBody,
    name: str,
    shape: mujoco.mjtGeom,
    size: list[float] | tuple[float, ...],
    mass: float,
    **where: Any,
) -> None:
    """Adds a geom that collides with the table, pads, what stands on the table, and other things."""
    body.add_geom(name=name, type=shape, size=size, mass=mass, material="plug", contype=7, conaffinity=1, **where)
