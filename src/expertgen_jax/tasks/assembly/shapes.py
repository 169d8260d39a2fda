"""The assembly family: nine shapes of AutoMate (Tang et al. 2024), from pins to a T-slot, in one scene.

Sizes are measured on the public meshes, by asset number; the shapes are built of capsules and boxes. All nine are one
compiled program, of which a shape is data.
"""

import dataclasses
import functools
from typing import Any

import mujoco
import numpy as np

from expertgen_jax import scenes
from expertgen_jax.scenes import Fitting
from expertgen_jax.sim import physics, robots
from expertgen_jax.sim.robots import RobotName
from expertgen_jax.task import GraspName, Level, StartsName, Task
from expertgen_jax.tasks.assembly.fit import Starts, of_fitting
from expertgen_jax.tasks.assembly.insertion import CONTACT_OBSERVATION, OBSERVATION, SHAPE_OBSERVATION, insertion
from expertgen_jax.tasks.assembly.randomization import RANDOMIZATIONS

SHAPES = {
    "pin_in_block": Fitting("pin", 0.00690, 0.00035, depth=0.0478, lift=0.049, mass=0.022),  # 00506
    "pin_in_hub": Fitting("pin", 0.00514, 0.00038, depth=0.0133, lift=0.015, mass=0.011),  # 00783
    "tube_in_tube": Fitting("pin", 0.00570, 0.00030, depth=0.0400, lift=0.041, mass=0.005),  # 00175
    "collar_on_post": Fitting("collar", 0.01030, 0.00048, depth=0.0280, lift=0.028, mass=0.013, height=0.0078),  # 00581
    "bracket_on_post": Fitting(
        "collar", 0.01970, 0.00045, depth=0.0480, lift=0.048, mass=0.094, height=0.0120
    ),  # 00308
    "cap_on_post": Fitting("collar", 0.02400, 0.00050, depth=0.0184, lift=0.019, mass=0.052, height=0.0184),  # 00081
    "clip_on_plate": Fitting(
        "fork", 0.00267, 0.00047, depth=0.0100, lift=0.010, mass=0.012, height=0.014, wall=0.002, length=0.0260
    ),  # 00032
    "clevis_on_bar": Fitting(
        "fork", 0.00977, 0.00045, depth=0.0094, lift=0.021, mass=0.073, height=0.021, wall=0.004, length=0.0135
    ),  # 00703
    "block_on_rail": Fitting(
        "rail", 0.01970, 0.00028, depth=0.0319, lift=0.034, mass=0.086, height=0.0319, wall=0.002
    ),  # 00726
}
SUMMARIES = {
    "pin_in_block": "A round pin of 6.9 mm, 48 mm deep into a block's bore.",
    "pin_in_hub": "A round pin of 5.1 mm into a flat hub.",
    "tube_in_tube": "A thin tube of 5.7 mm, 40 mm deep into another.",
    "collar_on_post": "A collar over a post of 10.3 mm, 28 mm down.",
    "bracket_on_post": "A bracket over a post of 19.7 mm, 48 mm down.",
    "cap_on_post": "A cap over a post of 24 mm.",
    "clip_on_plate": "A clip on a plate 2.7 mm thin, which forgives 2 degrees of yaw.",
    "clevis_on_bar": "A clevis astride a bar of 9.8 mm.",
    "block_on_rail": "A block with a T-slot onto a rail, with 0.28 mm play.",
}
"""Of the tasks, a line each; asset numbers of AutoMate stand at `SHAPES`."""
MISJUDGED = {
    "pin_in_block": 0.004,
    "pin_in_hub": 0.004,
    "tube_in_tube": 0.004,
    "collar_on_post": 0.007,
    "bracket_on_post": 0.010,
    "cap_on_post": 0.012,
    "clip_on_plate": 0.0015,
    "clevis_on_bar": 0.0020,
}
"""How far off (m) the demonstrator believes sockets to be that forgive more than the 0.8 mm of the others."""
PRESETS: dict[str, dict[str, Any]] = {
    "assembly": {
        "demo": {"episodes": 12288, "successes": 3600},
        "steer": {
            "episodes": 131072,
            "patience": 65536,
            "eval_period": 4096,
            "eval_episodes": 1024,
            # One shape in nine may fail in 9 % of its episodes where 99 % succeed in the mean.
            "target": 0.995,
            "confirm_episodes": 4096,
        },
        "eval_episodes": 4608,
    },
}
PLUG_LENGTH = 0.060
"""From the hand's origin to the tip (m)."""
STARTS = Starts(socket_yaw=float(np.deg2rad(10.0)), yaw_error=float(np.deg2rad(5.0)))
AUTOMATE = Starts(
    socket_height=0.100,
    socket_yaw=float(np.deg2rad(10.0)),
    above=0.047,
    lateral=0.010,
    yaw=float(np.deg2rad(45.0)),
    angle=0.0,
    socket_error=0.001,
)
"""What Isaac Lab's AutoMate draws; heights, of 50 mm to either side there, count from the lowest here."""
AUTOMATE_FRICTION = (0.75, 1.0)


def shape(
    name: str,
    randomization: Level = "off",
    robot: RobotName = "hand",
    starts: StartsName = "own",
    grasp: GraspName = "fixed",
) -> Task:
    """A part goes into, or over, another: one of `SHAPES`.

    Task:
        A floating hand holds the part above its counterpart, a bore, a post, a plate, a bar or a rail, and puts the two
        together. The counterpart is observed up to 2 mm and 5 degrees off; force and torque are felt at the tip.
    Randomisation:
        Every episode draws the counterpart's place (within 50 mm of the middle, turned by up to 10 degrees), the part's
        start (within 20 mm of the axis, tilted and turned by up to 5 degrees) and the errors of what is seen. With
        `--randomization` also friction, the hand's stiffness, the part's mass and play, how it is held (1 or 3 mm, 0.6
        or 2 degrees off), a jitter of what is seen, errors of the force sensor, and delays of up to 1 or 2
        control steps. With `--grasp held` the part can slip in the fingers. With `--starts automate` what AutoMate
        draws in Isaac Lab: the part 47 mm above, turned by up to 45 degrees, the table and the counterpart up to 100 mm
        high, seen 1 mm off, friction from 0.75 to 1.
    Success:
        The part is within 1 mm, or 4 % of the depth, of its assembled height, inside 1.1 times the clearance (2.5 mm
        along a plate or bar, where nothing holds it), tilted by less than 3 degrees and turned within 1.1 times what
        the clearance allows, for 5 control steps in a row (0.25 s).
    """
    return _task(name, (name,), randomization, robot, starts, grasp)


def assembly(
    randomization: Level = "off", robot: RobotName = "hand", starts: StartsName = "own", grasp: GraspName = "fixed"
) -> Task:
    """All nine shapes at once, for one policy that is told which it holds: the generalist's task.

    Task:
        As of the nine shapes, from `pin_in_block` to `block_on_rail`; each episode is one of them. The observation
        tells the kind of the fitting and its sizes.
    Randomisation:
        The shape, and what each shape draws by itself.
    Success:
        As of the shape.
    """
    return _task("assembly", tuple(SHAPES), randomization, robot, starts, grasp)


def _task(
    name: str, shapes: tuple[str, ...], randomization: Level, robot: RobotName, starts: StartsName, grasp: GraspName
) -> Task:
    rows = [list(SHAPES).index(shape) for shape in shapes]
    fields, per_play = ({field: values[rows] for field, values in table.items()} for table in _fields(robot, grasp))
    fits = [of_fitting(SHAPES[x], MISJUDGED.get(x, 0.0008)) for x in shapes]
    scene = functools.partial(_scene, SHAPES["pin_in_block"], robot, grasp)
    begin, ranges = STARTS, RANDOMIZATIONS[randomization]
    if starts == "automate":
        begin, ranges = AUTOMATE, dataclasses.replace(ranges, friction=AUTOMATE_FRICTION)
    return insertion(
        name,
        scene=scene,
        fits=fits,
        fields=fields,
        starts=begin,
        observation=OBSERVATION | CONTACT_OBSERVATION | SHAPE_OBSERVATION,
        per_play=per_play,
        randomization=ranges,
        variants=shapes,
        preset=PRESETS.get(name),
    )


@functools.cache
def _fields(
    robot: RobotName = "hand", grasp: GraspName = "fixed"
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Model fields of every shape, and by how much they grow where the play doubles: sizes are linear in it."""
    fittings = list(SHAPES.values())
    wide = [dataclasses.replace(fitting, play=1.5 * fitting.play) for fitting in fittings]
    both = physics.variants([_scene(fitting, robot, grasp).compile() for fitting in fittings + wide])
    nominal = {name: rows[: len(fittings)] for name, rows in both.items()}
    return nominal, {name: 2 * (rows[len(fittings) :] - nominal[name]) for name, rows in both.items()}


def _scene(fitting: Fitting, robot: RobotName = "hand", grasp: GraspName = "fixed") -> mujoco.MjSpec:
    spec = scenes.empty_scene()
    # Where sizes differ from world to world, a tree of bounding boxes made for one of them leads astray.
    spec.option.disableflags |= mujoco.mjtDisableBit.mjDSBL_MIDPHASE
    scenes.add_fitting(spec, robots.add(robot, spec), fitting, PLUG_LENGTH)
    if grasp == "held":
        scenes.hold(spec)
    scenes.add_force_torque_sensor(spec, "tip")
    return spec
