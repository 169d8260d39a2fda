"""Demonstrations: scripted ones made in parallel, and the DemoSet on disk."""

import dataclasses
import operator
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from expertgen_jax.bounds import Count, NonNegative
from expertgen_jax.errors import UserError
from expertgen_jax.files import atomic
from expertgen_jax.sim import episode, rollout
from expertgen_jax.sim.episode import Env, Frame, World


@dataclasses.dataclass(frozen=True)
class DemoConfig:
    """Scripted demonstrations."""

    episodes: Count = 1536
    """Episodes that the demonstrator is asked for at a time, failed ones included."""
    successes: Count = 400
    """Successful episodes that are wanted; the demonstrator is asked again until there are so many."""
    max_episodes: Count = 49152
    """Episodes after which the demonstrator is asked no more."""
    start_noise: bool = True
    """Start from random places, as training does; otherwise from the task's nominal start (the paper's ablation)."""
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


class Asked(NamedTuple):
    """How demonstrations came about: `episodes` asked for, of which `succeeded`, and `diverged`, which are left out."""

    episodes: int
    succeeded: int
    diverged: int


def demonstrate(
    env: Env, key: Key[Array, ""], config: DemoConfig, report: Callable[[Asked], None] = lambda asked: None
) -> tuple[DemoSet, Asked]:
    """Asks the demonstrator for episodes until `config.successes` of them succeeded.

    Failures are kept of the first round only: they are there to be looked at, nothing learns from them.

    Args:
      env: the environment.
      key: randomness.
      config: who demonstrates, and how much.
      report: called after each round.

    Raises:
      UserError: the task does not say how to make what is asked for.
    """
    ask = (forwards if config.source == "script" else backwards)(env, config)
    rounds: list[DemoSet] = []
    asked = Asked(0, 0, 0)
    while not rounds or (asked.succeeded < config.successes and asked.episodes < config.max_episodes):
        worlds, frames = jax.device_get(ask(jax.random.fold_in(key, len(rounds))))
        keep = ~worlds.diverged & (worlds.success | (not rounds))
        rounds.append(episodes(worlds.success[keep], jax.tree.map(operator.itemgetter(keep), frames)))
        asked = Asked(
            asked.episodes + len(keep),
            asked.succeeded + int(worlds.success.sum()),
            asked.diverged + int(worlds.diverged.sum()),
        )
        report(asked)
    return DemoSet(*map(np.concatenate, zip(*rounds, strict=True))), asked


def episodes(success: Bool[np.ndarray, "episodes"], frames: Frame) -> DemoSet:
    """What `rollout.record` recorded, `[episodes, time, ...]` on the host, without what follows the ends."""
    active = frames.active
    obs, actions, lengths = frames.obs[active], frames.action[active], active.sum(1)
    return DemoSet(np.asarray(obs), np.asarray(actions), np.asarray(lengths), success)


def forwards(env: Env, config: DemoConfig) -> Callable[[Key[Array, ""]], tuple[World, Frame]]:
    """Rolls out the task's script, then as often as asked from where it failed; see `rollout.record`.

    Returns:
      A function of a key to final worlds and frames, as `rollout.record` makes them: of the first tries, then of the
      second of those that failed, and so on.
    """
    task = env.task
    if not config.start_noise:
        if task.nominal_reset is None:
            raise UserError(f"--demo.no-start-noise: task '{task.name}' defines no nominal_reset")
        env = env.replace(task=dataclasses.replace(task, reset=task.nominal_reset))
    script = rollout.scripted_agent(task)

    def ask(key: Key[Array, ""]) -> tuple[World, Frame]:
        tries = [rollout.record(env, script, key, config.episodes)]
        failing = ~tries[0][0].success & ~tries[0][0].diverged
        kept = [tries[0]]
        for number in range(1, config.tries):
            keys = jax.random.split(jax.random.fold_in(key, config.episodes + number), config.episodes)
            left = jax.vmap(lambda world: episode.restart(env, world))(tries[-1][0])
            tries.append(rollout.record_from(env, script, left, jax.vmap(script.policy.init)(keys), keys))
            chosen = np.flatnonzero(failing)
            kept.append(jax.tree.map(operator.itemgetter(chosen), tries[-1]))
            failing &= ~tries[-1][0].success & ~tries[-1][0].diverged
        return jax.tree.map(lambda *x: jnp.concatenate(x), *kept)

    return ask


def backwards(env: Env, config: DemoConfig) -> Callable[[Key[Array, ""]], tuple[World, Frame]]:
    """Takes the work apart in simulation and retraces each path backwards from where it ended.

    Returns:
      A function of a key to final worlds and frames of the retracing, as `rollout.record` makes them.
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
    apart_env = env.replace(task=apart_task)
    dismantler = rollout.Agent("disassembly", rollout.policy_from_script(script))

    @jax.jit
    @jax.vmap
    def begin(world: World, path: Float[Array, "time nq"], key: Key[Array, ""]) -> tuple[World, Any]:
        return episode.restart(env, world), (path[::-1], bias * how.bias(key), jnp.int32(0))

    def retrace(
        params: Any, memory: Any, world: World, key: Key[Array, ""]
    ) -> tuple[Any, Float[Array, "chunk=1 action_size"]]:
        path, beside, step = memory
        goal = path[jnp.minimum(step, len(path) - 1)]
        return (path, beside, step + 1), how.retrace(world.data, goal, beside)[None]

    retracer = rollout.Agent("retracing", rollout.Policy(1, lambda key: (), retrace))

    def ask(key: Key[Array, ""]) -> tuple[World, Frame]:
        apart, frames = rollout.record(apart_env, dismantler, key, config.episodes)
        keys = jax.random.split(jax.random.fold_in(key, 1), config.episodes)
        worlds, memories = begin(apart, frames.qpos, keys)
        return rollout.record_from(env, retracer, worlds, memories, keys)

    return ask


def cloned(demos: DemoSet) -> Bool[np.ndarray, "episodes"]:
    """`[episodes]`: those that a prior learns from, which are the successful ones; all where nothing succeeded."""
    return demos.success if demos.success.any() else np.ones_like(demos.success)


def windows(demos: DemoSet, chunk: int) -> Int[np.ndarray, "n chunk"]:
    """`[n, chunk]`, rows of `demos.actions` that make an action chunk, from each control step of the cloned episodes.

    Past an episode's end its last action is repeated, so that its last steps are learnt too.
    """
    last = np.cumsum(demos.lengths) - 1
    of = np.repeat(np.arange(len(last)), demos.lengths)  # the episode of each step
    steps = np.flatnonzero(cloned(demos)[of])
    return np.minimum(steps[:, None] + np.arange(chunk), last[of[steps], None])


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
    if not np.isin(demos.success, (0, 1)).all():
        raise fail("'success' must be 0 or 1 for each episode")
    with np.errstate(over="ignore"):
        demos = DemoSet(
            obs=demos.obs.astype(np.float32),
            actions=demos.actions.astype(np.float32),
            lengths=demos.lengths.astype(int),
            success=demos.success.astype(bool),
        )
    for name in ("obs", "actions"):
        if not np.isfinite(getattr(demos, name)).all():
            raise fail(f"'{name}' holds numbers that are not finite")
    if np.abs(demos.actions).max() > 1 + 1e-6:
        raise fail(f"'actions' must lie in [-1, 1], found {np.abs(demos.actions).max():.3g}")
    return demos


def strange(demos: DemoSet, starts: Float[np.ndarray, "n obs_size"], entries: Sequence[str]) -> list[str]:
    """What of a user's demonstrations looks like other units, another order, or another task; a line each.

    Args:
      demos: the demonstrations.
      starts: `[n, obs_size]`, observations at the start of the task's own episodes.
      entries: the name of each number in an observation.
    """
    findings = []
    if np.abs(demos.actions).max() < 0.1:
        findings.append(
            f"all actions are within {np.abs(demos.actions).max():.2g}: are they in other units than [-1, 1]?"
        )
    first = demos.obs[np.concatenate([[0], np.cumsum(demos.lengths)[:-1]])]
    low, high = starts.min(0), starts.max(0)
    slack = 0.5 * (high - low) + 1e-3
    outside = ((first < low - slack) | (first > high + slack)).mean(0) > 0.5
    for name in dict.fromkeys(np.asarray(entries)[outside]):
        findings.append(f"episodes start with '{name}' where the task's own never do: other units, or another order?")
    return findings
