"""Students of a run: each has a directory of its own, `students/NAME`, inside the expert's."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import jax

from expertgen_jax import bounds
from expertgen_jax.errors import UserError
from expertgen_jax.learning import student
from expertgen_jax.learning.dagger import Dagger
from expertgen_jax.learning.student import Eyes, Student
from expertgen_jax.runs import checkpoint, figures, loops, recording
from expertgen_jax.runs.directory import Figures, RunDirectory, open_directory, read_settings
from expertgen_jax.runs.expert import ExpertRun, evaluated_once
from expertgen_jax.runs.logs import LogName
from expertgen_jax.runs.provenance import provenance
from expertgen_jax.runs.settings import GROWING_STUDENT, StudentSettings, from_json, to_json
from expertgen_jax.sim.episode import Env
from expertgen_jax.sim.evaluation import SELECTION_SEED
from expertgen_jax.sim.rollout import Agent
from expertgen_jax.task import Level
from expertgen_jax.vision import camera
from expertgen_jax.vision.appearance import VISUAL_RANDOMIZATIONS
from expertgen_jax.vision.camera import Render
from expertgen_jax.vision.opengl import OpenGL

Renderer = Literal["rays", "opengl"]
"""What draws the pictures that students see: `camera.render`, with which they are trained, or MuJoCo's renderer."""


def drawing(renderer: Renderer, size: int) -> Render:
    """What draws pictures of `size` pixels.

    Raises:
      UserError: this machine cannot draw with OpenGL without a display.
    """
    return camera.render if renderer == "rays" else OpenGL(size)


_DISTILLATION = 0xDA66E2  # sets its random numbers apart from those of a run with the same seed


class StudentRun:
    """A student of a run, from nothing to its evaluation; each phase is done once.

    Attributes:
      run: of its expert.
      directory: where the student is kept.
      settings: that made it.
      name: the folder's.
    """

    def __init__(self, run: ExpertRun, directory: RunDirectory, settings: StudentSettings, name: str):
        self.run, self.directory, self.settings, self.name = run, directory, settings, name
        self.teacher = run.agent("expert")

    def dagger(self) -> Dagger:
        """The distillation as pure functions."""
        settings, teacher = self.settings, self.teacher
        ranges = VISUAL_RANDOMIZATIONS[settings.visual]
        return Dagger(self.run.env, teacher.params, teacher.policy, settings.dagger, settings.student, ranges)

    def student(self) -> Student:
        """The student in the directory, or the end of a distillation that goes on where it stopped."""
        dagger, path = self.dagger(), self.directory.checkpoints / "student"
        try:
            return checkpoint.restore(path, jax.eval_shape(lambda k: dagger.init(k).student, jax.random.key(0)))
        except (FileNotFoundError, checkpoint.DamagedError) as error:
            if isinstance(error, checkpoint.DamagedError):
                print(f"warning: {error}; distilling anew", file=sys.stderr)
            key = jax.random.fold_in(jax.random.key(self.settings.seed), _DISTILLATION)
            learnt = loops.distill(self.directory, dagger, key, self.run.progress)
            checkpoint.save(path, learnt)
            return learnt

    def agent(self, visual: Level, env: Env | None = None, renderer: Renderer = "rays") -> Agent:
        """The student as an agent that sees under a visual randomisation, in `env` (by default the run's)."""
        config = self.settings.student
        eyes = Eyes(env or self.run.env, config, VISUAL_RANDOMIZATIONS[visual], drawing(renderer, config.image_size))
        policy = student.policy(eyes, self.teacher.policy.chunk)
        by = "" if renderer == "rays" else ", by OpenGL"
        return Agent(f"{self.name} student, visual {visual}{by}", policy, self.student())

    def evaluation(
        self, visual: Level, episodes: int | None = None, backend: str | None = None, renderer: Renderer = "rays"
    ) -> Figures:
        """Figures of the student on the evaluation episodes under a visual randomisation, made once."""
        env, episodes = self.run.on(backend), episodes or self.settings.eval_episodes
        return evaluated_once(self.directory, self.run.progress, env, self.agent(visual, env, renderer), episodes)

    def record(self, episodes: int = 2) -> None:
        """`student.mp4`: the expert, and the student with what its cameras see, from the same starts."""
        path = self.directory.path / "student.mp4"
        if path.exists():
            return
        self.run.progress("video", 0.0, f"{episodes} episodes of expert and student")
        env, key = self.run.on("native"), jax.random.key(SELECTION_SEED)
        panels = [
            recording.clips(env, self.teacher, key, episodes),
            recording.clips(env, self.agent("off", env), key, episodes, seen=self.seen(env)),
        ]
        recording.try_to_write(path, panels, env.task)
        self.directory.log_video(path)
        self.run.progress("video", 1.0, f"{episodes} episodes of expert and student")

    def seen(self, env: Env, renderer: Renderer = "rays") -> recording.Seen | None:
        """What the student's cameras see in `env`, for a video; None for a student that has none."""
        config = self.settings.student
        if config.modality in ("blank", "state"):
            return None
        size, colour = config.image_size, config.modality == "rgb"
        return recording.through_cameras(env, size, colour=colour, render=drawing(renderer, size))

    def finish(self) -> tuple[Figures, Figures]:
        """Draws `curves.png`, writes `summary.json`; returns the evaluations without and with visual randomisation."""
        evaluations = self.evaluation("off"), self.evaluation("default")
        expert, rows = self.run.evaluation(self.teacher)["success"], self.directory.rows()
        figures.distillation(rows, self.directory.path / "curves.png", references={"expert": expert})
        summary = {
            "task": self.run.env.task.name,
            "student": self.name,
            "physics": self.run.env.model.backend,
            **provenance(),
            "expert_success": expert,
            **{found["policy"]: {name: found[name] for name in ("success", "ci95")} for found in evaluations},
            "eval_episodes": evaluations[0]["episodes"],
            **self.cost(),
        }
        self.directory.write_json("summary.json", summary)
        return evaluations

    def cost(self) -> dict[str, Any]:
        """Why the distillation ended, decisions labelled, rounds, and seconds that it took."""
        rows = self.directory.rows()
        ended = next(row["ended"] for row in rows if row["phase"] == "distilled")
        last = [row for row in rows if row["phase"] == "distil"][-1]
        return {"ended": ended, "labelled": last["labelled"], "rounds": last["round"], "distil_s": last["wall_s"]}


def open_student(
    run: ExpertRun,
    settings: StudentSettings,
    name: str | None = None,
    overwrite: bool = False,
    log: Sequence[LogName] = (),
) -> StudentRun:
    """Checks the settings and makes or opens the directory of the student `name`, by default its modality.

    Raises:
      UserError: a setting is out of range or asks for what the task does not have, the run holds no expert, or the
        directory was made with other settings.
    """
    bounds.check(settings)
    name = name or settings.student.modality
    if Path(name).name != name or name == "..":
        raise UserError(f"--name {name}: a plain name, please; it becomes a folder")
    run.agent("expert")
    Eyes(run.env, settings.student, VISUAL_RANDOMIZATIONS[settings.visual])
    path = run.directory.path / "students" / name
    directory = open_directory(path, to_json(settings), overwrite=overwrite, log=log, option="--name", change=_change)
    return StudentRun(run, directory, settings, name)


def _change(directory: RunDirectory, names: list[str]) -> list[str]:
    """Of changed settings those for which a student has to start afresh; where there are none, removes what is
    outdated."""
    if fixed := [name for name in names if name not in GROWING_STUDENT]:
        return fixed
    directory.remove("summary.json", "curves.png")
    if names != ["eval_episodes"]:
        directory.remove("checkpoints/student", "student.mp4", "evaluations.json")
    return []


def load_student(run: ExpertRun, name: str | None = None) -> StudentRun:
    """Opens a finished student by name, with the settings that made it; without a name the only one there is.

    Raises:
      UserError: there is none of that name, or there are several to choose from.
    """
    folder = run.directory.path / "students"
    made = sorted(path.parents[1].name for path in folder.glob("*/checkpoints/student"))
    if name is None and len(made) == 1:
        name = made[0]
    if name is None and made:
        raise UserError(f"--student: the run has {', '.join(made)}; choose one")
    if name not in made:
        asked = "--student" if name is None else f"--student {name}"
        raise UserError(f"{asked}: the run has {', '.join(made) or 'none'}; distill makes them")
    stored = read_settings(folder / name)
    try:
        settings = from_json(StudentSettings(), stored)
    except (KeyError, TypeError) as error:
        raise UserError(f"--student {name}: its config.json is not of this version ({error})") from error
    return StudentRun(run, RunDirectory(folder / name), settings, name)
