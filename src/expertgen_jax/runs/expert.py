"""A run: demonstrations, prior, expert, evaluation, recording; each phase is done once.

A phase that finds its result in the run directory returns it; steering goes on from its last checkpoint. All
randomness comes from the run's seed, so that an interrupted run ends with the figures of an undisturbed one.
"""

import dataclasses
import functools
import hashlib
import os
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from expertgen_jax.errors import UserError
from expertgen_jax.learning import demos, diffusion, steering
from expertgen_jax.learning.demos import DemoSet
from expertgen_jax.learning.diffusion import Prior
from expertgen_jax.learning.steering import Expert, Steering
from expertgen_jax.runs import checkpoint, figures, loops, recording
from expertgen_jax.runs.diagnosis import advice
from expertgen_jax.runs.directory import AFRESH, Place, RunDirectory, open_directory, read_settings
from expertgen_jax.runs.progress import Progress
from expertgen_jax.runs.provenance import provenance
from expertgen_jax.runs.settings import GROWING, PHASES, RunSettings, check, from_json, to_json
from expertgen_jax.runs.settings import phase as settings_phase
from expertgen_jax.sim import episode, physics, rollout
from expertgen_jax.sim.episode import Env
from expertgen_jax.sim.evaluation import SELECTION_SEED, evaluate, lasting, predicted
from expertgen_jax.sim.rollout import Agent
from expertgen_jax.task import Level, Task
from expertgen_jax.tasks import registry
from expertgen_jax.tasks.identity import changed, identity

HEIGHT = 360
"""Of `expert.mp4` (pixels); a person waits for it."""

Figures = dict[str, Any]
"""Of an evaluation, see `evaluation.evaluate`."""


class ExpertRun:
    """A run on its environment.

    Attributes:
      directory: where it is kept.
      settings: that made it.
      env: its task on a back end.
    """

    def __init__(self, directory: RunDirectory, settings: RunSettings, env: Env):
        self.directory, self.settings, self.env = directory, settings, env
        self.progress = Progress()

    def demonstrations(self) -> DemoSet:
        """The demonstrations: the user's, those in the run directory, or new ones."""
        settings, env, path = self.settings, self.env, self.directory.path / "demos.npz"
        sizes = episode.sizes(env)[0], env.task.action_size
        if path.exists():
            return demos.load(path, *sizes)
        start = time.monotonic()

        def report(asked: demos.Asked) -> None:
            share = min(
                1.0, max(asked.succeeded / settings.demo.successes, asked.episodes / settings.demo.max_episodes)
            )
            self.progress("demos", share, f"{asked.succeeded} of {asked.episodes} episodes succeeded")

        if settings.demos is not None:
            demo_set = demos.load(settings.demos, *sizes)
            starts = jax.jit(jax.vmap(episode.reset, (None, 0)))(env, jax.random.split(self._key("demos"), 256)).obs
            for finding in demos.strange(demo_set, np.asarray(starts), episode.entries(env)):
                print(f"warning: --demos {settings.demos}: {finding}", file=sys.stderr)
            asked = demos.Asked(len(demo_set.lengths), int(demo_set.success.sum()), 0)
            report(asked)
        else:
            self.progress("demos", 0.0, f"{settings.demo.episodes} episodes at a time")
            demo_set, asked = demos.demonstrate(env, self._key("demos"), settings.demo, report)
        if warning := _scarce(asked, settings.demo):
            print(f"warning: {warning}", file=sys.stderr)
        self.directory.keep_rows(lambda row: row["phase"] != "demos")
        row = {"phase": "demos", **asked._asdict(), "success": asked.succeeded / asked.episodes}
        self.directory.log(row | {"wall_s": time.monotonic() - start}, step=0)
        demos.save(path, demo_set)  # last: with the file, the phase is done
        return demo_set

    def prior(self) -> Prior:
        """The diffusion prior: the one in the run directory, or a new one from the demonstrations."""
        config = self.settings.prior
        try:
            return self.finished_prior()
        except checkpoint.DamagedError as error:
            print(f"warning: {error}; training the prior anew", file=sys.stderr)
        except FileNotFoundError:
            pass
        demo_set = self.demonstrations()
        self.directory.keep_rows(lambda row: row["phase"] != "pretrain")
        start = time.monotonic()

        def log(step: int, loss: float) -> None:
            row = {"phase": "pretrain", "step": step, "loss": loss, "wall_s": time.monotonic() - start}
            self.directory.log(row, step)
            self.progress("prior", step / config.train_steps, f"step {step}, loss {loss:.4f}")

        prior = loops.pretrain(self._key("prior"), demo_set, config, log)
        checkpoint.save(self.directory.checkpoints / "prior", prior)
        return prior

    def expert(self) -> Expert:
        """The steered expert: the one in the run directory, or the end of a steering that goes on where it stopped."""
        prior = self.prior()
        try:
            return self.finished_expert(prior)
        except checkpoint.DamagedError as error:
            print(f"warning: {error}; steering goes on from its last checkpoint", file=sys.stderr)
        except FileNotFoundError:
            pass
        keys = jax.random.split(self._key("steer"), self.settings.num_seeds)
        expert = loops.steer(self.directory, Steering(self.env, prior, self.settings.steer), keys, self.progress)
        checkpoint.save(self.directory.checkpoints / "expert", expert)
        if told := advice(self.directory.rows(), self.settings.steer.target):
            print(f"warning: {told}", file=sys.stderr)
        return expert

    def finished_prior(self) -> Prior:
        """The prior in the run directory.

        Raises:
          FileNotFoundError: there is none yet.
          DamagedError: its checkpoint cannot be read.
        """
        config, action_size = self.settings.prior, self.env.task.action_size
        like = jax.eval_shape(lambda: diffusion.untrained(config, episode.sizes(self.env)[0], action_size))
        return checkpoint.restore(self.directory.checkpoints / "prior", like)

    def finished_expert(self, prior: Prior) -> Expert:
        """The expert in the run directory; raises like `finished_prior`."""
        mdp = Steering(self.env, prior, self.settings.steer)
        like = jax.eval_shape(lambda k: mdp.expert(mdp.init(k)), self._key("steer"))
        return checkpoint.restore(self.directory.checkpoints / "expert", like)

    def agent(self, name: str) -> Agent:
        """One of the run's agents by name: `prior`, `expert`, or one of `rollout.untrained_agents`.

        Raises:
          UserError: there is none of that name, the task has none, or the run has not come that far.
        """
        task = self.env.task
        untrained = rollout.untrained_agents(task)
        if name in untrained:
            return untrained[name]
        if name not in ("prior", "expert"):
            raise UserError(
                f"--policy {name}: task '{task.name}' has none; choose {', '.join(untrained)}, prior or expert"
            )
        try:
            prior = self.finished_prior()
            if name == "prior":
                return Agent(name, steering.prior_policy(prior.config.chunk), prior)
            policy = steering.expert_policy(prior.config.chunk, episode.sizes(self.env)[0], self.settings.steer)
            return Agent(name, policy, (prior, self.finished_expert(prior)))
        except FileNotFoundError as error:
            raise UserError(
                f"--run-dir {self.directory.path} holds no {name} yet: finish steer with the same directory first"
            ) from error

    def evaluation(
        self,
        agent: Agent,
        backend: str | None = None,
        episodes: int | None = None,
        randomization: Level | None = None,
    ) -> Figures:
        """Figures of an agent on the evaluation episodes, made once; by default on the run's back end, under its
        randomisation."""
        episodes, own = episodes or self.settings.eval_episodes, self.settings.randomization
        elsewhere = "" if randomization in (None, own) else f", randomization {randomization}"
        env = self.on(backend, randomization)
        return evaluated_once(self.directory, self.progress, env, agent, episodes, elsewhere)

    def evaluations(self) -> tuple[Figures, Figures, Figures]:
        """Of the prior, of the expert, and of the expert on the other back end."""
        prior, expert = self.agent("prior"), self.agent("expert")
        return (
            self.evaluation(prior),
            self.evaluation(expert),
            self.evaluation(expert, self.other_backend(), self.settings.transfer_episodes),
        )

    def lasting(self) -> Figures:
        """What of the expert's success still holds two seconds later, see `evaluation.lasting`; found out once."""
        label, stored = "expert, two seconds later", self.directory.read_json("evaluations.json") or {}
        if label not in stored:
            figures = lasting(self.env, self.agent("expert"), self.settings.transfer_episodes)
            stored = (self.directory.read_json("evaluations.json") or {}) | {label: {"policy": "expert", **figures}}
            self.directory.write_json("evaluations.json", stored)
        return stored[label]

    def on(self, backend: str | None, randomization: Level | None = None) -> Env:
        """The environment on a back end, under a randomisation; by default the run's."""
        same_task = randomization in (None, self.settings.randomization)
        if same_task and backend in (None, self.env.model.backend):
            return self.env
        task = self.env.task if same_task else registry.load_task(self.settings.task, randomization or "off")
        return episode.make_env(task, backend or self.env.model.backend, actions_seen=self.env.actions_seen)

    def other_backend(self) -> str:
        """The back end on which an expert of this run shows that it learnt the task and not the engine."""
        return "mjx" if self.env.model.backend == "native" else "native"

    def record(self, episodes: int = 2) -> None:
        """`expert.mp4`: prior and expert side by side from the same starts, on the C engine."""
        path = self.directory.path / "expert.mp4"
        if path.exists():
            return
        self.progress("video", 0.0, f"{episodes} episodes of prior and expert")
        env, key = self.on("native"), jax.random.key(SELECTION_SEED)
        agents = self.agent("prior"), self.agent("expert")
        panels = [recording.clips(env, agent, key, episodes, height=HEIGHT) for agent in agents]
        recording.try_to_write(path, panels, env.task)
        self.progress("video", 1.0, f"{episodes} episodes of prior and expert")

    def finish(self) -> Figures:
        """Draws `curves.png`, writes `summary.json` and returns it.

        `wall_s` holds the phases' own times; start-up, the video and what a kill undid are not in it.
        """
        prior, expert, transfer = self.evaluations()
        rows = self.directory.rows()
        try:
            demo_row = next(row for row in rows if row["phase"] == "demos")
            last = [row for row in rows if row["phase"] == "steer"][-1]
            steered = next(row for row in rows if row["phase"] == "steered")
        except (StopIteration, IndexError) as error:
            raise UserError(f"--run-dir {self.directory.path}: metrics.jsonl has lost rows; {AFRESH}") from error
        wall = {
            "demos": demo_row["wall_s"],
            "prior": max((row["wall_s"] for row in rows if row["phase"] == "pretrain"), default=0.0),
            "compile": last["compile_s"],
            "steer": last["wall_s"],
            "eval": prior["wall_s"] + expert["wall_s"] + transfer["wall_s"],
        }
        summary = {
            "task": self.env.task.name,
            "task_version": self.env.task.version,
            "seed": self.settings.seed,
            "physics": self.env.model.backend,
            **provenance(),
            "demo_success": demo_row["success"],
            "prior_success": prior["success"],
            "expert_success": expert["success"],
            "expert_success_lenient": expert["success_lenient"],
            "ci95": expert["ci95"],
            "eval_episodes": expert["episodes"],
            "transfer": {"physics": transfer["physics"], "success": transfer["success"], "ci95": transfer["ci95"]},
            "final_pose": expert["final_pose"],
            "lasting": {name: self.lasting()[name] for name in ("acting", "still")},
            "steering": {name: steered[name] for name in ("ended", "success", "eval_episodes")}
            | {
                "predicted": predicted(
                    round(steered["success"] * steered["eval_episodes"]), steered["eval_episodes"], expert["episodes"]
                )
            },
            "num_seeds": self.settings.num_seeds,
            "train_episodes": last["train_episodes"],
            "env_steps": last["env_steps"],
            "diverged": last["diverged"],
            "wall_s": wall | {"total": sum(wall.values())},
        }
        references = {"demo_success": demo_row["success"], "prior_success": prior["success"]}
        figures.curves(rows, self.directory.path / "curves.png", references=references)
        self.directory.write_json("summary.json", summary)
        return summary

    def _key(self, phase: str) -> jax.Array:
        return jax.random.fold_in(jax.random.key(self.settings.seed), ("demos", "prior", "steer").index(phase))


def open_run(settings: RunSettings, place: Place) -> ExpertRun:
    """Checks the settings and makes or opens the run directory, `runs/TASK-SEED` by default.

    Raises:
      UserError: see `settings.check`, `physics.resolve`, `registry.load_task` and `directory.open_directory`.
    """
    if settings.task.endswith(".py"):
        settings = dataclasses.replace(settings, task=str(Path(settings.task).resolve()))
    task = registry.load_task(settings.task, settings.randomization)
    check(settings, task)
    backend = physics.resolve(settings.physics)
    env = _make_env(task, backend, settings)
    path = place.run_dir or Path("runs") / f"{Path(settings.task).stem}-{settings.seed}"
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
        tensorboard=place.tensorboard,
        change=functools.partial(_change, overwrite=place.overwrite),
    )
    if settings.task.endswith(".py"):
        shutil.copyfile(settings.task, path / "task.py")
    print(f"{settings.task} on {backend} physics, run directory {path}", file=sys.stderr)
    return ExpertRun(directory, settings, env)


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
    task = registry.load_task(settings.task, settings.randomization)
    _check_task(path, stored, task, LEARNT)
    return ExpertRun(RunDirectory(path), settings, _make_env(task, backend or settings.physics, settings))


def _scarce(asked: demos.Asked, config: demos.DemoConfig) -> str:
    """What a person is told where successes are fewer than the prior needs; "" where they are not."""
    if not asked.succeeded:
        return "no demonstration succeeds; the prior clones all of them, and steering will hardly find a reward"
    if asked.succeeded < min(config.successes, 100):
        return (
            f"only {asked.succeeded} of {asked.episodes} demonstrations succeed; a demonstrator that varies more, or "
            "a larger --demo.max-episodes, would help"
        )
    return ""


def evaluated_once(
    directory: RunDirectory, progress: Progress, env: Env, agent: Agent, episodes: int, elsewhere: str = ""
) -> Figures:
    """Figures of an agent on the evaluation episodes: those in the directory, or new ones; `elsewhere` labels an
    environment that is not the run's."""
    label = f"{agent.name} on {env.model.backend}, {episodes} episodes{elsewhere}"
    stored = directory.read_json("evaluations.json") or {}
    if label in stored:
        return stored[label]
    progress("evaluate", 0.0, label)
    start = time.monotonic()
    figures = evaluate(env, agent, episodes)
    figures = {"policy": agent.name, **figures, "wall_s": time.monotonic() - start}
    progress("evaluate", 1.0, f"{label}: success {figures['success']:.1%}")
    if os.access(directory.path, os.W_OK):
        stored = directory.read_json("evaluations.json") or {}  # another command may have written meanwhile
        directory.write_json("evaluations.json", stored | {label: figures})
    else:
        print(f"warning: these figures are not kept: no right to write in {directory.path}", file=sys.stderr)
    return figures


def _make_env(task: Task, backend: str, settings: RunSettings) -> Env:
    worlds = max(settings.steer.worlds, settings.steer.eval_episodes) * settings.num_seeds
    return episode.make_env(task, backend, max(worlds, settings.demo.episodes, settings.eval_episodes))


LEARNT = ("sizes", "scene", "parameters", "reset", "observe", "update", "control", "success")
"""Parts of a task's identity on which its policies depend."""
REPEATED = (*LEARNT, "privileged", "script", "script.init")
"""Parts on which the run depends."""


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
    first = min((settings_phase(name) for name in names), key=PHASES.index)
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
        directory.remove("checkpoints/training", "students")
    if first == "prior":
        directory.remove("checkpoints/prior")
    directory.keep_rows(lambda row: row["phase"] not in outdated)
    evaluations = directory.read_json("evaluations.json") or {}
    kept = {label: figures for label, figures in evaluations.items() if figures["policy"] not in policies}
    directory.write_json("evaluations.json", kept)
    return []
