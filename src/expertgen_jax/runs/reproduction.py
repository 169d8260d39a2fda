"""The experiments behind the documentation's figures: runs, students, and what is drawn of them.

A run is made by a child process, as a person would make it, for its wall time and memory. Finished runs are not redone;
interrupted ones go on.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from expertgen_jax.errors import UserError
from expertgen_jax.files import write_json
from expertgen_jax.runs import tables
from expertgen_jax.runs.opening import load_run
from expertgen_jax.runs.student import load_student
from expertgen_jax.task import Level
from expertgen_jax.tasks.assembly.shapes import SHAPES
from expertgen_jax.tasks.registry import FAMILIES, TASKS

EXPERIMENTS = {
    "peg": ("peg",),
    "assembly": (*SHAPES, "peg_flat", "peg_tight", "gear_on_shaft", "assembly"),
    "distillation": ("peg", *SHAPES, *FAMILIES["tabletop"]),
    "tabletop": FAMILIES["tabletop"],
    "ablation": ("peg", "block_on_rail"),
}
"""Tasks of each experiment."""
STEERINGS: dict[str, tuple[str, ...]] = {
    "no-noise-cost": ("--steer.noise-cost", "0"),
    "bound-1.5": ("--steer.noise-bound", "1.5"),
    "bound-1.5-no-cost": ("--steer.noise-bound", "1.5", "--steer.noise-cost", "0"),
    "chunk-noise": ("--steer.noise-mode", "chunk"),
    "updates-4": ("--steer.updates", "4"),
}
"""What `ablation` varies in the defaults of `expertgen steer`."""
PAPER = {
    "lift_banana": {"script": 0.563, "prior": 0.698, "expert": 0.998},
    "lift_brick": {"script": 0.664, "prior": 0.726, "expert": 0.997},
    "lift_peach": {"script": 0.609, "prior": 0.285, "expert": 0.993},
    "open_drawer": {"script": 0.281, "prior": 0.776, "expert": 1.0},
    "push_pear": {"script": 0.180, "prior": 0.505, "expert": 0.833},
    "stack_banana": {"script": 0.266, "prior": 0.163, "expert": 0.672},
    "put_in_drawer": {"script": 0.094, "prior": 0.005, "expert": 0.807},
    "strawberry_in_bowl": {"script": 0.430, "prior": 0.066, "expert": 0.521},
}
"""Success that ExpertGen's authors report (arXiv 2603.15956), for tasks of the same names."""
STUDENTS: dict[str, tuple[str, ...]] = {
    name: ("--student.modality", name) for name in ("depth", "rgb", "points", "blank")
}
"""Students of `distillation`: what varies in the defaults of `expertgen distill`; one, the control, sees nothing."""
BUDGETS = {
    f"{method}-{decisions}": (
        *("--dagger.worlds", f"{decisions // 16}", "--dagger.decisions", f"{decisions}", "--dagger.rounds", "20"),
        *("--dagger.alpha-end", alpha),
    )
    for decisions in (64, 256, 1024, 4096)
    for method, alpha in (("DAgger", "0.2"), ("BC", "1.0"))
}
"""About 1 to 80 thousand labels, by the decisions a round, the expert's share falling, or acting alone."""
VARIANTS: dict[str, tuple[str, ...]] = {
    "state": ("--student.modality", "state"),
    "strong": ("--visual", "strong"),
    "strong-rgb": ("--visual", "strong", "--student.modality", "rgb"),
    "diffusion": ("--student.head", "diffusion"),
    "history-3": ("--student.history", "3"),
    "no-shift": ("--dagger.shift", "0"),
    "size-32": ("--student.image-size", "32"),
    "size-96": ("--student.image-size", "96"),
    **{f"alpha-{x}": ("--dagger.alpha-start", x, "--dagger.alpha-end", x) for x in ("0.5", "0.2", "0.0")},
    **BUDGETS,
}
"""More students, made where they are asked for by name."""


def reproduce(task: str, seed: int, options: Sequence[str], run_dir: Path, transfer_episodes: int) -> dict[str, Any]:
    """One run: the command's wall time and memory, and every policy on the evaluation episodes."""
    cost = run_once("steer", run_dir, "--task", task, "--seed", str(seed), "--run-dir", str(run_dir), *options)
    run = load_run(run_dir)
    expert = run.agent("expert")
    figures = {
        "script": run.evaluation(run.agent("script")),
        "prior": run.evaluation(run.agent("prior")),
        "expert": run.evaluation(expert),
        "expert_transfer": run.evaluation(expert, run.other_backend(), transfer_episodes),
    }
    if run.settings.randomization != "off":
        figures["expert_off"] = run.evaluation(expert, randomization="off")
    if run.env.task.strong_script is not None:
        figures["strong_script"] = run.evaluation(run.agent("strong_script"))
    print(f"{task}, seed {seed}\n{tables.results(list(figures.values()))}\n", flush=True)
    summary = json.loads((run_dir / "summary.json").read_text())
    kept = ("device", "python", "versions", "task_version", "demo_success", "steering", "lasting", "train_episodes")
    kept_figures = {name: summary[name] for name in (*kept, "env_steps", "diverged", "wall_s")}
    paper = {"paper": PAPER[task]} if task in PAPER else {}
    return {"task": task, "seed": seed, **cost, **kept_figures, **figures, **paper}


def stored(out: Path, settings: Mapping[str, Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of runs and of students that a file holds already, where it was made with the same settings; none of a file
    of an earlier version of this package, which says nothing of versions a run.

    Raises:
      UserError: the file is something else.
    """
    if not out.exists():
        return [], []
    try:
        content = json.loads(out.read_bytes())
        runs, students = content["runs"], content.get("students", [])
        if any("versions" not in row for row in runs):
            return [], []
        if any(content[name] != value for name, value in settings.items()):
            raise ValueError("made otherwise")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"--out {out}: holds something else than {settings}; choose another") from error
    return runs, students


def with_row(rows: list[dict[str, Any]], row: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows with one more, instead of the one of the same task, seed and name; in the order of tasks and seeds."""
    order = {task: place for place, task in enumerate(TASKS)}

    def place(row: Mapping[str, Any]) -> tuple[int, str, int]:
        return order.get(row["task"], len(order)), row["task"], row["seed"]

    def key(row: Mapping[str, Any]) -> tuple[str, int, str]:
        return row["task"], row["seed"], row.get("name", "")

    return sorted([*(old for old in rows if key(old) != key(row)), row], key=place)


def run_once(command: str, folder: Path, *flags: str) -> dict[str, Any]:
    """Runs a command of this package that fills a folder; returns its wall time and memory when it did.

    A finished run is not redone, but its command says so where it was made with other settings.
    """
    cost = folder / "cost.json"
    fresh, start = not folder.exists(), time.monotonic()
    child = subprocess.Popen([sys.executable, "-m", "expertgen_jax", command, *flags])

    def stop(number: int, _: Any) -> NoReturn:
        child.terminate()  # nobody else would end it
        child.wait()
        print("\ninterrupted; the same command goes on from here", file=sys.stderr, flush=True)
        os._exit(128 + number)

    handlers = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    _, status, usage = os.wait4(child.pid, 0)
    for number, handler in handlers.items():
        signal.signal(number, handler)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise UserError(f"{command} {' '.join(flags)} failed ({child.returncode})")
    if not cost.exists():
        seconds = time.monotonic() - start if fresh else None  # of a run that was interrupted it would mislead
        write_json(cost, {"command_wall_s": seconds, "peak_memory_gb": usage.ru_maxrss / 1e6})
    return json.loads(cost.read_text())


def distill(
    task: str, seed: int, run_dir: Path, names: Sequence[str], transfer_episodes: int
) -> Iterator[dict[str, Any]]:
    """Students of a run, one after another; those that see pictures are also evaluated on MuJoCo's renderer."""
    flags = STUDENTS | VARIANTS
    for name in names:
        folder = run_dir / "students" / name
        options = ("--run-dir", str(run_dir), "--name", name, "--seed", str(seed), *flags[name])
        cost = run_once("distill", folder, *options)
        run = load_student(load_run(run_dir), name)
        levels: tuple[Level, ...] = ("off", "default")
        if run.settings.visual == "strong":
            levels = (*levels, "strong")
        figures: dict[str, Any] = {level: run.evaluation(level) for level in levels}
        if run.settings.student.modality in ("depth", "rgb"):
            figures["opengl"] = run.evaluation("default", transfer_episodes, renderer="opengl")
        print(f"{task}\n{tables.results(list(figures.values()))}\n", flush=True)
        yield {"task": task, "seed": seed, "name": name, **cost, **run.cost(), **figures}


def bar_groups(rows: list[dict[str, Any]], rule: str, interval: str) -> dict[str, dict[str, Any]]:
    """What `report.bars` takes: each task's policies, of its first seed, and the generalist's success on each shape;
    rows with a name are groups of their own."""

    def label(row: Mapping[str, Any]) -> str:
        return f"{row['task']} {row.get('name', '')}".rstrip()

    first = {label(row): row for row in reversed(rows)}
    figures = {
        group: {policy: first[group][policy] for policy in ("script", "prior", "expert")}
        for group in dict.fromkeys(label(row) for row in rows)
    }
    for shape, of_shape in first.get("assembly", {"expert": {"variants": {}}})["expert"]["variants"].items():
        figures.setdefault(shape, {})["generalist"] = of_shape
    paper = {task: {"expert, paper": (x["expert"],) * 3} for task, x in PAPER.items()} if rule == "success" else {}
    return {
        task: {policy: (x[rule], *x[interval]) for policy, x in policies.items() if x[rule] is not None}
        | paper.get(task, {})
        for task, policies in figures.items()
    }


def budget_curves(students: list[dict[str, Any]]) -> dict[str, dict[str, list[tuple[float, ...]]]]:
    """What `report.budgets` takes: `{task: {method: [(labelled, success, low, high), ...]}}`."""
    curves: dict[str, dict[str, list[tuple[float, ...]]]] = {}
    for row in students:
        if row["name"] in BUDGETS:
            figures = row["default"]
            point = (row["labelled"], figures["success"], *figures["ci95"])
            method, _, _ = row["name"].partition("-")
            curves.setdefault(row["task"], {}).setdefault(method, []).append(point)
    return {task: methods for task, methods in curves.items() if "BC" in methods}
