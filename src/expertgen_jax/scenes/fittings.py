"""What goes into or over what: pins and bores, rings and posts, forks and bars, T-slots.

A fitting is a plug and a socket, each standing on z = 0 of its body; put the two bodies' origins together and it is
assembled. All fittings have the same geoms, in the same order: those that a fitting does not use are parked, tiny,
where nothing meets them. So the models of all fittings differ in numbers only (see `physics.variants`).
"""

import dataclasses
from typing import Literal

import mujoco
import numpy as np

SIDES = 8
"""Boxes in a ring."""
_OVERLAP = 1.1
_CAPSULE, _BOX = mujoco.mjtGeom.mjGEOM_CAPSULE, mujoco.mjtGeom.mjGEOM_BOX
_PIN, _RING, _PRONG = 2, 4, 8  # collision bits of the parts of plugs, and of what they go into; bit 1 is the table


@dataclasses.dataclass(frozen=True)
class Fitting:
    """Sizes of a fitting (m, kg, rad).

    Attributes:
      kind: `pin` (round, in a ring of flats), `collar` (a ring over a round post), `fork` (two cheeks astride a bar)
        or `rail` (a block with a T-slot over a rail).
      width: of what is embraced: diameter of the pin or post, thickness of the bar, width of the rail's head.
      play: on each side.
      depth: of the socket: the travel over which the two embrace each other.
      height: of the plug, for what is not a pin.
      lift: height of the plug above its assembled place at which it is free.
      mass: of the plug.
      wall: thickness of what embraces.
      length: of a fork's cheeks along the bar; together with the play it decides how far the yaw may be off.
    """

    kind: Literal["pin", "collar", "fork", "rail"]
    width: float
    play: float
    depth: float
    lift: float
    mass: float
    height: float = 0.0
    wall: float = 0.006
    length: float = 0.0

    @property
    def yaw_play(self) -> float:
        """How far the plug can turn to either side in the socket; infinite if round."""
        length = {"pin": 0.0, "collar": 0.0, "fork": self.length, "rail": self.width}[self.kind]
        return float(np.arctan(2 * self.play / length)) if length else float("inf")


_Geom = tuple[list[float], list[float]]
"""Position and size."""


def add_fitting(spec: mujoco.MjSpec, hand: mujoco.MjsBody, fitting: Fitting, plug_length: float) -> None:
    """Adds the socket (mocap body `socket`) and, `plug_length` below the hand's origin, the plug (body `plug`)."""
    plug = hand.add_body(name="plug", pos=[0, 0, -plug_length], gravcomp=1)
    plug.explicitinertial, plug.mass, plug.ipos = True, fitting.mass, [0, 0, plug_length / 2]
    plug.inertia = fitting.mass * np.array([4e-4, 4e-4, 1e-4])
    plug.add_site(name="tip")
    socket = spec.worldbody.add_body(name="socket", mocap=True)
    collar = _ring(fitting, fitting.height) if fitting.kind == "collar" else []
    bore = _ring(fitting, fitting.depth) if fitting.kind == "pin" else []
    _add(plug, "pin", _CAPSULE, _PIN, 1, _pin(fitting, plug_length))
    _add(plug, "collar", _BOX, _RING, SIDES, collar)
    _add(plug, "prong", _BOX, _PRONG, 5, _prongs(fitting))
    _add(socket, "bore", _BOX, _PIN, SIDES, bore)
    _add(socket, "post", _CAPSULE, _RING, 1, _post(fitting))
    _add(socket, "rail", _BOX, _PRONG, 2, _rail(fitting))


def _add(body: mujoco.MjsBody, name: str, shape: mujoco.mjtGeom, bit: int, count: int, geoms: list[_Geom]) -> None:
    """Adds `count` geoms; those that the fitting does not use are parked above the hand or below the table."""
    plug = body.name == "plug"
    flags = dict(contype=1 | bit, conaffinity=0) if plug else dict(contype=0, conaffinity=bit)
    for i in range(count):
        parked = [0.0, 0.0, (0.3 if plug else -0.3)], [0.001, 0.001, 0.001]
        pos, size = geoms[i] if i < len(geoms) else parked
        turn = _angle(i) if count == SIDES else 0.0
        body.add_geom(
            name=f"{name}{i}",
            type=shape,
            pos=pos,
            size=size,
            quat=[np.cos(turn / 2), 0, 0, np.sin(turn / 2)],
            material="plug" if plug else "steel",
            mass=0.0,
            **flags,
        )


def _angle(i: int) -> float:
    return 2 * np.pi * i / SIDES


def _pin(fitting: Fitting, length: float) -> list[_Geom]:
    """A capsule with its round tip at z = 0."""
    radius = fitting.width / 2
    return [([0, 0, length / 2], [radius, length / 2 - radius, 0])] if fitting.kind == "pin" else []


def _post(fitting: Fitting) -> list[_Geom]:
    """A capsule with its round top at `depth`, rooted 10 mm below the ground."""
    radius, root = fitting.width / 2, 0.010
    half = (fitting.depth + root) / 2
    return [([0, 0, half - root], [radius, half - radius, 0])] if fitting.kind == "collar" else []


def _ring(fitting: Fitting, height: float) -> list[_Geom]:
    """Boxes around the z axis whose inner faces are `width / 2 + play` away from it."""
    inner = fitting.width / 2 + fitting.play
    outer = inner + fitting.wall
    half_length = _OVERLAP * outer * np.tan(np.pi / SIDES)
    size = [fitting.wall / 2, half_length, height / 2]
    middle = inner + fitting.wall / 2
    return [([middle * np.cos(_angle(i)), middle * np.sin(_angle(i)), height / 2], size) for i in range(SIDES)]


_HEAD, _STEM = 0.0025, 0.0034  # half depths (y) of a rail's head and stem (m)


def _prongs(fitting: Fitting) -> list[_Geom]:
    """Cheeks to both sides; for a T-slot also lips before the head and a back behind it."""
    wall, z = fitting.wall / 2, fitting.height / 2
    x = fitting.width / 2 + fitting.play + wall
    if fitting.kind == "fork":
        return [([side * x, 0, z], [wall, fitting.length / 2, z]) for side in (-1, 1)]
    if fitting.kind != "rail":
        return []
    y, stem = _HEAD + fitting.play + wall, 0.2 * fitting.width + fitting.play
    lip = (x + wall - stem) / 2
    return [
        *(([side * x, 0, z], [wall, y + wall, z]) for side in (-1, 1)),
        *(([side * (stem + lip), -y, z], [lip, wall, z]) for side in (-1, 1)),
        ([0, y, z], [x + wall, wall, z]),
    ]


def _rail(fitting: Fitting) -> list[_Geom]:
    """A bar 40 mm long, or an upright rail of T section, `depth` high."""
    half, z = fitting.width / 2, fitting.depth / 2
    if fitting.kind == "fork":
        return [([0, 0, z], [half, 0.020, z])]
    if fitting.kind != "rail":
        return []
    return [([0, 0, z], [half, _HEAD, z]), ([0, -_HEAD - _STEM, z], [0.4 * half, _STEM, z])]
