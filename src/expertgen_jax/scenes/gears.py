"""Two gears that mesh: one on the hand, one that stands fixed beside the shaft."""

import mujoco
import numpy as np

_CAPSULE = mujoco.mjtGeom.mjGEOM_CAPSULE
_TEETH = 16  # collision bit
_REACH = np.deg2rad(50.0)  # of the line between the axes: teeth further round it never meet


def add_gears(spec: mujoco.MjSpec, teeth: int, radius: float, tooth: float, thickness: float) -> None:
    """Adds teeth to the body `plug`, and to `socket` a gear like it, `2 radius` along x, into whose gaps they fit.

    Both bodies must be there (`add_joint`). Teeth are upright capsules; their round ends lead into the gaps.

    Args:
      spec: the scene.
      teeth: of each gear.
      radius: of the circle on which the teeth's axes stand (m).
      tooth: radius of a tooth (m).
      thickness: of the gears (m).
    """
    for name, axis, towards, phase in (("plug", 0.0, 0.0, 0.0), ("socket", 2 * radius, np.pi, np.pi / teeth)):
        flags = dict(contype=_TEETH, conaffinity=0) if name == "plug" else dict(contype=0, conaffinity=_TEETH)
        body = spec.body(name)
        for i in range(teeth):
            angle = 2 * np.pi * i / teeth + phase
            meets = abs(np.angle(np.exp(1j * (angle - towards)))) < _REACH
            body.add_geom(
                name=f"{name}_tooth{i}",
                type=_CAPSULE,
                pos=[axis + radius * np.cos(angle), radius * np.sin(angle), thickness / 2],
                size=[tooth, thickness / 2 - tooth, 0],
                material="plug" if name == "plug" else "steel",
                mass=0.0,
                **(flags if meets else dict(contype=0, conaffinity=0)),
            )
        body.add_geom(
            name=f"{name}_wheel",
            type=mujoco.mjtGeom.mjGEOM_CYLINDER,
            pos=[axis, 0, thickness / 2],
            size=[radius - tooth, 0.3 * thickness, 0],
            material="plug" if name == "plug" else "steel",
            mass=0.0,
            contype=0,
            conaffinity=0,
        )
