"""A bowl."""

import mujoco
import numpy as np

from expertgen_jax.scenes.furniture import add_fixed

BOWL_RIM = 0.035
"""Height of the rim (m)."""
BOWL_RADIUS = 0.060
"""Inside, at the rim (m); at the bottom two thirds of it."""
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
        size = [_WALL, top * np.tan(np.pi / _SIDES) + _WALL, half]
        add_fixed(body, f"bowl{i}", [middle * np.cos(angle), middle * np.sin(angle), BOWL_RIM / 2], size, quat)
    add_fixed(body, "bowl_base", [0, 0, _WALL / 2], [bottom, bottom, _WALL / 2])
    return body
