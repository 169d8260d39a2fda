"""`expertgen export`: a policy as programs that need nothing of this package."""

import dataclasses
from pathlib import Path
from typing import Literal

from expertgen_jax.cli import command
from expertgen_jax.runs import export as artefact
from expertgen_jax.runs.opening import load_run
from expertgen_jax.runs.student import load_student


@dataclasses.dataclass(frozen=True)
class Export:
    """Writes an expert or a student as programs that need nothing of this package, with a card and the scene."""

    run_dir: Path
    """Run directory."""
    policy: Literal["student", "expert"] = "student"
    """Which policy of the run."""
    student: str | None = None
    """Which student, by name; may be left out where the run has one only."""
    out: Path | None = None
    """Folder to write; RUN_DIR/export by default."""
    also: tuple[artefact.Form, ...] = ()
    """Other forms of the policy: ONNX programs, for C++ and ROS, or its weights alone."""


def main(argv: command.Arguments = None) -> None:
    """Runs the command; see `command.run`."""
    command.run("export", Export, export, argv)


def export(args: Export) -> None:
    """Writes the artefact."""
    run = load_run(args.run_dir)
    folder = args.out or args.run_dir / "export"
    command.prepare(folder, folder=True)
    artefact.export(load_student(run, args.student) if args.policy == "student" else run, folder, args.also)
    print(f"{folder}: {', '.join(sorted(path.name for path in folder.iterdir()))}")
