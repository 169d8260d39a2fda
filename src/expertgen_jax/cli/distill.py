"""`expertgen distill`: from an expert to a student."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from expertgen_jax.cli import command
from expertgen_jax.runs import tables
from expertgen_jax.runs.logs import LogName
from expertgen_jax.runs.opening import load_run
from expertgen_jax.runs.settings import StudentSettings
from expertgen_jax.runs.student import open_student


@dataclasses.dataclass(frozen=True)
class Distill:
    """From an expert to a student that sees only what a robot sees: DAgger with cameras on the device.

    The same command goes on where an interrupted one stopped.
    """

    run_dir: Path
    """Run directory of the expert; the student goes into its folder students/NAME."""
    settings: Annotated[StudentSettings, tyro.conf.arg(name="")] = dataclasses.field(default_factory=StudentSettings)
    name: str | None = None
    """Name of the student; by default its modality."""
    overwrite: bool = False
    """Start afresh: the student's folder is removed."""
    log: tuple[LogName, ...] = ()
    """Where metrics, settings and the video go besides; each needs an extra of its name."""


def main(argv: command.Arguments = None) -> None:
    """Runs the command; see `command.run`."""
    command.run("distill", Distill, distill, argv)


def distill(args: Distill) -> None:
    """Makes a student, evaluates and records it."""
    run = open_student(load_run(args.run_dir), args.settings, args.name, args.overwrite, args.log)
    evaluations = run.finish()
    run.record()
    print(tables.results([run.run.evaluation(run.teacher), *evaluations]))
    print(f"\n{run.directory.files()}")
