"""A gear goes on its shaft and meshes with its neighbour."""

import dataclasses
import functools

import mujoco
import numpy as np

from expertgen_jax import scenes
from expertgen_jax.scenes import Fitting
from expertgen_jax.sim import physics, robots
from expertgen_jax.sim.robots import RobotName
from expertgen_jax.task import GraspName, Level, Task
from expertgen_jax.tasks.assembly import scripts
from expertgen_jax.tasks.assembly.fit import of_fitting
from expertgen_jax.tasks.assembly.insertion import CONTACT_OBSERVATION, OBSERVATION, SHAPE_OBSERVATION, insertion
from expertgen_jax.tasks.assembly.randomization import RANDOMIZATIONS
from expertgen_jax.tasks.assembly.shapes import PLUG_LENGTH, STARTS

HUB = Fitting("collar", 0.0080, 0.00035, depth=0.0200, lift=0.0205, mass=0.030, height=0.0080, wall=0.004)
"""The gear's bore and its shaft."""
TEETH, RADIUS, TOOTH = 12, 0.015, 0.00170
"""Number; radius of the pitch circle and of a tooth (m). A gear on its axis can turn by 1.9 degrees to either side."""


def gear_on_shaft(randomization: Level = "off", robot: RobotName = "hand", grasp: GraspName = "fixed") -> Task:
    """A gear of 30 mm goes on a shaft of 8 mm and meshes with a fixed gear.

    Task:
        A floating hand holds the gear above the shaft, puts its bore over it and turns it until the teeth of both gears
        mesh, all the way down. The shaft is observed up to 2 mm and 5 degrees off; force and torque are felt at the
        tip.
    Randomisation:
        Every episode draws the shaft's place (within 50 mm of the middle, turned by up to 10 degrees), the gear's start
        (within 20 mm of the axis, tilted and turned by up to 5 degrees) and the errors of what is seen. With
        `--randomization` also friction, the hand's stiffness, the gear's mass and play, how it is held (1 or 3 mm, 0.6
        or 2 degrees off), a jitter of what is seen, errors of the force sensor, and delays of up to 1 or 2
        control steps. With `--grasp held` the gear can slip in the fingers.
    Success:
        The gear is within 1 mm of its assembled height, inside 1.1 times the clearance, tilted by less than 3 degrees,
        for 5 control steps in a row (0.25 s): teeth on teeth stand higher than that.
    """
    fields: dict[str, np.ndarray] = {}
    if randomization != "off":
        wide = dataclasses.replace(HUB, play=2 * HUB.play)
        fields = physics.variants([_scene(fitting, robot, grasp).compile() for fitting in (HUB, wide)])
    task = insertion(
        "gear_on_shaft",
        scene=functools.partial(_scene, HUB, robot, grasp),
        fits=[of_fitting(HUB, misjudged=0.004)],
        fields={field: rows[:1] for field, rows in fields.items()},
        starts=STARTS,
        observation=OBSERVATION | CONTACT_OBSERVATION | SHAPE_OBSERVATION,
        per_play={field: rows[1:] - rows[:1] for field, rows in fields.items()},
        randomization=RANDOMIZATIONS[randomization],
    )
    return dataclasses.replace(task, script=scripts.turning(task.script))


def _scene(hub: Fitting, robot: RobotName, grasp: GraspName) -> mujoco.MjSpec:
    spec = scenes.empty_scene()
    scenes.add_fitting(spec, robots.add(robot, spec), hub, PLUG_LENGTH)
    if grasp == "held":
        scenes.hold(spec)
    scenes.add_force_torque_sensor(spec, "tip")
    scenes.add_gears(spec, TEETH, RADIUS, TOOTH, hub.height)
    return spec
