"""What an expert of the hand is worth to the arm: time to 95 % with `--init-from` and from nothing.

    python benchmarks/init_from.py --tasks peg pin_in_block lift_banana

Three runs a task: the hand's, the arm's that goes on from it, and the arm's from nothing. Times are of demonstrations,
prior, and steering until the first expert that succeeds so often on the episodes by which steering is judged.
"""

import dataclasses
from pathlib import Path
from typing import Any

from expertgen_jax import bounds, load_run
from expertgen_jax.bounds import Seed, Share
from expertgen_jax.cli import command
from expertgen_jax.files import write_json
from expertgen_jax.runs.provenance import provenance
from expertgen_jax.runs.reproduction import run_once


@dataclasses.dataclass(frozen=True)
class InitFrom:
    """Time to an expert on the arm, from one of the hand's and from nothing."""

    tasks: tuple[str, ...] = ("peg", "pin_in_block", "lift_banana")
    """Names of tasks or paths to task files."""
    success: Share = 0.95
    """Success to be reached."""
    seed: Seed = 1
    """Of the runs."""
    runs: Path = Path("runs/init_from")
    """Folder of the runs; finished ones are not redone."""
    out: Path = Path("results/init_from.json")
    """JSON file for the figures."""


def main(args: InitFrom) -> None:
    bounds.check(args)
    command.prepare(args.out)
    rows = []
    for task in args.tasks:
        hand, nothing, carried = (
            args.runs / f"{Path(task).stem}-{name}-{args.seed}" for name in ("hand", "panda", "panda-from-hand")
        )
        flags = ("--task", task, "--seed", str(args.seed), "--physics", "native")
        arm = (*flags, "--robot", "panda")
        run_once("steer", hand, *flags, "--run-dir", str(hand))
        run_once("steer", carried, *arm, "--init-from", str(hand), "--run-dir", str(carried))
        run_once("steer", nothing, *arm, "--run-dir", str(nothing))
        found = {"from nothing": reached(nothing, args.success), "from the hand's": reached(carried, args.success)}
        rows.append({"task": task, **found})
        print(rows[-1], flush=True)
        write_json(args.out, {"success": args.success, "seed": args.seed, **provenance(), "rows": rows})


def reached(run_dir: Path, success: float) -> dict[str, Any]:
    """When steering reached that success, and what the expert came to in the end."""
    run = load_run(run_dir)
    rows = run.directory.rows()
    steered = [row for row in rows if row["phase"] == "steer"]
    first = next((row for row in steered if row.get("success", 0.0) >= success), None)
    demos = next(row["wall_s"] for row in rows if row["phase"] == "demos")
    prior = max((row["wall_s"] for row in rows if row["phase"] == "pretrain"), default=0.0)
    return {
        "episodes": first and first["train_episodes"],
        "seconds": first and demos + prior + first["compile_s"] + first["wall_s"],
        "expert": run.evaluation(run.agent("expert"))["success"],
    }


if __name__ == "__main__":
    command.run("init_from", InitFrom, main, None)
