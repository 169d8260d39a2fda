"""`expertgen reproduce`: the figures that the documentation quotes."""

import dataclasses
import itertools
from pathlib import Path
from typing import Annotated, Literal

import tyro

from expertgen_jax import bounds
from expertgen_jax.bounds import Count, Seed
from expertgen_jax.cli import command
from expertgen_jax.errors import UserError
from expertgen_jax.files import write_json
from expertgen_jax.runs import figures, reproduction
from expertgen_jax.sim import physics
from expertgen_jax.sim.robots import RobotName
from expertgen_jax.task import GraspName, Level, StartsName
from expertgen_jax.tasks.registry import TASKS, USUAL


@dataclasses.dataclass(frozen=True)
class Reproduce:
    """Makes the figures that the documentation quotes.

    For every task and seed it runs `expertgen steer` as a person would, then evaluates the script, the prior and the
    expert, the expert on both physics engines. For `distillation` it then makes students with `expertgen distill`. For
    `ablation` it varies how noise is steered. Finished runs are not redone; interrupted ones go on.
    """

    experiment: Annotated[Literal["peg", "assembly", "distillation", "tabletop", "ablation"], tyro.conf.Positional]
    """What to reproduce."""
    seeds: tuple[Seed, ...] = (1, 2, 3)
    """Random seeds of the runs, on which nothing was tuned; the evaluation episodes are always the same."""
    randomization: Level = "off"
    """Domain randomisation of the physics, in training and evaluation."""
    robot: RobotName = "hand"
    """What carries the plug or the gripper."""
    starts: StartsName = "own"
    """Where episodes start: the tasks' own ranges, or, for the shapes, those of AutoMate in Isaac Lab."""
    grasp: GraspName = "fixed"
    """How a plug sits in the fingers: as one piece with them, or held by friction, so that it can slip."""
    tasks: tuple[str, ...] = ()
    """Some of the experiment's tasks; all of them by default."""
    students: tuple[str, ...] = ()
    """Students of `distillation` by name; by default those that see depth, colour, points and nothing."""
    episodes: Count | None = None
    """Training episodes of each run; each task's own number by default."""
    transfer_episodes: Count = 256
    """Number of episodes on the other physics engine, and of students on the other renderer."""
    physics: Literal["auto", "mjx", "warp", "native"] = "auto"
    """Physics engine to train on; by default mjx where there is an accelerator, else native."""
    runs: Path = Path("runs")
    """Folder of the run directories."""
    out: Path | None = None
    """JSON file for the figures; by default results/EXPERIMENT.json, with robot, starts, grasp and randomisation in its
    name where they are not hand, own, fixed and off. What it holds of other tasks and seeds stays; pictures go beside
    it."""


def main(argv: command.Arguments = None) -> None:
    """Runs the command; see `command.run`."""
    command.run("reproduce", Reproduce, reproduce, argv)


def reproduce(args: Reproduce) -> None:
    """Makes the runs one after another and writes the figures of those that are done."""
    bounds.check(args)
    backend = physics.resolve(args.physics)
    chosen = {"starts": args.starts, "grasp": args.grasp}
    made_of: dict[str, str] = {"randomization": args.randomization, "robot": args.robot, **chosen}
    usual = {"randomization": "off", "robot": "hand", **USUAL}
    suffix = "".join(f"_{made_of[name]}" for name in ("robot", *USUAL, "randomization") if made_of[name] != usual[name])
    out = args.out or Path("results") / f"{args.experiment}{suffix}.json"
    command.prepare(out)
    options = ["--physics", backend, *itertools.chain(*((f"--{name}", value) for name, value in made_of.items()))]
    options += [] if args.episodes is None else ["--steer.episodes", str(args.episodes)]
    settings = {"experiment": args.experiment, "physics": backend, **made_of}
    rows, students = reproduction.stored(out, settings)
    variants = {"": (), **(reproduction.STEERINGS if args.experiment == "ablation" else {})}
    names = args.students or tuple(reproduction.STUDENTS)
    if unknown := set(names) - {*reproduction.STUDENTS, *reproduction.VARIANTS}:
        known = ", ".join((*reproduction.STUDENTS, *reproduction.VARIANTS))
        raise UserError(f"--students {min(unknown)}: choose of {known}")
    able = [task for task in reproduction.EXPERIMENTS[args.experiment] if not any(TASKS[task].refused(chosen))]
    if not (tasks := args.tasks or able):
        raise UserError(f"reproduce {args.experiment}: none of its tasks has a choice of {' and '.join(chosen)}")
    for seed, task, (name, flags) in itertools.product(args.seeds, tasks, variants.items()):
        run_dir = args.runs / f"{task}-{backend}{suffix.replace('_', '-')}{f'-{name}' if name else ''}-{seed}"
        row = reproduction.reproduce(task, seed, [*options, *flags], run_dir, args.transfer_episodes)
        rows = reproduction.with_row(rows, row | ({"name": name} if name else {}))
        write_json(out, settings | {"runs": rows} | ({"students": students} if students else {}))
        if args.experiment == "distillation":
            for row in reproduction.distill(task, seed, run_dir, names, args.transfer_episodes):
                students = reproduction.with_row(students, row)
                write_json(out, settings | {"runs": rows, "students": students})
    if curves := reproduction.budget_curves([row for row in students if row["seed"] == args.seeds[0]]):
        figures.budgets(curves, out.with_name(f"{out.stem}_budgets.png"))
    for rule, interval in (("success", "ci95"), ("success_lenient", "ci95_lenient")):
        groups = reproduction.bar_groups(rows, rule, interval)
        if any(groups.values()):  # tasks on the table have no lenient rule
            figures.bars(groups, out.with_name(f"{out.stem}_{rule}.png"))
    print(f"wrote {out}")
