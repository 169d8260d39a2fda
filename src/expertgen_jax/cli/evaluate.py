"""`expertgen evaluate`: a policy of a run on the evaluation episodes."""

import dataclasses
from pathlib import Path
from typing import Literal

from expertgen_jax import bounds
from expertgen_jax.bounds import Count
from expertgen_jax.cli import command
from expertgen_jax.errors import UserError
from expertgen_jax.runs import tables
from expertgen_jax.runs.opening import load_run
from expertgen_jax.runs.student import Renderer, load_student
from expertgen_jax.sim import physics
from expertgen_jax.task import Level


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """Evaluates a policy of a run on the fixed evaluation episodes, on any physics engine."""

    run_dir: Path
    """Run directory; its evaluations.json keeps the figures."""
    policy: Literal["script", "strong_script", "prior", "expert", "student"] = "expert"
    """Which policy of the run."""
    student: str | None = None
    """Which student, by name; may be left out where the run has one only."""
    randomization: Level | None = None
    """Domain randomisation of the physics to evaluate under; by default that of the run."""
    visual: Level = "off"
    """Visual randomisation of what the student sees."""
    renderer: Renderer = "rays"
    """What draws the pictures that the student sees: the rays with which it was trained, or MuJoCo's own renderer
    (opengl), with other light, shadows and edges."""
    episodes: Count = 1024
    """Number of episodes: the first of a fixed series."""
    physics: Literal["auto", "mjx", "warp", "native"] = "auto"
    """Physics engine; by default mjx where there is an accelerator, else native."""


def main(argv: command.Arguments = None) -> None:
    """Runs the command; see `command.run`."""
    command.run("evaluate", Evaluate, evaluate, argv)


def evaluate(args: Evaluate) -> None:
    """Evaluates the policy, unless that was done before, and prints the figures."""
    bounds.check(args)
    run = load_run(args.run_dir, physics.resolve(args.physics))
    if args.policy == "student":
        if args.randomization not in (None, run.settings.randomization):
            raise UserError("--randomization: students are evaluated under the randomisation of their run")
        figures = load_student(run, args.student).evaluation(args.visual, args.episodes, renderer=args.renderer)
    else:
        figures = run.evaluation(run.agent(args.policy), episodes=args.episodes, randomization=args.randomization)
    print("\n\n".join(filter(None, (tables.results([figures]), tables.final_poses(figures)))))
