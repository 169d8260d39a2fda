"""How long a person waits until an interrupted training learns again, with everything compiled before.

    python benchmarks/second_start.py --out results/second_start.json

It starts `expertgen steer` in a new directory, kills it after its first checkpoint, starts it again and looks when the
next iteration is logged. The first start fills the compilation cache; the second one counts.
"""

import dataclasses
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Literal

from expertgen_jax import bounds
from expertgen_jax.bounds import Count
from expertgen_jax.cli import command
from expertgen_jax.errors import UserError
from expertgen_jax.files import write_json
from expertgen_jax.runs.provenance import provenance

FLAGS = [
    *("--demo.episodes", "256", "--demo.max-episodes", "256", "--prior.train-steps", "100"),
    *("--steer.block-decisions", "1", "--steer.eval-period", "1"),
]
"""A checkpoint comes soon."""


@dataclasses.dataclass(frozen=True)
class SecondStart:
    """Seconds from the command to the first iteration of a training that goes on."""

    task: str = "peg"
    """Name of a task or path to a task file."""
    physics: Literal["auto", "mjx", "warp", "native"] = "auto"
    """Engine."""
    repeats: Count = 3
    """Starts that count."""
    out: Path | None = None
    """JSON file for the figures."""


def main(args: SecondStart) -> None:
    bounds.check(args)
    if args.out is not None:
        command.prepare(args.out)
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        where = ["--task", args.task, "--physics", args.physics, "--run-dir", str(run)]
        call = [sys.executable, "-m", "expertgen_jax", "steer", *where, *FLAGS]
        for _ in range(2):  # the first one compiles, the second one meets a checkpoint for the first time
            seconds_to_iteration(call, run)
        seconds = [seconds_to_iteration(call, run) for _ in range(args.repeats)]
    print(f"first iteration after {', '.join(f'{s:.1f}' for s in seconds)} s")
    if args.out is not None:
        write_json(args.out, {"task": args.task, "physics": args.physics, **provenance(), "seconds": seconds})


def seconds_to_iteration(call: list[str], run: Path) -> float:
    """Starts the command and kills it once it has saved an iteration that was not there before."""
    before, start = _iterations(run), time.monotonic()
    child = subprocess.Popen(call, stderr=subprocess.DEVNULL)
    seconds = None
    while child.poll() is None:
        time.sleep(0.02)
        if seconds is None and _iterations(run) > before:
            seconds = time.monotonic() - start
        if seconds is not None and len(list((run / "checkpoints" / "training").glob("[0-9]*"))) > 1:
            break
    child.kill()
    child.wait()
    if seconds is None:
        raise UserError("the command ended before its first iteration; run it by hand to see why")
    return seconds


def _iterations(run: Path) -> int:
    metrics = run / "metrics.jsonl"
    rows = [json.loads(line) for line in metrics.read_text().splitlines()] if metrics.exists() else []
    return max((row["iteration"] for row in rows if row["phase"] == "steer"), default=0)


if __name__ == "__main__":
    command.run("second_start", SecondStart, main, None)
