"""How runs are opened: a new one, one that goes on, perhaps with other settings, or a finished one."""

import dataclasses
import functools
import hashlib
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from expertgen_jax.errors import UserError
from expertgen_jax.learning import demos
from expertgen_jax.runs.directory import AFRESH, Place, RunDirectory, open_directory, read_settings
from expertgen_jax.runs.expert import ExpertRun
from expertgen_jax.runs.settings import (
    GROWING,
    PHASES,
    SHAPES,
    RunSettings,
    check,
    from_json,
    load_task,
    phase,
    to_json,
)
from expertgen_jax.sim import episode, physics
from expertgen_jax.sim.episode import Env
from expertgen_jax.task import Task
from expertgen_jax.tasks.identity import changed, identity

LEARNT = ("sizes", "scene", "parameters", "reset", "observe", "update", "control", "success")
"""Parts of a task's identity on which its policies depend."""
REPEATED = (*LEARNT, "privileged", "script", "script.init")
"""Parts on which the run depends."""


def open_run(settings: RunSettings, place: Place) -> ExpertRun:
    """Checks the settings and makes or opens the run directory, `runs/TASK-SEED` by default.

    Raises:
      UserError: `settings.init_from` does not fit; and see `settings.check`, `physics.resolve`, `registry.load_task`
        and `directory.open_directory`.
    """
    if settings.task.endswith(".py"):
        settings = dataclasses.replace(settings, task=str(Path(settings.task).resolve()))
    task = load_task(settings)
    check(settings, task)
    backend = physics.resolve(settings.physics)
    env = _make_env(task, backend, settings)
    path = place.run_dir or Path("runs") / f"{Path(settings.task).stem}-{settings.seed}"
    begun = (path / "checkpoints" / "training").exists() and not place.overwrite
    ancestor = None if settings.init_from is None or begun else _ancestor(settings, env)
    if settings.demos is not None:
        demos.load(settings.demos, episode.sizes(env)[0], task.action_size)
        if place.overwrite and settings.demos.resolve().is_relative_to(path.resolve()):
            raise UserError(f"--demos {settings.demos} lies in the run directory that --overwrite removes; move it")
    stored = to_json(settings) | {"physics": backend, "task_identity": identity(task)}
    if settings.demos is not None:
        stored["demos_digest"] = hashlib.sha256(settings.demos.read_bytes()).hexdigest()[:16]
    if not place.overwrite and (path / "demos.npz").exists() and (path / "config.json").exists():
        before = read_settings(path)
        if before.get("task") == stored["task"]:
            _check_task(path, before, task, REPEATED)
        if before.get("demos") == stored["demos"] and before.get("demos_digest") != stored.get("demos_digest"):
            raise UserError(f"--demos {settings.demos} changed since; choose another --run-dir, or --overwrite")
    directory = open_directory(
        path,
        stored,
        overwrite=place.overwrite,
        log=place.log,
        change=functools.partial(_change, overwrite=place.overwrite),
    )
    if settings.task.endswith(".py"):
        shutil.copyfile(settings.task, path / "task.py")
    print(f"{settings.task} on {backend} physics, run directory {path}", file=sys.stderr)
    return ExpertRun(directory, settings, env, ancestor)


def _ancestor(settings: RunSettings, env: Env) -> ExpertRun:
    """The run of `settings.init_from`, checked to be one that the new run can go on from."""
    assert settings.init_from is not None
    other = load_run(settings.init_from)
    if not (other.directory.checkpoints / "expert").exists():
        raise UserError(f"--init-from {settings.init_from} holds no expert yet: finish steer with that directory first")
    if settings.demos is not None:
        raise UserError("--init-from takes over demonstrations too: leave out --demos")
    if (seen := episode.sizes(env)) != (known := episode.sizes(other.env)):
        raise UserError(
            f"--init-from {settings.init_from}: {known} numbers are observed, and known to critics, there, here {seen}"
        )
    new, old = to_json(settings), to_json(other.settings)
    shapes = ("steer.history", "steer.noise_mode", *(f"steer.learner.{name}" for name in SHAPES))
    for name in ("prior", *shapes):
        here, there = (functools.reduce(lambda x, key: x[key], name.split("."), x) for x in (new, old))
        if here != there:
            raise UserError(f"--init-from {settings.init_from}: --{name} is {there} there, here {here}")
    return other


def load_run(path: Path | str, backend: str | None = None) -> ExpertRun:
    """Opens the run in the directory `path` with the settings that made it, on its own back end or another.

    Raises:
      UserError: it is not a run directory, or its task has changed since.
    """
    path = Path(path)
    stored = read_settings(path)
    try:
        settings = from_json(RunSettings(), stored)
    except (KeyError, TypeError) as error:
        raise UserError(f"--run-dir {path}: config.json is not of this version ({error})") from error
    if settings.task.endswith(".py") and not Path(settings.task).exists():
        raise UserError(f"--run-dir {path}: its task {settings.task} is gone; a copy is {path / 'task.py'}")
    task = load_task(settings)
    _check_task(path, stored, task, LEARNT)
    return ExpertRun(RunDirectory(path), settings, _make_env(task, backend or settings.physics, settings))


def _make_env(task: Task, backend: str, settings: RunSettings) -> Env:
    worlds = max(settings.steer.worlds, settings.steer.eval_episodes) * settings.num_seeds
    return episode.make_env(task, backend, max(worlds, settings.demo.episodes, settings.eval_episodes))


def _check_task(path: Path, stored: Mapping[str, Any], task: Task, parts: tuple[str, ...]) -> None:
    """Raises a UserError where one of these parts of a run's task has changed since."""
    known = stored.get("task_identity")
    if not isinstance(known, dict):
        raise UserError(f"--run-dir {path}: config.json is not of this version; {AFRESH}")
    if names := [name for name in changed(known, identity(task)) if name in parts]:
        raise UserError(f"--run-dir {path}: {', '.join(names)} of {task.name} changed since; {AFRESH}")


def _change(directory: RunDirectory, names: list[str], overwrite: bool) -> list[str]:
    """Of changed settings those for which a run has to start afresh; where there are none, removes what is outdated.

    Those that grow may change as they like. With `overwrite` others may too, and the phases before theirs are kept.
    """
    first = min((phase(name) for name in names), key=PHASES.index)
    fixed = [name for name in names if name not in GROWING]
    grows = not fixed
    if not grows and (not overwrite or first == "demos"):
        return fixed
    directory.remove("summary.json", "curves.png")
    if first == "evaluation":
        return []
    outdated = {"steered"} | (set() if grows else {"steer"}) | ({"pretrain"} if first == "prior" else set())
    policies = {"expert"} | ({"prior"} if first == "prior" else set())
    directory.remove("checkpoints/expert", "expert.mp4")
    if not grows:
        directory.remove("checkpoints/training", "students", "logs")
    if first == "prior":
        directory.remove("checkpoints/prior")
    directory.keep_rows(lambda row: row["phase"] not in outdated)
    evaluations = directory.read_json("evaluations.json") or {}
    kept = {label: figures for label, figures in evaluations.items() if figures["policy"] not in policies}
    directory.write_json("evaluations.json", kept)
    return []
