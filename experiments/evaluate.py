"""Evaluates a policy of a run on the fixed evaluation episodes, on any back end.

python experiments/evaluate.py --run-dir runs/peg-0 --policy expert --physics mjx
"""

import dataclasses
from pathlib import Path
from typing import Literal

from expertgen_jax import command, physics, pipeline, runlog
from expertgen_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """Evaluates a policy of a run on the fixed evaluation episodes, on any back end."""

    run_dir: Path
    """The run; its evaluations.json gets the figures."""
    policy: Literal["script", "strong_script", "prior", "expert"] = "expert"
    """Which of the run's policies."""
    episodes: int = 1024
    """Fresh episodes; the first n of a fixed series."""
    physics: Literal["auto", "mjx", "warp", "native"] = "auto"
    """Engine; auto is mjx on an accelerator and else native."""


def main(args: Evaluate) -> None:
    runlog.check_settings(args)
    phases = pipeline.reopen_phases(args.run_dir, physics.resolve(args.physics))
    try:
        prior = phases.finished_prior() if args.policy in ("prior", "expert") else None
        expert = phases.finished_expert(prior) if prior is not None and args.policy == "expert" else None
    except FileNotFoundError as error:
        raise UserError(f"--run-dir {args.run_dir} holds no {args.policy} yet: finish steer.py first") from error
    figures = phases.evaluation(args.policy, prior, expert, episodes=args.episodes)
    print(pipeline.results_table([figures]), pipeline.pose_table(figures), sep="\n\n")


if __name__ == "__main__":
    command.run(Evaluate, main)
