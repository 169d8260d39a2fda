"""Writes an expert or a student as programs that need nothing of this package, with a card and the scene.

python experiments/export.py --run-dir runs/peg-0 --policy student
python examples/deploy.py runs/peg-0/export
"""

import dataclasses
from pathlib import Path
from typing import Literal

from expertgen_jax.cli import command
from expertgen_jax.runs import distillation, export, pipeline


@dataclasses.dataclass(frozen=True)
class Export:
    """Writes an expert or a student as programs that need nothing of this package, with a card and the scene."""

    run_dir: Path
    """The run."""
    policy: Literal["student", "expert"] = "student"
    """Which of the run's policies."""
    student: str = "depth"
    """Which of its students, by name."""
    out: Path | None = None
    """Folder to write; RUN_DIR/export by default."""


def main(args: Export) -> None:
    phases = pipeline.reopen_phases(args.run_dir)
    student_run = distillation.reopen(phases, args.student) if args.policy == "student" else None
    folder = args.out or args.run_dir / "export"
    export.export(phases, student_run, folder)
    print(f"{folder}: {', '.join(sorted(path.name for path in folder.iterdir()))}")


if __name__ == "__main__":
    command.run(Export, main)
