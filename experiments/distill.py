"""From an expert to a student that sees only what a robot sees: DAgger with cameras on the device.

    python experiments/distill.py --run-dir runs/peg-0

The same command goes on where an interrupted one stopped.
"""

import dataclasses
from pathlib import Path

from expertgen_jax.cli import command
from expertgen_jax.runs import distillation, pipeline, report


@dataclasses.dataclass(frozen=True, kw_only=True)
class Distill(distillation.Settings):
    """From an expert to a student that sees only what a robot sees: DAgger with cameras on the device."""

    run_dir: Path
    """The expert's run; the student goes into its folder students/NAME."""
    name: str | None = None
    """The student's; by default its modality."""
    overwrite: bool = False
    """Start afresh, removing the student's folder."""


def main(args: Distill) -> None:
    phases = pipeline.reopen_phases(args.run_dir)
    settings = distillation.Settings(
        **{f.name: getattr(args, f.name) for f in dataclasses.fields(distillation.Settings)}
    )
    student_run = distillation.open_student(phases, settings, args.name or args.student.modality, args.overwrite)
    evaluations = student_run.evaluation("off"), student_run.evaluation("default")
    student_run.finish(*evaluations)
    student_run.record()
    print(report.results_table([phases.evaluation("expert", *phases.needed("expert")), *evaluations]))
    print(f"\n{student_run.run.path}: {', '.join(sorted(path.name for path in student_run.run.path.iterdir()))}")


if __name__ == "__main__":
    command.run(Distill, main)
