"""A trial of a task: scripted episodes, and what they show that no look at one function does."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from expertgen_jax.errors import UserError
from expertgen_jax.sim import episode, rollout
from expertgen_jax.sim.episode import Env, Frame, World
from expertgen_jax.sim.physics import mjx


class Trial(NamedTuple):
    """What scripted episodes showed.

    Attributes:
      success: share of them that succeeded.
      first: how the first one ended, in words.
      warnings: what looks like a mistake, a line each.
    """

    success: float
    first: str
    warnings: list[str]


def try_task(env: Env, seed: int = 0, episodes: int = 64) -> Trial:
    """Plays `episodes` of the task's script, on the C engine, the first of them that of `seed`.

    Raises:
      UserError: the script, or what is observed, breaks the contract somewhere in an episode.
    """
    agent = rollout.scripted_agent(env.task)
    worlds, frames = jax.device_get(rollout.record(env, agent, jax.random.key(0), episodes, seed))
    _check_frames(env, worlds, frames)
    findings = [*_starts(env, episodes), *_endings(worlds, frames), *_scene(env.model.mj)]
    return Trial(float(worlds.success.mean()), _story(env, jax.tree.map(lambda x: x[0], worlds)), findings)


def _check_frames(env: Env, worlds: World, frames: Frame) -> None:
    task, usable = env.task, np.asarray(frames.active)
    broken = usable & ~np.isfinite(frames.action).all(-1)
    if broken.any():
        step = np.argwhere(broken)[0][1]
        raise UserError(f"task '{task.name}': script.act gives NaN or infinite numbers, first at control step {step}")
    largest = np.abs(frames.action[usable]).max(initial=0.0)
    if largest > 1 + 1e-6:
        raise UserError(
            f"task '{task.name}': script.act gives actions up to {largest:.3g}, expected [-1, 1]: "
            "scale them in `control`, or clip them"
        )
    broken = usable & ~np.isfinite(frames.obs).all(-1)
    if broken.any():
        number, step = np.argwhere(broken)[0]
        name = episode.entries(env)[np.flatnonzero(~np.isfinite(frames.obs[number, step]))[0]]
        raise UserError(f"task '{task.name}': observe()['{name}'] turns NaN or infinite at control step {step}")


def _starts(env: Env, episodes: int) -> list[str]:
    """What is odd about how episodes start."""
    task, mj = env.task, env.model.mj
    keys = jax.random.split(jax.random.key(0), episodes)
    starts = jax.jit(jax.vmap(lambda key: task.start(key, env.parameters)))(keys)
    findings = []
    servo = (mj.actuator_biasprm[:, 1] != 0).any()
    if starts.ctrl is None and servo and np.any(starts.qpos):
        findings.append("reset gives no ctrl: position actuators start at 0, and pull the joints there at once")
    if all(np.array_equal(x, np.broadcast_to(x[:1], x.shape)) for x in jax.tree.leaves(starts)):
        findings.append("every episode starts alike: reset draws nothing from its key")
    worlds = jax.jit(jax.vmap(lambda key: episode.reset(env, key)))(keys)
    done = jax.jit(jax.vmap(task.success))(worlds.data, worlds.context)
    if done.any():
        findings.append(f"success holds at the start already, in {int(done.sum())} of {episodes} episodes")
    resized = {"geom_size", "geom_type"} & starts.fields.keys()
    if resized and not {"geom_rbound", "geom_aabb"} <= starts.fields.keys():
        findings.append(
            "reset().fields changes geom_size, but not geom_rbound and geom_aabb, by which the C engine finds contacts"
        )
    return findings


def _endings(worlds: World, frames: Frame) -> list[str]:
    """What is odd about how episodes end."""
    findings, count = [], len(worlds.success)
    if diverged := int(worlds.diverged.sum()):
        findings.append(f"physics diverged in {diverged} of {count} episodes: softer gains, or a shorter timestep?")
    if not worlds.success.any():
        findings.append("no scripted episode succeeds: a prior cloned from them has nothing to show")
    if worlds.success.all() and np.median(worlds.steps) <= 2:
        findings.append("every episode succeeds at once: is `success` always true?")
    return findings


def _scene(mj: mujoco.MjModel) -> list[str]:
    """What another engine would make of the scene."""
    try:
        mjx.put_model(mj)
    except NotImplementedError as error:
        return [f"MJX cannot simulate this scene ({error}): train and evaluate it on native only"]
    return []


def _story(env: Env, world: Any) -> str:
    """How an episode ended, and where."""
    task, seconds = env.task, float(world.steps) * env.task.control_dt
    if world.success:
        how = "success"
    elif world.diverged:
        how = "failure, physics diverged"
    else:
        how = "failure, time ran out" + (" while success held" if world.held else "")
    story = f"{how} after {int(world.steps)} control steps ({seconds:.1f} s)"
    if task.final_pose is not None:
        pose = task.final_pose(jax.tree.map(jnp.asarray, world.data), world.context)
        story += ", with " + ", ".join(f"{name} {float(value):.4f}" for name, value in pose.items())
    return story
