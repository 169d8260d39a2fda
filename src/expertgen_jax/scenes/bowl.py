"""A bowl, and a strawberry to put into it."""

import mujoco
import numpy as np

from expertgen_jax.scenes.fruit import add_free, add_solid

BOWL_RIM = 0.035
"""Height of the rim (m)."""
BOWL_RADIUS = 0.060
"""Inside, at the rim (m); at the bottom two thirds of it."""
STRAWBERRY_RADIUS = 0.015
_WALL = 0.004  # half thickness (m)
_SIDES = 8


def add_bowl(spec: mujoco.MjSpec) -> mujoco.MjsBody:
    """A ring of tilted boxes on a base, that nothing moves: the mocap body `bowl`, its origin on the table."""
    body = spec.worldbody.add_body(name="bowl", mocap=True)
    top, bottom = BOWL_RADIUS, BOWL_RADIUS * 2 / 3
    slope = np.arctan2(top - bottom, BOWL_RIM)
    middle, half = (top + bottom) / 2 + _WALL, np.hypot(top - bottom, BOWL_RIM) / 2
    for i in range(_SIDES):
        angle = 2 * np.pi * i / _SIDES
        quat = np.zeros(4)
        mujoco.mju_euler2Quat(quat, np.array([angle, slope, 0.0]), "zyx")
        _part(body, f"bowl{i}", [middle * np.cos(angle), middle * np.sin(angle), BOWL_RIM / 2], quat, [
            _WALL, top * np.tan(np.pi / _SIDES) + _WALL, half,
        ])  # fmt: skip
    _part(body, "bowl_base", [0, 0, _WALL / 2], [1.0, 0, 0, 0], [bottom, bottom, _WALL / 2])
    return body


def add_strawberry(spec: mujoco.MjSpec, name: str) -> mujoco.MjsBody:
    """Two balls, of 15 and 11 mm radius, one behind the other along its x axis; 20 g; soft, so that it soon rests."""
    body = add_free(spec, name, STRAWBERRY_RADIUS, damping=5e-5)
    add_solid(body, name, mujoco.mjtGeom.mjGEOM_SPHERE, [STRAWBERRY_RADIUS, 0, 0], 0.014)
    add_solid(body, f"{name}_tip", mujoco.mjtGeom.mjGEOM_SPHERE, [0.011, 0, 0], 0.006, pos=[0.012, 0, 0])
    return body


def _part(body: mujoco.MjsBody, name: str, pos: list[float], quat: object, size: list[float]) -> None:
    body.add_geom(
        name=name,
        type=mujoco.mjtGeom.mjGEOM_BOX,
        pos=pos,
        quat=quat,
        size=size,
        material="steel",
        contype=0,
        conaffinity=2,
    )
