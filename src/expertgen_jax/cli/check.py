"""`expertgen check`: the contract of a task, and a trial of its script."""

import dataclasses
import sys
from typing import Annotated

import tyro

from expertgen_jax import bounds
from expertgen_jax.bounds import Count, Seed
from expertgen_jax.cli import command
from expertgen_jax.learning.student import StudentConfig
from expertgen_jax.runs import settings
from expertgen_jax.runs.settings import RunSettings
from expertgen_jax.sim import episode
from expertgen_jax.sim.robots import RobotName
from expertgen_jax.task import GraspName, Level, StartsName
from expertgen_jax.tasks import registry
from expertgen_jax.tasks.check import check_task
from expertgen_jax.tasks.trial import try_task


@dataclasses.dataclass(frozen=True)
class Check:
    """Checks a task: every function once, its preset, then scripted episodes, and what they show of mistakes."""

    task: Annotated[str, tyro.conf.Positional]
    """Name of a task, or path of a task file."""
    randomization: Level = "off"
    """Domain randomisation."""
    robot: RobotName = "hand"
    """What carries the plug or the gripper."""
    starts: StartsName = "own"
    """Where episodes of a task start: its own ranges, or, for the shapes, those of AutoMate."""
    grasp: GraspName = "fixed"
    """How a plug sits in the fingers: as one piece with them, or held by friction, so that it can slip."""
    seed: Seed = 0
    """Which episode is told of."""
    episodes: Count = 64
    """Number of scripted episodes."""


def main(argv: command.Arguments = None) -> None:
    """Runs the command; see `command.run`."""
    command.run("check", Check, check, argv)


def check(args: Check) -> None:
    """Prints what the task is and how its script does; warnings go to stderr."""
    bounds.check(args)
    task = registry.load_task(args.task, args.randomization, args.robot, args.starts, args.grasp)
    if not args.task.endswith(".py"):
        check_task(task)  # that of a file was checked when it was loaded
    settings.check(settings.with_preset(RunSettings(), task.preset or {}), task)
    env = episode.make_env(task, "native")
    observed, known = episode.sizes(env)
    print(
        f"{task.name}: the contract is kept. {observed} numbers observed, {known} more known to critics, "
        f"{task.action_size} in an action; {1 / task.control_dt:g} control steps a second, at most {task.horizon}"
    )
    if task.cameras:
        size = StudentConfig.image_size
        pixels = ", ".join(f"{name} {1000 * view.pixel(size):.1f}" for name, view in task.cameras.items())
        print(f"cameras, mm that a pixel of {size} x {size} covers: {pixels}")
    trial = try_task(env, args.seed, args.episodes)
    print(f"script, episode {args.seed}: {trial.first}")
    print(f"script, {args.episodes} episodes: {trial.success:.1%} succeed")
    for warning in trial.warnings:
        print(f"warning: {warning}", file=sys.stderr)
