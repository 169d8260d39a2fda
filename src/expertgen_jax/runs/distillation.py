"""Students of a run: each has a run directory of its own, `students/NAME`, inside the expert's."""

import dataclasses
import shutil
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from expertgen_jax.errors import UserError
from expertgen_jax.learning import student
from expertgen_jax.learning.dagger import Dagger, DaggerConfig
from expertgen_jax.learning.student import Eyes, Student, StudentConfig
from expertgen_jax.runs import checkpoint, pipeline, training
from expertgen_jax.runs import settings as settings_lib
from expertgen_jax.runs.pipeline import Phases
from expertgen_jax.runs.runlog import Run, as_json, check_settings, open_run, provenance, read_settings
from expertgen_jax.sim import physics, rollout
from expertgen_jax.sim.evaluation import SELECTION_SEED
from expertgen_jax.sim.rollout import Env
from expertgen_jax.task import Level
from expertgen_jax.vision import appearance, video
from expertgen_jax.vision.appearance import VISUAL_RANDOMIZATIONS

_DISTILLATION = 0xDA66E2  # sets its random numbers apart from those of a run with the same seed


@dataclasses.dataclass(frozen=True)
class Settings:
    """What makes a student what it is; stored in its `config.json`."""

    seed: int = 0
    """Of all randomness in the distillation."""
    visual: Level = "default"
    """Visual randomisation in training: camera poses, colours, light, clutter, errors of depth."""
    eval_episodes: int = 1024
    """Episodes behind the reported figures."""
    student: StudentConfig = dataclasses.field(default_factory=StudentConfig)
    """What the student sees, and its network."""
    dagger: DaggerConfig = dataclasses.field(default_factory=DaggerConfig)
    """Distillation."""


def open_student(phases: Phases, settings: Settings, name: str, overwrite: bool = False) -> "StudentRun":
    """Checks the settings and makes or opens the directory of the student `name`.

    Raises:
      UserError: a setting is out of range or asks for what the task does not have, the run holds no expert, or the
        directory was made with other settings.
    """
    check_settings(dataclasses.replace(settings, seed=1))
    if Path(name).name != name or name == "..":
        raise UserError(f"--name {name}: a plain name, please; it becomes a folder")
    prior, expert = phases.needed("expert")
    Eyes(phases.env, settings.student, VISUAL_RANDOMIZATIONS[settings.visual])
    run = open_run(phases.run.path / "students" / name, as_json(settings), overwrite, option="--name")
    return StudentRun(phases, run, settings, name, prior, expert)


def reopen(phases: Phases, name: str) -> "StudentRun":
    """Opens a student by name, with the settings that made it.

    Raises:
      UserError: there is none of that name.
    """
    path = phases.run.path / "students" / name
    if not (path / "checkpoints" / "student").exists():
        made = sorted(p.parents[1].name for p in phases.run.path.glob("students/*/checkpoints/student"))
        raise UserError(f"--student {name}: the run has {', '.join(made) or 'none'}; make it with distill.py")
    stored = read_settings(path)
    try:
        settings = settings_lib.from_stored(Settings(), stored)
    except (KeyError, TypeError) as error:
        raise UserError(f"--student {name}: its config.json is not of this version ({error})") from error
    return StudentRun(phases, Run(path, stored), settings, name, *phases.needed("expert"))


class StudentRun:
    """A student of a run, from nothing to its evaluation; each phase is done once."""

    def __init__(self, phases: Phases, run: Run, settings: Settings, name: str, prior: Any, expert: Any):
        self.phases, self.run, self.settings = phases, run, settings
        self.name, self.prior, self.expert = name, prior, expert

    def learner(self) -> Dagger:
        """The distillation as pure functions."""
        settings, phases = self.settings, self.phases
        expert, params = phases.policy("expert", self.prior, self.expert)
        ranges = VISUAL_RANDOMIZATIONS[settings.visual]
        return Dagger(phases.env, params, expert, settings.dagger, settings.student, ranges)

    def student(self) -> Student:
        """The student in the directory, or the end of a distillation that goes on where it stopped."""
        learner, path = self.learner(), self.run.checkpoints / "student"
        try:
            learnt = checkpoint.restore(path, jax.eval_shape(lambda k: learner.init(k).student, jax.random.key(0)))
        except (FileNotFoundError, checkpoint.DamagedError) as error:
            if isinstance(error, checkpoint.DamagedError):
                print(f"warning: {error}; distilling anew", file=sys.stderr)
            key = jax.random.fold_in(jax.random.key(self.settings.seed), _DISTILLATION)
            learnt = training.distil(self.run, learner, key, self.phases.progress)
            checkpoint.save(path, learnt)
        shutil.rmtree(self.run.checkpoints / "training", ignore_errors=True)  # the labels: hundreds of megabytes
        return learnt

    def policy(self, env: Env, visual_name: Level) -> rollout.Policy:
        """The student as a policy, of which it is the parameters."""
        eyes = Eyes(env, self.settings.student, VISUAL_RANDOMIZATIONS[visual_name])
        return student.policy(eyes, self.prior.config.chunk)

    def evaluation(self, visual_name: Level, episodes: int | None = None, backend: str | None = None) -> dict[str, Any]:
        """Figures of the student on the evaluation episodes under a visual randomisation, made once."""
        env, episodes = self.phases.on(backend), episodes or self.settings.eval_episodes
        label = f"{self.name} student, visual {visual_name}"
        return pipeline.evaluated_once(
            self.run, self.phases.progress, label, env, self.policy(env, visual_name), self.student(), episodes
        )

    def record(self, episodes: int = 2) -> None:
        """`student.mp4`: the expert, and the student with what its cameras see, from the same starts."""
        path = self.run.path / "student.mp4"
        if path.exists():
            return
        self.phases.progress("video", 0.0, f"{episodes} episodes of expert and student")
        env, key = self.phases.on("native"), jax.random.key(SELECTION_SEED)
        seen = rollout.record(env, *self.phases.policy("expert", self.prior, self.expert), key, episodes)
        panels = {"expert": pipeline.episode_clips(env, *jax.device_get(seen))}
        worlds, frames = rollout.record(env, self.policy(env, "off"), self.student(), key, episodes)
        clips = pipeline.episode_clips(env, *jax.device_get((worlds, frames)))
        panels["student"] = [
            video.inset(clip, self._pictures(env, jax.tree.map(lambda x, i=i: x[i], (worlds, frames)), len(clip)))
            for i, clip in enumerate(clips)
        ]
        pipeline.write_video(path, panels, env.task)
        self.phases.progress("video", 1.0, f"{episodes} episodes of expert and student")

    def _pictures(self, env: Env, episode: Any, count: int) -> np.ndarray:
        """What the student's cameras see in the first control steps of an episode, below each other, as grey or RGB."""
        world, frames = episode
        config, off = self.settings.student, VISUAL_RANDOMIZATIONS["off"]
        look = appearance.draw(off, env.task, env.model.mj, jax.random.key(0))
        model = physics.with_fields(env.model, world.fields)

        def see(qpos: jax.Array, mocap_pos: jax.Array, mocap_quat: jax.Array) -> jax.Array:
            data = physics.init(model, qpos, mocap_pos=mocap_pos, mocap_quat=mocap_quat)
            image = appearance.see(
                off, env.task, env.model.mj, world.replace(data=data), look, config.image_size, jax.random.key(0)
            )
            near = 1 - jnp.minimum(image.depth / student.FARTHEST, 1.0)[..., None]
            return image.rgb if config.modality == "rgb" else jnp.repeat(near, 3, axis=-1)

        if config.modality in ("blank", "state"):
            return np.zeros((count, 0, 0, 3))
        pictures = jax.jit(jax.vmap(see))(frames.qpos[:count], frames.mocap_pos[:count], frames.mocap_quat[:count])
        return np.asarray(pictures).reshape(count, -1, config.image_size, 3)

    def finish(self, *evaluations: dict[str, Any]) -> dict[str, Any]:
        """Writes and returns `summary.json`, from the evaluations without and with visual randomisation."""
        expert = self.phases.evaluation("expert", self.prior, self.expert)
        summary = {
            "task": self.phases.env.task.name,
            "student": self.name,
            "physics": self.phases.env.model.backend,
            **provenance(),
            "expert_success": expert["success"],
            **{figures["policy"]: {name: figures[name] for name in ("success", "ci95")} for figures in evaluations},
            "eval_episodes": evaluations[0]["episodes"],
            **self.figures(),
        }
        self.run.write_json("summary.json", summary)
        return summary

    def figures(self) -> dict[str, Any]:
        """Decisions labelled and kept, and seconds that the distillation took."""
        last = [row for row in self.run.rows() if row["phase"] == "distil"][-1]
        return {"labelled": last["labelled"], "kept": last["kept"], "distil_s": last["wall_s"]}
