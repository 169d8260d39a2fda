"""Videos of agents: episodes recorded on the C engine, drawn with what they are and how they end."""

import operator
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from expertgen_jax.learning import student
from expertgen_jax.sim import rollout
from expertgen_jax.sim.episode import Env, Frame, World
from expertgen_jax.sim.rollout import Agent
from expertgen_jax.task import Task
from expertgen_jax.vision import camera, video
from expertgen_jax.vision.camera import Render

RATE = 10.0
"""Pictures a second, or nearly: every so many control steps there is one."""
AFTERWARDS = 6
"""Pictures that show an episode's end."""
HEIGHT = 360
"""Of the videos of a run (pixels); a person waits for them."""


class Poses(NamedTuple):
    """What is drawn of an episode, `[time, ...]`: `qpos`, `mocap_pos`, `mocap_quat` as in `episode.Frame`."""

    qpos: np.ndarray
    mocap_pos: np.ndarray
    mocap_quat: np.ndarray


Seen = Callable[[World, Poses], np.ndarray]
"""What an agent's cameras see in an episode: `(final world, poses) -> [time, height, width, 3]` in [0, 1]."""


def clips(
    env: Env,
    agent: Agent,
    key: jax.Array,
    episodes: int,
    *,
    first: int = 0,
    height: int | None = None,
    seen: Seen | None = None,
) -> list[np.ndarray]:
    """Plays episodes and draws them, each until half a second after its end.

    Args:
      env: the task, on the C engine.
      agent: who acts.
      key: of the episodes; the same key starts them alike for every agent.
      episodes: how many.
      first: number of the first one.
      height: of the pictures (pixels), by default `HEIGHT`; they are 4 : 3.
      seen: pictures that stand in a corner, such as what a student sees.

    Returns:
      A clip an episode, `[time, height, width, 3] uint8`.
    """
    worlds, frames = jax.device_get(rollout.record(env, agent, key, episodes, first))
    return [
        _clip(
            env,
            agent.name,
            jax.tree.map(operator.itemgetter(i), worlds),
            jax.tree.map(operator.itemgetter(i), frames),
            height=height or HEIGHT,
            seen=seen,
        )
        for i in range(episodes)
    ]


def _clip(env: Env, name: str, world: World, frames: Frame, *, height: int, seen: Seen | None) -> np.ndarray:
    task, steps = env.task, int(frames.active.sum())
    stride = _stride(task)
    poses = Poses(*(np.concatenate([x[:steps:stride], [last] * AFTERWARDS]) for x, last in _poses(world, frames)))
    clip = video.render(
        env.model.mj,
        *poses,
        task.spectator,
        width=height * 4 // 3,
        height=height,
        fields=world.fields,
    )
    if seen is not None:
        clip = video.inset(clip, seen(world, poses))
    for i, frame in enumerate(clip):
        step = stride * i if i < len(clip) - AFTERWARDS else steps
        video.write_text(frame, f"{task.name}: {name}", "top left")
        video.write_text(frame, f"{step * task.control_dt:.1f} s", "bottom left")
        if step == steps:
            colour = (120, 220, 130) if world.success else (250, 120, 110)
            video.write_text(frame, ending(world), "top right", colour)
    return clip


def _stride(task: Task) -> int:
    """Control steps from one picture to the next."""
    return max(1, round(1 / (RATE * task.control_dt)))


def _poses(world: World, frames: Frame) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Each part of `Poses`: in all frames, and in the final state."""
    for name in Poses._fields:
        yield getattr(frames, name), getattr(world.data, name)


def ending(world: World) -> str:
    """How a finished episode ended: `success`, `failure` or `diverged`."""
    return "success" if world.success else "diverged" if world.diverged else "failure"


def through_cameras(env: Env, size: int, *, colour: bool, render: Render = camera.render) -> Seen:
    """What the task's cameras see, below each other, without visual randomisation.

    Args:
      env: the task, on the C engine.
      size: of a picture (pixels).
      colour: or else depth, as grey that is brighter where things are nearer, black from 1 m on.
      render: what draws them.
    """

    def seen(world: World, poses: Poses) -> np.ndarray:
        image = student.looked_back(env, world, *poses, size=size, render=render)
        near = 1 - np.minimum(image.depth, 1.0)[..., None]
        pictures = image.rgb if colour else np.repeat(near, 3, axis=-1)
        return np.asarray(pictures).reshape(len(pictures), -1, size, 3)

    return seen


def write(path: Path, panels: Sequence[Sequence[np.ndarray]], task: Task) -> None:
    """Writes the clips of each panel one after another, the panels side by side; see `video.write` for the errors."""
    frames = (frame for row in zip(*panels, strict=True) for frame in video.side_by_side(row))
    video.write(path, frames, fps=1 / (_stride(task) * task.control_dt))


def try_to_write(path: Path, panels: Sequence[Sequence[np.ndarray]], task: Task) -> None:
    """Like `write`, and only warns where it cannot: a run is worth something without its video."""
    try:
        write(path, panels, task)
    except OSError as error:
        print(f"warning: no video: {error}", file=sys.stderr)
