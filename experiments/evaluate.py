"""Evaluates a policy of a run on the fixed evaluation episodes, on any back end.

python experiments/evaluate.py --run-dir runs/peg-0 --policy expert --physics mjx
"""

import dataclasses
from pathlib import Path
from typing import Literal

from expertgen_jax.cli import command
from expertgen_jax.runs import distillation, pipeline, report, runlog
from expertgen_jax.sim import physics
from expertgen_jax.task import Level


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """Evaluates a policy of a run on the fixed evaluation episodes, on any back end."""

    run_dir: Path
    """The run; its evaluations.json gets the figures."""
    policy: Literal["script", "strong_script", "prior", "expert", "student"] = "expert"
    """Which of the run's policies."""
    student: str = "depth"
    """Which of its students, by name."""
    visual: Level = "off"
    """Visual randomisation of what the student sees."""
    episodes: int = 1024
    """Fresh episodes; the first n of a fixed series."""
    physics: Literal["auto", "mjx", "warp", "native"] = "auto"
    """Engine; auto is mjx on an accelerator and else native."""


def main(args: Evaluate) -> None:
    runlog.check_settings(args)
    phases = pipeline.reopen_phases(args.run_dir, physics.resolve(args.physics))
    if args.policy == "student":
        figures = distillation.reopen(phases, args.student).evaluation(args.visual, args.episodes)
    else:
        figures = phases.evaluation(args.policy, *phases.needed(args.policy), episodes=args.episodes)
    print(report.results_table([figures]), report.pose_table(figures), sep="\n\n")


if __name__ == "__main__":
    command.run(Evaluate, main)
