"""A gear goes on its shaft and meshes with its neighbour."""

import dataclasses

import mujoco
import numpy as np

from expertgen_jax import scenes
from expertgen_jax.scenes import Fitting
from expertgen_jax.sim import physics
from expertgen_jax.task import Level, Task
from expertgen_jax.tasks.assembly import scripts
from expertgen_jax.tasks.assembly.fit import of_fitting
from expertgen_jax.tasks.assembly.insertion import CONTACT_OBSERVATION, OBSERVATION, SHAPE_OBSERVATION, insertion
from expertgen_jax.tasks.assembly.randomization import RANDOMIZATIONS
from expertgen_jax.tasks.assembly.shapes import EASY, PLUG_LENGTH, STARTS

HUB = Fitting("collar", 0.0080, 0.00035, depth=0.0200, lift=0.0205, mass=0.030, height=0.0080, wall=0.004)
"""The gear's bore and its shaft."""
TEETH, RADIUS, TOOTH = 12, 0.015, 0.00170
"""Number; radius of the pitch circle and of a tooth (m). A gear on its axis can turn by 1.9 degrees to either side."""


def gear_on_shaft(randomization: Level = "off") -> Task:
    """A gear of 30 mm pitch diameter goes on a shaft of 8 mm and meshes with a fixed gear."""
    fields: dict[str, np.ndarray] = {}
    if randomization != "off":
        wide = dataclasses.replace(HUB, play=2 * HUB.play)
        fields = physics.variants([_scene(fitting).compile() for fitting in (HUB, wide)])
    task = insertion(
        "gear_on_shaft",
        scene=_scene,
        fits=[of_fitting(HUB, misjudged=0.004)],
        fields={field: rows[:1] for field, rows in fields.items()},
        starts=STARTS,
        observation=OBSERVATION | CONTACT_OBSERVATION | SHAPE_OBSERVATION,
        per_play={field: rows[1:] - rows[:1] for field, rows in fields.items()},
        randomization=RANDOMIZATIONS[randomization],
        preset=EASY,
    )
    return dataclasses.replace(task, script=scripts.turning(task.script))


def _scene(hub: Fitting = HUB) -> mujoco.MjSpec:
    spec = scenes.empty_scene()
    scenes.add_fitting(spec, scenes.add_hand(spec), hub, PLUG_LENGTH)
    scenes.add_force_torque_sensor(spec, "tip")
    scenes.add_gears(spec, TEETH, RADIUS, TOOTH, hub.height)
    return spec
