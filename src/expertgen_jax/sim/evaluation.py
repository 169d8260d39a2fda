"""Evaluation on episodes that nothing is trained on: success with its interval, and how the episodes ended."""

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Key

from expertgen_jax.sim import episode, rollout
from expertgen_jax.sim.episode import Env, World
from expertgen_jax.sim.rollout import Agent
from expertgen_jax.task import Task

EVALUATION_SEED = 20260315
"""Reported figures come from these episodes."""
SELECTION_SEED = 250522642
"""The best expert of a run is chosen on these."""
CONFIRMATION_SEED = 260315956
"""An expert that may be good enough is put to the test on these, each time on others."""

AT_ONCE = 4096
"""Episodes of a program, to bound the memory."""

QUANTILES = (0.0, 0.25, 0.5, 0.75, 0.95, 1.0)


def evaluate(env: Env, agent: Agent, episodes: int) -> dict[str, Any]:
    """Plays the evaluation episodes to their ends.

    Returns:
      `physics` (the back end), and the figures of `summarize`.
    """
    key = jax.random.key(EVALUATION_SEED)
    parts = [
        rollout.play(env, agent, key, min(AT_ONCE, episodes - first), first) for first in range(0, episodes, AT_ONCE)
    ]
    worlds = jax.tree.map(lambda *arrays: jnp.concatenate(arrays), *parts)
    return {"physics": env.model.backend, **summarize(env, worlds)}


def lasting(env: Env, agent: Agent, episodes: int, seconds: float = 2.0) -> dict[str, float | None]:
    """Of the successes on the first evaluation episodes, the share that still holds some time later.

    Returns:
      `acting`, where the agent acts on; `still`, where the last command stands; None without a success.
    """
    key, task = jax.random.key(EVALUATION_SEED), env.task
    worlds = rollout.play(env, agent, key, episodes, 0)  # called as in `evaluate`: where as many play, its program
    steps = round(seconds / task.control_dt)
    endless = dataclasses.replace(task, hold=steps + 1, horizon=10**9)  # so that no success ends it
    stopped = dataclasses.replace(endless, control=lambda data, action: data.ctrl)

    def share(task: Task) -> float | None:
        later = _later(env.replace(task=task), agent, worlds, rollout.episode_keys(key, jnp.arange(episodes)), steps)
        return float(later[np.asarray(worlds.success)].mean()) if worlds.success.any() else None

    return {"acting": share(endless), "still": share(stopped)}


@functools.partial(episode.jit, static_argnames="steps")
def _later(env: Env, agent: Agent, worlds: World, keys: Key[Array, "n"], steps: int) -> Bool[Array, "n"]:
    """Whether the rule of success holds in each of `worlds: [n]` after `steps` control steps more."""

    def one(world: World, key: Key[Array, ""]) -> Bool[Array, ""]:
        def decide(carry: tuple[World, Any], _: None) -> tuple[tuple[World, Any], None]:
            world, memory = carry
            memory, actions = rollout.act(agent, memory, world, key)
            return (episode.advance(env, world, actions)[0], memory), None

        begin = episode.restart(env, world), agent.init(key)
        (world, _), _ = jax.lax.scan(decide, begin, None, length=-(-steps // agent.policy.chunk))
        return env.task.success(world.data, world.context)

    return jax.vmap(one)(worlds, keys)


def wilson(successes: int, episodes: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson score interval of a success rate (95 % by default)."""
    if episodes == 0:
        return 0.0, 1.0
    rate, spread = successes / episodes, z * z / episodes
    centre = (rate + spread / 2) / (1 + spread)
    half = math.sqrt(rate * (1 - rate) * spread + spread * spread / 4) / (1 + spread)
    return max(0.0, min(rate, centre - half)), min(1.0, max(rate, centre + half))  # rounding puts them past the rate


def predicted(successes: int, episodes: int, others: int) -> tuple[float, float]:
    """Where success on `others` further episodes lies with 95 %, given `successes` of `episodes`: in whole episodes."""
    low, high = wilson(successes, episodes, z=1.959964 * math.sqrt(1 + episodes / others))
    return math.floor(low * others) / others, math.ceil(high * others) / others


def summarize(env: Env, worlds: World) -> dict[str, Any]:
    """The figures of finished episodes `worlds: [n]`, as plain numbers.

    Returns:
      `success` and `success_lenient` (rates; None if the task has no lenient rule), their intervals `ci95` and
      `ci95_lenient`, `episodes`, `variants` (the same five of each variant that occurred, by name), `diverged` (count),
      `median_steps` of the successes, and `final_pose`: for each of the task's final pose figures its `QUANTILES` over
      the successes (SI).
    """
    success, variant = np.asarray(worlds.success), np.asarray(worlds.variant)
    lenient = np.asarray(worlds.lenient) | success if env.task.lenient else None
    pose: Mapping[str, jax.Array] = {}
    if env.task.final_pose is not None and success.any():
        pose = jax.vmap(env.task.final_pose)(worlds.data, worlds.context)
    return {
        **_rates(success, lenient),
        "variants": {
            name: _rates(success[variant == i], None if lenient is None else lenient[variant == i])
            for i, name in enumerate(env.task.variants)
            if (variant == i).any()
        },
        "diverged": int(np.asarray(worlds.diverged).sum()),
        "median_steps": float(np.median(np.asarray(worlds.steps)[success])) if success.any() else None,
        "final_pose": {
            name: [float(q) for q in np.quantile(np.asarray(values)[success], QUANTILES)]
            for name, values in pose.items()
        },
    }


def _rates(success: Bool[np.ndarray, "n"], lenient: Bool[np.ndarray, "n"] | None) -> dict[str, Any]:
    return {
        "success": float(success.mean()),
        "ci95": wilson(int(success.sum()), len(success)),
        "success_lenient": None if lenient is None else float(lenient.mean()),
        "ci95_lenient": None if lenient is None else wilson(int(lenient.sum()), len(success)),
        "episodes": len(success),
    }
