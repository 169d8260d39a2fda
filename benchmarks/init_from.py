"""What an expert of the hand is worth to the arm: time to 95 % with `--init-from` and from nothing.

    python benchmarks/init_from.py --tasks peg pin_in_block lift_banana

Three runs a task: the hand's, the arm's that goes on from it, and the arm's from nothing. Times are of demonstrations,
prior, and steering until the first expert that succeeds so often on the episodes by which steering is judged.
"""

import dataclasses
from pathlib import Path
from typing import Any

from expertgen_jax import bounds
from expertgen_jax.bounds import Seed, Share
from expertgen_jax.cli import command
from expertgen_jax.files import write_json
from expertgen_jax.runs.directory import RunDirectory
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
        hand = steered(args, task, "hand")
        carried = steered(args, task, "panda-from-hand", "--robot", "panda", "--init-from", str(hand))
        nothing = steered(args, task, "panda", "--robot", "panda")
        found = {"nothing": reached(nothing, args.success), "hand": reached(carried, args.success)}
        rows.append({"task": task, "from": found})
        print(rows[-1], flush=True)
        write_json(args.out, {"success": args.success, "seed": args.seed, **provenance(), "rows": rows})


def steered(args: InitFrom, task: str, name: str, *flags: str) -> Path:
    """The folder of a finished run of a task."""
    folder = args.runs / f"{Path(task).stem}-{name}-{args.seed}"
    same = ("--task", task, "--seed", str(args.seed), "--physics", "native", "--run-dir", str(folder))
    run_once("steer", folder, *same, *flags)
    return folder


def reached(run_dir: Path, success: float) -> dict[str, Any]:
    """Episodes and seconds until steering reached that success, None if it did not, and the expert's in the end."""
    directory = RunDirectory(run_dir)
    summary = directory.read_json("summary.json")
    assert summary is not None
    made: dict[str, Any] = {"episodes": None, "seconds": None, "expert": summary["expert_success"]}
    for row in directory.rows():
        if row["phase"] == "steer" and row.get("success", 0.0) >= success:
            before = summary["wall_s"]["demos"] + summary["wall_s"]["prior"]
            return made | {"episodes": row["train_episodes"], "seconds": before + row["compile_s"] + row["wall_s"]}
    return made


if __name__ == "__main__":
    command.run("init_from", InitFrom, main, None)
