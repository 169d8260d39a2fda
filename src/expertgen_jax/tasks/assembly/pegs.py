"""Square pegs and holes, from roomy to Factory's clearance."""

import dataclasses
import functools

import mujoco
import numpy as np

from expertgen_jax import scenes
from expertgen_jax.sim import physics
from expertgen_jax.task import Level, Task
from expertgen_jax.tasks.assembly.fit import Fit, Starts, lateral_tolerance
from expertgen_jax.tasks.assembly.insertion import CONTACT_OBSERVATION, LEAD, OBSERVATION, insertion
from expertgen_jax.tasks.assembly.randomization import RANDOMIZATIONS
from expertgen_jax.tasks.presets import STEER


@dataclasses.dataclass(frozen=True)
class Square:
    """A square peg and its hole (m), without chamfers.

    Attributes:
      half_width: of the peg.
      play: on each side.
      depth: of the hole.
      feels: there is a force-torque sensor at the tip.
      lead: caps the force, see `insertion`.
    """

    half_width: float
    play: float
    depth: float
    feels: bool = True
    lead: float = LEAD

    @property
    def length(self) -> float:
        """From the hand's origin to the tip."""
        return self.depth + 0.020


PEGS = {
    # The tutorial: 20 mm wide, does without a sensor.
    "peg": Square(0.010, 0.00025, 0.020, feels=False),
    # As wide and deep as the pin of `pin_in_block`, without its round tip.
    "peg_flat": Square(0.00345, 0.00035, 0.0478),
    # Factory's clearance: 8.1 mm for 7.986. Pressed with 4 N it sinks 4 um into the walls, with 8 N 6 um.
    "peg_tight": Square(0.003993, 0.000057, 0.025, lead=0.005),
}


def peg(name: str, randomization: Level = "off") -> Task:
    """One of `PEGS`."""
    square = PEGS[name]
    fit = Fit(
        play=square.play,
        depth=square.depth,
        lift=square.depth,
        lateral_tolerance=np.full(2, lateral_tolerance(square.play)),
        yaw_tolerance=np.deg2rad(3.0),
        misjudged=0.0008,
        shape=np.zeros(0),
    )
    fields: dict[str, np.ndarray] = {}
    if randomization != "off":
        wide = dataclasses.replace(square, play=2 * square.play)
        fields = physics.variants([_scene(square).compile(), _scene(wide).compile()])
    return insertion(
        name,
        scene=functools.partial(_scene, square),
        fits=[fit],
        fields={field: rows[:1] for field, rows in fields.items()},
        starts=Starts(),
        observation=OBSERVATION | CONTACT_OBSERVATION if square.feels else OBSERVATION,
        per_play={field: rows[1:] - rows[:1] for field, rows in fields.items()},
        randomization=RANDOMIZATIONS[randomization],
        preset={"steer": STEER} if square.feels else None,
        lead=square.lead,
    )


def _scene(square: Square) -> mujoco.MjSpec:
    spec = scenes.empty_scene()
    length = square.length
    plug = scenes.add_hand(spec).add_body(name="plug", pos=[0, 0, -length], gravcomp=1)
    box = dict(type=mujoco.mjtGeom.mjGEOM_BOX, size=[square.half_width, square.half_width, length / 2])
    plug.add_geom(name="plug", mass=0.02, material="plug", contype=3, conaffinity=0, pos=[0, 0, length / 2], **box)
    plug.add_site(name="tip")
    if square.feels:
        scenes.add_force_torque_sensor(spec, "tip")
    scenes.add_square_hole(spec, square.half_width + square.play, square.depth)
    return spec
