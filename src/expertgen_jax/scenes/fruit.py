"""Things to grasp, free on the table: built of boxes, capsules and spheres that every back end can collide."""

import itertools

import mujoco
import numpy as np

BANANA_RADIUS, PEACH_RADIUS = 0.017, 0.032
BRICK = (0.030, 0.020, 0.050)
"""Half sizes (m)."""


def add_banana(spec: mujoco.MjSpec, name: str) -> mujoco.MjsBody:
    """Four capsules on an arc of 180 mm, 120 g; it lies on the table at z = 17 mm, thinnest along its y axis."""
    radius, spread = 0.12, 0.75  # of the arc (m, rad)
    ends = np.linspace(-spread, spread, 5)
    points = np.stack([radius * np.sin(ends), radius * np.cos(ends) - radius * np.cos(spread / 2), 0 * ends], axis=1)
    body = add_free(spec, name, BANANA_RADIUS)
    for i, (a, b) in enumerate(itertools.pairwise(points)):
        add_solid(body, f"{name}{i}", mujoco.mjtGeom.mjGEOM_CAPSULE, [BANANA_RADIUS, 0, 0], 0.03, fromto=[*a, *b])
    return body


def add_brick(spec: mujoco.MjSpec, name: str) -> mujoco.MjsBody:
    """A box of 60 x 40 x 100 mm, 250 g, upright."""
    body = add_free(spec, name, BRICK[2])
    add_solid(body, name, mujoco.mjtGeom.mjGEOM_BOX, BRICK, 0.25)
    return body


def add_peach(spec: mujoco.MjSpec, name: str) -> mujoco.MjsBody:
    """A ball of 64 mm, 130 g, that rolls."""
    body = add_free(spec, name, PEACH_RADIUS)
    add_solid(body, name, mujoco.mjtGeom.mjGEOM_SPHERE, [PEACH_RADIUS, 0, 0], 0.13)
    return body


def add_free(spec: mujoco.MjSpec, name: str, height: float, damping: float = 0.0) -> mujoco.MjsBody:
    """A body that moves freely; `damping` brings to rest what rolls (N m s/rad)."""
    body = spec.worldbody.add_body(name=name, pos=[0, 0, height])
    body.add_joint(name=name, type=mujoco.mjtJoint.mjJNT_FREE, damping=damping)
    return body


def add_solid(
    body: mujoco.MjsBody, name: str, shape: mujoco.mjtGeom, size: list[float] | tuple[float, ...], mass: float, **where
) -> None:
    """Adds a geom that collides with the table, pads, bowls, and other things."""
    body.add_geom(name=name, type=shape, size=size, mass=mass, material="plug", contype=3, conaffinity=1, **where)
