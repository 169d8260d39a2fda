"""Videos of agents: episodes recorded on the C engine, drawn with what they are and how they end."""

import operator
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import numpy as np

from expertgen_jax.sim import rollout
from expertgen_jax.sim.rollout import Agent, Env, Frame, World
from expertgen_jax.task import Task
from expertgen_jax.vision import video

AFTERWARDS = 10
"""Control steps for which a clip shows an episode's end."""

Seen = Callable[[World, Frame, int], np.ndarray]
"""What an agent's cameras see: `(final world, frames, count) -> [count, height, width, 3]` in [0, 1], of an episode."""


def clips(
    env: Env, agent: Agent, key: jax.Array, episodes: int, *, height: int = 480, seen: Seen | None = None
) -> list[np.ndarray]:
    """Plays episodes and draws them, each until half a second after its end.

    Args:
      env: the task, on the C engine.
      agent: who acts.
      key: of the episodes; the same key starts them alike for every agent.
      episodes: how many.
      height: of the pictures (pixels); they are 4 : 3.
      seen: pictures that stand in a corner, such as what a student sees.

    Returns:
      A clip an episode, `[time, height, width, 3] uint8`.
    """
    worlds, frames = jax.device_get(rollout.record(env, agent, key, episodes))
    return [
        _clip(
            env,
            agent.name,
            jax.tree.map(operator.itemgetter(i), worlds),
            jax.tree.map(operator.itemgetter(i), frames),
            height=height,
            seen=seen,
        )
        for i in range(episodes)
    ]


def _clip(env: Env, name: str, world: World, frames: Frame, *, height: int, seen: Seen | None) -> np.ndarray:
    task, steps = env.task, int(frames.active.sum())
    count = min(steps + AFTERWARDS, len(frames.active))
    clip = video.render(
        env.model.mj,
        frames.qpos[:count],
        frames.mocap_pos[:count],
        frames.mocap_quat[:count],
        task.spectator,
        width=height * 4 // 3,
        height=height,
        fields=world.fields,
    )
    if seen is not None:
        clip = video.inset(clip, seen(world, frames, count))
    for i, frame in enumerate(clip):
        video.write_text(frame, f"{task.name}: {name}", "top left")
        video.write_text(frame, f"{min(i, steps) * task.control_dt:.1f} s", "bottom left")
        if i >= steps:
            text, colour = ending(world)
            video.write_text(frame, text, "top right", colour)
    return clip


def ending(world: World) -> tuple[str, tuple[int, int, int]]:
    """What to say of a finished episode, and the colour to say it in."""
    if world.success:
        return "success", (120, 220, 130)
    return "diverged" if world.diverged else "failure", (250, 120, 110)


def write(path: Path, panels: Sequence[Sequence[np.ndarray]], task: Task) -> None:
    """Writes the clips of each panel one after another, the panels side by side; without ffmpeg it warns."""
    rows = [video.side_by_side(row) for row in zip(*panels, strict=True)]
    try:
        video.write(path, np.concatenate(rows), fps=1 / task.control_dt)
    except (OSError, RuntimeError, ImportError) as error:
        print(f"warning: no video ({type(error).__name__}: {error})", file=sys.stderr)
