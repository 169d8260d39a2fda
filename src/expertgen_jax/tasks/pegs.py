"""Square pegs and holes, from roomy to Factory's clearance."""

import mujoco
import numpy as np

from expertgen_jax import physics, scenes
from expertgen_jax.task import Task
from expertgen_jax.tasks.fit import Fit, Starts, lateral_tolerance
from expertgen_jax.tasks.insertion import CONTACT_OBSERVATION, OBSERVATION, insertion
from expertgen_jax.tasks.randomization import RANDOMIZATIONS, Name


def peg(randomization: Name = "off") -> Task:
    """Square peg, 20 mm wide and 20 mm deep, 0.25 mm play a side, no chamfer."""
    return square("peg", 0.010, 0.00025, 0.020, randomization)


def peg_flat(randomization: Name = "off") -> Task:
    """Square peg, 6.9 mm wide and 48 mm deep, 0.35 mm play: the pin of `pin_in_block` without its round tip."""
    return square("peg_flat", 0.00345, 0.00035, 0.0478, randomization, feels=True)


def peg_tight(randomization: Name = "off") -> Task:
    """Square peg, 8 mm wide and 25 mm deep, with Factory's clearance: 0.114 mm on the width."""
    return square("peg_tight", 0.003993, 0.000057, 0.025, randomization, feels=True)


def square(name: str, half_width: float, play: float, depth: float, randomization: Name, feels: bool = False) -> Task:
    """A square peg and a square hole (m); what `feels` has a force-torque sensor."""
    length = depth + 0.020  # from the hand's origin to the tip

    def scene(play: float = play) -> mujoco.MjSpec:
        spec = scenes.empty_scene()
        plug = scenes.add_hand(spec).add_body(name="plug", pos=[0, 0, -length], gravcomp=1)
        box = dict(type=mujoco.mjtGeom.mjGEOM_BOX, size=[half_width, half_width, length / 2], pos=[0, 0, length / 2])
        plug.add_geom(name="plug", mass=0.02, material="plug", contype=3, conaffinity=0, **box)
        plug.add_site(name="tip")
        if feels:
            scenes.add_force_torque_sensor(spec, "tip")
        scenes.add_square_hole(spec, half_width + play, depth)
        return spec

    fit = Fit(
        play=play,
        depth=depth,
        lift=depth,
        lateral_tolerance=np.full(2, lateral_tolerance(play)),
        yaw_tolerance=np.deg2rad(3.0),
        misjudged=0.0008,
        shape=np.zeros(0),
    )
    fields: dict[str, np.ndarray] = {}
    if randomization != "off":
        fields = physics.variants([scene().compile(), scene(2 * play).compile()])
    return insertion(
        name,
        scene,
        [fit],
        {field: rows[:1] for field, rows in fields.items()},
        Starts(),
        OBSERVATION | CONTACT_OBSERVATION if feels else OBSERVATION,
        {field: rows[1:] - rows[:1] for field, rows in fields.items()},
        RANDOMIZATIONS[randomization],
    )
