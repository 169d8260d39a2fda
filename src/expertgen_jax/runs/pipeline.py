"""The phases of a run, each finished once: demonstrations, prior, expert, evaluation, recording.

A phase that finds its result in the run directory returns it; steering goes on from its last checkpoint. All
randomness comes from the run's seed, so that an interrupted run ends with the figures of an undisturbed one.
"""

import dataclasses
import hashlib
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from expertgen_jax.errors import UserError
from expertgen_jax.learning import demos, diffusion, steering
from expertgen_jax.learning.demos import DemoSet
from expertgen_jax.learning.diffusion import Prior
from expertgen_jax.learning.steering import Expert, Steering
from expertgen_jax.runs import checkpoint, report, training
from expertgen_jax.runs import settings as settings_lib
from expertgen_jax.runs.runlog import Progress, Run, as_json, open_run, provenance, read_settings
from expertgen_jax.runs.settings import Settings
from expertgen_jax.sim import physics, rollout
from expertgen_jax.sim.evaluation import SELECTION_SEED, evaluate
from expertgen_jax.sim.rollout import Env
from expertgen_jax.task import Task
from expertgen_jax.tasks import registry
from expertgen_jax.vision import video


class Phases:
    """The phases of one run, on its environment."""

    def __init__(self, run: Run, settings: Settings, env: Env):
        self.run, self.settings, self.env = run, settings, env
        self.progress = Progress()

    def key(self, phase: str) -> jax.Array:
        """The phase's key."""
        return jax.random.fold_in(jax.random.key(self.settings.seed), ("demos", "prior", "steer").index(phase))

    def demonstrations(self) -> DemoSet:
        """The demonstrations: the user's, those in the run directory, or new ones."""
        settings, env, path = self.settings, self.env, self.run.path / "demos.npz"
        sizes = rollout.sizes(env)[0], env.task.action_size
        if path.exists():
            return demos.load(path, *sizes)
        start = time.monotonic()
        diverged = 0
        if settings.demos is not None:
            demo_set = demos.load(settings.demos, *sizes)
        else:
            self.progress("demos", 0.0, f"{settings.demo.episodes} scripted episodes")
            demo_set, diverged = demos.demonstrate(env, self.key("demos"), settings.demo)
        success = float(demo_set.success.mean())
        self.progress("demos", 1.0, f"{len(demo_set.lengths)} episodes, success {success:.1%}")
        if not demo_set.success.any():
            print("warning: no demonstration succeeds; the prior trains on all of them", file=sys.stderr)
        self.run.keep_rows(lambda row: row["phase"] != "demos")
        row = {"phase": "demos", "episodes": len(demo_set.lengths), "success": success, "diverged": diverged}
        self.run.log(row | {"wall_s": time.monotonic() - start}, step=0)
        demos.save(path, demo_set)  # last: with the file, the phase is done
        return demo_set

    def prior(self, demo_set: DemoSet) -> Prior:
        """The diffusion prior: the one in the run directory, or a new one."""
        config = self.settings.prior
        try:
            return self.finished_prior()
        except checkpoint.DamagedError as error:
            print(f"warning: {error}; training the prior anew", file=sys.stderr)
        except FileNotFoundError:
            pass
        self.run.keep_rows(lambda row: row["phase"] != "pretrain")
        start = time.monotonic()

        def log(step: int, loss: float) -> None:
            self.run.log({"phase": "pretrain", "step": step, "loss": loss, "wall_s": time.monotonic() - start}, step)
            self.progress("prior", step / config.train_steps, f"step {step}, loss {loss:.4f}")

        starts = demos.chunk_starts(demo_set, config.chunk, self.settings.demo.failures)
        if not len(starts):
            raise UserError(f"--prior.chunk {config.chunk} is longer than every demonstration")
        obs, actions = jnp.asarray(demo_set.obs), jnp.asarray(demo_set.actions)
        prior = diffusion.train(self.key("prior"), obs, actions, jnp.asarray(starts), config, log)
        checkpoint.save(self.run.checkpoints / "prior", prior)
        return prior

    def finished_prior(self) -> Prior:
        """The prior in the run directory.

        Raises:
          FileNotFoundError: there is none yet.
          DamagedError: its checkpoint cannot be read.
        """
        config, action_size = self.settings.prior, self.env.task.action_size
        like = jax.eval_shape(lambda: diffusion.untrained(config, rollout.sizes(self.env)[0], action_size))
        return checkpoint.restore(self.run.checkpoints / "prior", like)

    def expert(self, prior: Prior) -> Expert:
        """The steered expert: the one in the run directory, or the end of a training that goes on where it stopped."""
        try:
            return self.finished_expert(prior)
        except checkpoint.DamagedError as error:
            print(f"warning: {error}; steering goes on from its last checkpoint", file=sys.stderr)
        except FileNotFoundError:
            pass
        keys = jax.random.split(self.key("steer"), self.settings.num_seeds)
        expert = training.train(self.run, Steering(self.env, prior, self.settings.steer), keys, self.progress)
        checkpoint.save(self.run.checkpoints / "expert", expert)
        return expert

    def finished_expert(self, prior: Prior) -> Expert:
        """The expert in the run directory; raises like `finished_prior`."""
        learner = Steering(self.env, prior, self.settings.steer)
        like = jax.eval_shape(lambda k: learner.expert(learner.init(k)), self.key("steer"))
        return checkpoint.restore(self.run.checkpoints / "expert", like)

    def policy(self, name: str, prior: Prior | None, expert: Expert | None) -> tuple[rollout.Policy, Any]:
        """A policy by name with its parameters: script, strong_script, prior or expert."""
        task = self.env.task
        if name in ("script", "strong_script"):
            script = getattr(task, name)
            if script is None:
                raise UserError(f"--policy {name}: task '{task.name}' has none")
            return rollout.policy_from_script(script), ()
        assert prior is not None
        if name == "prior":
            return steering.prior_policy(prior.config.chunk), prior
        return steering.expert_policy(prior.config.chunk, self.settings.steer), (prior, expert)

    def evaluation(
        self,
        name: str,
        prior: Prior | None = None,
        expert: Expert | None = None,
        backend: str | None = None,
        episodes: int | None = None,
    ) -> dict[str, Any]:
        """Figures of a policy on the evaluation episodes, made once; by default on the run's back end."""
        policy, params = self.policy(name, prior, expert)
        return evaluated_once(
            self.run, self.progress, name, self.on(backend), policy, params, episodes or self.settings.eval_episodes
        )

    def on(self, backend: str | None) -> Env:
        """The environment on a back end; by default the run's."""
        return self.env if backend in (None, self.env.model.backend) else rollout.make_env(self.env.task, backend)

    def needed(self, policy: str) -> tuple[Prior | None, Expert | None]:
        """The prior and the expert, so far as a policy is made of them.

        Raises:
          UserError: the run has not come that far.
        """
        try:
            prior = None if policy in ("script", "strong_script") else self.finished_prior()
            return prior, None if prior is None or policy == "prior" else self.finished_expert(prior)
        except FileNotFoundError as error:
            missing = "prior" if policy == "prior" else "expert"
            raise UserError(f"--run-dir {self.run.path} holds no {missing} yet: finish steer.py first") from error

    def other_backend(self) -> str:
        """The back end on which an expert of this run shows that it learnt the task and not the engine."""
        return "mjx" if self.env.model.backend == "native" else "native"

    def record(self, prior: Prior, expert: Expert, episodes: int = 2) -> None:
        """`expert.mp4`: prior and expert side by side from the same starts, on the C engine."""
        path = self.run.path / "expert.mp4"
        if path.exists():
            return
        self.progress("video", 0.0, f"{episodes} episodes of prior and expert")
        env, panels, key = self.on("native"), {}, jax.random.key(SELECTION_SEED)
        for name in ("prior", "expert"):
            worlds, frames = rollout.record(env, *self.policy(name, prior, expert), key, episodes)
            panels[name] = episode_clips(env, jax.device_get(worlds), jax.device_get(frames))
        write_video(path, panels, env.task)
        self.progress("video", 1.0, f"{episodes} episodes of prior and expert")

    def finish(self, prior: dict[str, Any], expert: dict[str, Any], transfer: dict[str, Any]) -> dict[str, Any]:
        """Draws `curves.png`, writes `summary.json` from the evaluations of prior and expert, and returns it.

        `wall_s` holds the phases' own times; start-up, the video and what a kill undid are not in it.
        """
        rows = self.run.rows()
        try:
            demo_row = next(row for row in rows if row["phase"] == "demos")
            last = [row for row in rows if row["phase"] == "steer"][-1]
        except (StopIteration, IndexError) as error:
            raise UserError(f"--run-dir {self.run.path}: metrics.jsonl has lost rows; use --overwrite") from error
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
        report.curves(rows, self.run.path / "curves.png", references=references)
        self.run.write_json("summary.json", summary)
        return summary


def evaluated_once(
    run: Run, progress: Progress, name: str, env: Env, policy: rollout.Policy, params: Any, episodes: int
) -> dict[str, Any]:
    """Figures of a policy on the evaluation episodes: those in the run directory, or new ones."""
    label = f"{name} on {env.model.backend}, {episodes} episodes"
    if label not in (run.read_json("evaluations.json") or {}):
        progress("evaluate", 0.0, label)
        start = time.monotonic()
        figures = evaluate(env, policy, params, episodes)
        stored = run.read_json("evaluations.json") or {}  # another command may have written meanwhile
        stored[label] = {"policy": name, **figures, "wall_s": time.monotonic() - start}
        progress("evaluate", 1.0, f"{label}: success {figures['success']:.1%}")
        run.write_json("evaluations.json", stored)
    return (run.read_json("evaluations.json") or {})[label]


def episode_clips(env: Env, worlds: rollout.World, frames: rollout.Frame) -> list[np.ndarray]:
    """Pictures of recorded episodes, each until half a second after its end; on the C engine."""
    return [
        video.render(
            env.model.mj,
            frames.qpos[i][:end],
            frames.mocap_pos[i][:end],
            frames.mocap_quat[i][:end],
            env.task.camera,
            fields={field: values[i] for field, values in worlds.fields.items()},
        )
        for i, end in enumerate(frames.active.sum(1) + 10)
    ]


def write_video(path: Path, panels: Mapping[str, Sequence[np.ndarray]], task: Task) -> None:
    """Writes the clips of each panel one after another, the panels side by side; without ffmpeg it warns."""
    clips = [video.side_by_side(dict(zip(panels, row, strict=True))) for row in zip(*panels.values(), strict=True)]
    try:
        video.write(path, np.concatenate(clips), fps=1 / task.control_dt)
    except (OSError, RuntimeError, ImportError) as error:
        print(f"warning: no video ({type(error).__name__}: {error})", file=sys.stderr)


def open_phases(
    settings: Settings, run_dir: Path | None = None, overwrite: bool = False, tensorboard: bool = False
) -> Phases:
    """Checks the settings and makes or opens the run directory, `runs/TASK-SEED` by default.

    Raises:
      UserError: see `check`, `physics.resolve`, `registry.load` and `runlog.open_run`.
    """
    if settings.task.endswith(".py"):
        settings = dataclasses.replace(settings, task=str(Path(settings.task).resolve()))
    task = registry.load(settings.task, settings.randomization)
    settings_lib.check(settings, task)
    backend = physics.resolve(settings.physics)
    env = _make_env(task, backend, settings)
    path = run_dir or Path("runs") / f"{Path(settings.task).stem}-{settings.seed}"
    if settings.demos is not None:
        demos.load(settings.demos, rollout.sizes(env)[0], task.action_size)
        if overwrite and settings.demos.resolve().is_relative_to(path.resolve()):
            raise UserError(f"--demos {settings.demos} lies in the run directory that --overwrite removes; move it")
    stored = {field.name: as_json(settings)[field.name] for field in dataclasses.fields(Settings)}
    run = open_run(path, stored | {"physics": backend, "task_digest": _digest(settings.task)}, overwrite, tensorboard)
    print(f"{settings.task} on {backend} physics, run directory {path}", file=sys.stderr)
    return Phases(run, settings, env)


def reopen_phases(run_dir: Path, backend: str | None = None) -> Phases:
    """Opens the run in `run_dir` with the settings that made it, on its own back end or another.

    Raises:
      UserError: it is not a run directory, or its task has changed since.
    """
    stored = read_settings(run_dir)
    try:
        settings = settings_lib.from_stored(Settings(), stored)
    except (KeyError, TypeError) as error:
        raise UserError(f"--run-dir {run_dir}: config.json is not of this version ({error})") from error
    if stored["task_digest"] != _digest(settings.task):
        raise UserError(f"--run-dir {run_dir}: {settings.task} has changed since; start afresh with --overwrite")
    env = _make_env(registry.load(settings.task, settings.randomization), backend or settings.physics, settings)
    return Phases(Run(run_dir, stored), settings, env)


def _make_env(task: Task, backend: str, settings: Settings) -> Env:
    worlds = max(settings.steer.worlds, settings.steer.eval_episodes) * settings.num_seeds
    return rollout.make_env(task, backend, max(worlds, settings.demo.episodes, settings.eval_episodes))


def _digest(task: str) -> str:
    """Tells versions of a task file apart; "" for a task of the package."""
    return hashlib.sha256(Path(task).read_bytes()).hexdigest()[:16] if task.endswith(".py") else ""
