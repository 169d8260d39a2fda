"""A run: demonstrations, prior, expert, evaluation, recording; each phase is done once.

A phase that finds its result in the run directory returns it; steering goes on from its last checkpoint. All
randomness comes from the run's seed, so that an interrupted run ends with the figures of an undisturbed one.
"""

import dataclasses
import hashlib
import sys
import time
from pathlib import Path
from typing import Any

import jax

from expertgen_jax.errors import UserError
from expertgen_jax.learning import demos, diffusion, steering
from expertgen_jax.learning.demos import DemoSet
from expertgen_jax.learning.diffusion import Prior
from expertgen_jax.learning.steering import Expert, Steering
from expertgen_jax.runs import checkpoint, figures, loops, recording
from expertgen_jax.runs.directory import Place, RunDirectory, open_directory, read_settings
from expertgen_jax.runs.progress import Progress
from expertgen_jax.runs.provenance import provenance
from expertgen_jax.runs.settings import RunSettings, check, from_json, to_json
from expertgen_jax.sim import physics, rollout
from expertgen_jax.sim.evaluation import SELECTION_SEED, evaluate
from expertgen_jax.sim.rollout import Agent, Env
from expertgen_jax.task import Task
from expertgen_jax.tasks import registry

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
        sizes = rollout.sizes(env)[0], env.task.action_size
        if path.exists():
            return demos.load(path, *sizes)
        start = time.monotonic()
        diverged = 0
        if settings.demos is not None:
            demo_set = demos.load(settings.demos, *sizes)
        else:
            self.progress("demos", 0.0, f"{settings.demo.episodes} scripted episodes")
            demo_set, diverged = demos.demonstrate(env, self._key("demos"), settings.demo)
        success = float(demo_set.success.mean())
        self.progress("demos", 1.0, f"{len(demo_set.lengths)} episodes, success {success:.1%}")
        if not demo_set.success.any():
            print("warning: no demonstration succeeds; the prior trains on all of them", file=sys.stderr)
        self.directory.keep_rows(lambda row: row["phase"] != "demos")
        row = {"phase": "demos", "episodes": len(demo_set.lengths), "success": success, "diverged": diverged}
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

        failures = self.settings.demo.failures
        prior = loops.pretrain(self._key("prior"), demo_set, config, failures=failures, report=log)
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
        return expert

    def finished_prior(self) -> Prior:
        """The prior in the run directory.

        Raises:
          FileNotFoundError: there is none yet.
          DamagedError: its checkpoint cannot be read.
        """
        config, action_size = self.settings.prior, self.env.task.action_size
        like = jax.eval_shape(lambda: diffusion.untrained(config, rollout.sizes(self.env)[0], action_size))
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
            policy = steering.expert_policy(prior.config.chunk, self.settings.steer)
            return Agent(name, policy, (prior, self.finished_expert(prior)))
        except FileNotFoundError as error:
            raise UserError(
                f"--run-dir {self.directory.path} holds no {name} yet: finish steer with the same directory first"
            ) from error

    def evaluation(self, agent: Agent, backend: str | None = None, episodes: int | None = None) -> Figures:
        """Figures of an agent on the evaluation episodes, made once; by default on the run's back end."""
        episodes = episodes or self.settings.eval_episodes
        return evaluated_once(self.directory, self.progress, self.on(backend), agent, episodes)

    def evaluations(self) -> tuple[Figures, Figures, Figures]:
        """Of the prior, of the expert, and of the expert on the other back end."""
        prior, expert = self.agent("prior"), self.agent("expert")
        return (
            self.evaluation(prior),
            self.evaluation(expert),
            self.evaluation(expert, self.other_backend(), self.settings.transfer_episodes),
        )

    def on(self, backend: str | None) -> Env:
        """The environment on a back end; by default the run's."""
        return self.env if backend in (None, self.env.model.backend) else rollout.make_env(self.env.task, backend)

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
        recording.write(path, [recording.clips(env, agent, key, episodes) for agent in agents], env.task)
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
        except (StopIteration, IndexError) as error:
            raise UserError(f"--run-dir {self.directory.path}: metrics.jsonl has lost rows; use --overwrite") from error
        wall = {
            "demos": demo_row["wall_s"],
            "prior": max((row["wall_s"] for row in rows if row["phase"] == "pretrain"), default=0.0),
            "compile": last["compile_s"],
            "steer": last["wall_s"],
            "eval": prior["wall_s"] + expert["wall_s"] + transfer["wall_s"],
        }
        summary = {
            "task": self.env.task.name,
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
        demos.load(settings.demos, rollout.sizes(env)[0], task.action_size)
        if place.overwrite and settings.demos.resolve().is_relative_to(path.resolve()):
            raise UserError(f"--demos {settings.demos} lies in the run directory that --overwrite removes; move it")
    stored = to_json(settings) | {"physics": backend, "task_digest": _digest(settings.task)}
    directory = open_directory(
        path,
        stored,
        overwrite=place.overwrite,
        tensorboard=place.tensorboard,
        reasons={"task_digest": f"was made with another version of {settings.task}"},
    )
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
    if stored["task_digest"] != _digest(settings.task):
        raise UserError(f"--run-dir {path}: {settings.task} has changed since; start afresh with --overwrite")
    task = registry.load_task(settings.task, settings.randomization)
    return ExpertRun(RunDirectory(path), settings, _make_env(task, backend or settings.physics, settings))


def evaluated_once(directory: RunDirectory, progress: Progress, env: Env, agent: Agent, episodes: int) -> Figures:
    """Figures of an agent on the evaluation episodes: those in the directory, or new ones."""
    label = f"{agent.name} on {env.model.backend}, {episodes} episodes"
    if label not in (directory.read_json("evaluations.json") or {}):
        progress("evaluate", 0.0, label)
        start = time.monotonic()
        figures = evaluate(env, agent, episodes)
        stored = directory.read_json("evaluations.json") or {}  # another command may have written meanwhile
        stored[label] = {"policy": agent.name, **figures, "wall_s": time.monotonic() - start}
        progress("evaluate", 1.0, f"{label}: success {figures['success']:.1%}")
        directory.write_json("evaluations.json", stored)
    return (directory.read_json("evaluations.json") or {})[label]


def _make_env(task: Task, backend: str, settings: RunSettings) -> Env:
    worlds = max(settings.steer.worlds, settings.steer.eval_episodes) * settings.num_seeds
    return rollout.make_env(task, backend, max(worlds, settings.demo.episodes, settings.eval_episodes))


def _digest(task: str) -> str:
    """Tells versions of a task file apart; "" for a task of the package."""
    return hashlib.sha256(Path(task).read_bytes()).hexdigest()[:16] if task.endswith(".py") else ""
