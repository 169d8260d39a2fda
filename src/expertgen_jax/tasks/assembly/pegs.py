"""Square pegs and holes, from roomy to Factory's clearance."""

import dataclasses
import functools

import mujoco
import numpy as np

from expertgen_jax import scenes
from expertgen_jax.sim import physics, robots
from expertgen_jax.sim.robots import RobotName
from expertgen_jax.task import GraspName, Level, Task
from expertgen_jax.tasks.assembly.fit import Fit, Starts, lateral_tolerance
from expertgen_jax.tasks.assembly.insertion import CONTACT_OBSERVATION, LEAD, OBSERVATION, insertion
from expertgen_jax.tasks.assembly.randomization import RANDOMIZATIONS


@dataclasses.dataclass(frozen=True)
class Square:
    """A square peg and its hole (m), without chamfers.

    Attributes:
      summary: of the task, in a line.
      half_width: of the peg.
      play: on each side.
      depth: of the hole.
      feels: there is a force-torque sensor at the tip.
      lead: caps the force, see `insertion`.
    """

    summary: str
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
    "peg": Square(
        "A square peg of 20 mm into a hole with 0.25 mm play a side; the tutorial, without a force sensor.",
        *(0.010, 0.00025, 0.020),
        feels=False,
    ),
    "peg_flat": Square(
        "A square peg of 6.9 mm, as long and thin as the pin of pin_in_block, but without its round tip.",
        *(0.00345, 0.00035, 0.0478),
    ),
    # Pressed with 4 N it sinks 4 um into the walls, with 8 N 6 um.
    "peg_tight": Square(
        "A square peg of 7.986 mm into a hole of 8.1 mm, the clearance of Factory.",
        *(0.003993, 0.000057, 0.025),
        lead=0.005,
    ),
}


def peg(name: str, randomization: Level = "off", robot: RobotName = "hand", grasp: GraspName = "fixed") -> Task:
    """A square peg goes into a square hole. One of `PEGS`.

    Task:
        A floating hand holds the peg some millimetres above a block and puts it into the block's hole, down to the
        bottom. The hole is observed up to 2 mm beside its true place, so that the peg usually lands on the rim first.
    Randomisation:
        Every episode draws the block's place (within 50 mm of the middle), the peg's start (within 20 mm of the hole's
        axis, tilted and turned by up to 5 degrees) and the error of what is seen. With `--randomization` also friction,
        the hand's stiffness, the peg's mass and play, how it is held (1 or 3 mm, 0.6 or 2 degrees off), a jitter
        of what is seen, errors of the force sensor, and delays of up to 1 or 2 control steps. With `--grasp held` the
        peg can slip in the fingers.
    Success:
        The tip is within 1 mm, or 4 % of the depth, of the hole's bottom, inside 1.1 times the clearance, tilted by
        less than 3 degrees and turned by at most 3, for 5 control steps in a row (0.25 s).
    """
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
        fields = physics.variants([_scene(size, robot, grasp).compile() for size in (square, wide)])
    return insertion(
        name,
        scene=functools.partial(_scene, square, robot, grasp),
        fits=[fit],
        fields={field: rows[:1] for field, rows in fields.items()},
        starts=Starts(),
        observation=OBSERVATION | CONTACT_OBSERVATION if square.feels else OBSERVATION,
        per_play={field: rows[1:] - rows[:1] for field, rows in fields.items()},
        randomization=RANDOMIZATIONS[randomization],
        lead=square.lead,
    )


def _scene(square: Square, robot: RobotName, grasp: GraspName) -> mujoco.MjSpec:
    spec = scenes.empty_scene()
    length = square.length
    plug = robots.add(robot, spec).add_body(name="plug", pos=[0, 0, -length], gravcomp=1)
    box = dict(type=mujoco.mjtGeom.mjGEOM_BOX, size=[square.half_width, square.half_width, length / 2])
    plug.add_geom(name="plug", mass=0.02, material="plug", contype=3, conaffinity=0, pos=[0, 0, length / 2], **box)
    plug.add_site(name="tip")
    if grasp == "held":
        scenes.hold(spec)
    if square.feels:
        scenes.add_force_torque_sensor(spec, "tip")
    scenes.add_square_hole(spec, square.half_width + square.play, square.depth)
    return spec
