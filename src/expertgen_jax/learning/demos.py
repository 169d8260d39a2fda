"""Demonstrations: scripted ones made in parallel, and the DemoSet on disk."""

import dataclasses
import operator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from expertgen_jax.bounds import Count, NonNegative, Share
from expertgen_jax.errors import UserError
from expertgen_jax.files import atomic
from expertgen_jax.sim import rollout
from expertgen_jax.sim.rollout import Env, Frame, World


@dataclasses.dataclass(frozen=True)
class DemoConfig:
    """Scripted demonstrations."""

    episodes: Count = 1536
    """Episodes to record, failed ones included, which are marked."""
    start_noise: bool = True
    """Start from random places, as training does; otherwise from the task's nominal start (the paper's ablation)."""
    failures: Share = 0.0
    """Share of the failed episodes that the prior clones besides the successful ones."""
    tries: Count = 1
    """Attempts of the script at each start; each further one begins where the last failed, as an episode of its own."""
    source: Literal["script", "disassembly"] = "script"
    """Who demonstrates: the task's script, or disassembly played backwards."""
    bias: NonNegative = 1.0
    """How far disassembly's demonstrations deviate from the path, in units of the task's own bias."""


class DemoSet(NamedTuple):
    """Episodes end to end.

    Attributes:
      obs: `[time, obs_size]`, before each control step.
      actions: `[time, action_size]` in [-1, 1].
      lengths: `[episodes]`, control steps of each; they add up to `time`.
      success: `[episodes]` bool.
    """

    obs: Float[np.ndarray, "time obs_size"]
    actions: Float[np.ndarray, "time action_size"]
    lengths: Int[np.ndarray, "episodes"]
    success: Bool[np.ndarray, "episodes"]


def demonstrate(env: Env, key: Key[Array, ""], config: DemoConfig) -> tuple[DemoSet, int]:
    """Makes demonstrations; returns the episodes and how many diverged (those are left out).

    Raises:
      UserError: the task does not say how to make what is asked for.
    """
    worlds, frames = (forwards if config.source == "script" else backwards)(env, key, config)
    keep = ~np.asarray(worlds.diverged)
    active = np.asarray(frames.active)[keep]
    demos = DemoSet(
        obs=np.asarray(frames.obs)[keep][active],
        actions=np.asarray(frames.action)[keep][active],
        lengths=active.sum(1),
        success=np.asarray(worlds.success)[keep],
    )
    return demos, int((~keep).sum())


def forwards(env: Env, key: Key[Array, ""], config: DemoConfig) -> tuple[World, Frame]:
    """Rolls out the task's script, then as often as asked from where it failed; see `rollout.record`.

    Returns:
      Final worlds and frames, as `rollout.record` does: of the first tries, then of the second, and so on.
    """
    task = env.task
    if not config.start_noise:
        if task.nominal_reset is None:
            raise UserError(f"--demo.no-start-noise: task '{task.name}' defines no nominal_reset")
        env = env.replace(task=dataclasses.replace(task, reset=task.nominal_reset))
    script = rollout.scripted_agent(task)
    tries = [rollout.record(env, script, key, config.episodes)]
    for number in range(1, config.tries):
        worlds, _ = tries[-1]
        failed = np.flatnonzero(~worlds.success & ~worlds.diverged)
        if not len(failed):
            break
        keys = jax.random.split(jax.random.fold_in(key, config.episodes + number), len(failed))
        left = jax.vmap(lambda world: rollout.restart(env, world))(jax.tree.map(operator.itemgetter(failed), worlds))
        tries.append(rollout.record_from(env, script, left, jax.vmap(script.policy.init)(keys), keys))
    return jax.tree.map(lambda *x: jnp.concatenate(x), *tries)


def backwards(env: Env, key: Key[Array, ""], config: DemoConfig) -> tuple[World, Frame]:
    """Takes the work apart in simulation and retraces each path backwards from where it ended.

    Returns:
      Final worlds and frames of the retracing, as `rollout.record` does.
    """
    task = env.task
    if task.disassembly is None:
        raise UserError(f"--demo.source disassembly: task '{task.name}' defines no disassembly")
    how, bias = task.disassembly, config.bias
    script = how.script if config.start_noise else how.nominal_script
    if script is None:
        raise UserError(f"--demo.no-start-noise: task '{task.name}' defines no disassembly.nominal_script")

    def never(data: Any, context: Any) -> Bool[Array, ""]:
        return jnp.bool_(False)

    apart_task = dataclasses.replace(task, reset=how.reset, success=never, lenient=None, horizon=how.steps)
    dismantler = rollout.Agent("disassembly", rollout.policy_from_script(script))
    apart, frames = rollout.record(env.replace(task=apart_task), dismantler, key, config.episodes)

    def begin(world: World, path: Float[Array, "time nq"], key: Key[Array, ""]) -> tuple[World, Any]:
        return rollout.restart(env, world), (path[::-1] + bias * how.bias(key), jnp.int32(0))

    def retrace(
        params: Any, memory: Any, world: World, key: Key[Array, ""]
    ) -> tuple[Any, Float[Array, "chunk=1 action_size"]]:
        path, step = memory
        goal = path[jnp.minimum(step, len(path) - 1)]
        return (path, step + 1), how.retrace(world.data, goal)[None]

    keys = jax.random.split(jax.random.fold_in(key, 1), config.episodes)
    worlds, memories = jax.vmap(begin)(apart, frames.qpos, keys)
    retracer = rollout.Agent("retracing", rollout.Policy(1, lambda key: (), retrace))
    return rollout.record_from(env, retracer, worlds, memories, keys)


def chunk_starts(demos: DemoSet, chunk: int, failures: float) -> Int[np.ndarray, "n"]:
    """`[n]`, indices into `demos.obs` where a chunk begins that lies within one chosen episode.

    The successes are chosen and the first `failures` (a share) of what failed; all if nothing succeeded.
    """
    failed = ~demos.success
    chosen = demos.success | (np.cumsum(failed) <= failures * failed.sum()) | failed.all()
    ends = np.cumsum(demos.lengths)
    spans = [
        np.arange(end - length, end - chunk + 1)
        for end, length, ok in zip(ends, demos.lengths, chosen, strict=True)
        if ok
    ]
    return np.concatenate(spans) if spans else np.zeros(0, int)


def save(path: Path, demos: DemoSet) -> None:
    """Writes an `.npz` archive, whole or not at all."""
    with atomic(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **demos._asdict())


def load(path: Path, obs_size: int, action_size: int) -> DemoSet:
    """Reads an archive written by `save` or by hand.

    Raises:
      UserError: the file is missing, not an archive, lacks an array, is empty, or holds wrong shapes or numbers.
    """

    def fail(problem: str) -> UserError:
        return UserError(f"--demos {path}: {problem}")

    if not path.exists():
        raise fail("no such file")
    try:
        with open(path, "rb") as file, np.load(file) as archive:  # NumPy itself leaves a damaged file open
            missing = [name for name in DemoSet._fields if name not in archive.files]
            if missing:
                raise fail(f"lacks the array '{missing[0]}' (needs {', '.join(DemoSet._fields)})")
            demos = DemoSet(**{name: archive[name] for name in DemoSet._fields})
    except UserError:
        raise
    except Exception as error:  # zipfile, zlib and NumPy raise what they like on damaged files
        raise fail("not an .npz archive, or damaged") from error
    if demos.lengths.ndim != 1 or not np.issubdtype(demos.lengths.dtype, np.integer):
        raise fail(f"'lengths' must be whole numbers [episodes], found {demos.lengths.dtype} {demos.lengths.shape}")
    for name in ("obs", "actions", "success"):
        if getattr(demos, name).dtype.kind not in "fiub":
            raise fail(f"'{name}' must be numbers, found {getattr(demos, name).dtype}")
    time = int(demos.lengths.sum())
    for name, shape in (
        ("obs", (time, obs_size)),
        ("actions", (time, action_size)),
        ("success", demos.lengths.shape),
    ):
        array = getattr(demos, name)
        if array.shape != shape:
            raise fail(f"'{name}' has shape {array.shape}, expected {shape}")
    if time <= 0 or (demos.lengths <= 0).any():
        raise fail("holds no episodes, or empty ones")
    for name in ("obs", "actions"):
        if not np.isfinite(getattr(demos, name)).all():
            raise fail(f"'{name}' holds numbers that are not finite")
    if np.abs(demos.actions).max() > 1 + 1e-6:
        raise fail(f"'actions' must lie in [-1, 1], found {np.abs(demos.actions).max():.3g}")
    return DemoSet(
        obs=demos.obs.astype(np.float32),
        actions=demos.actions.astype(np.float32),
        lengths=demos.lengths.astype(int),
        success=demos.success.astype(bool),
    )
