"""The host's loops: cloning, steering, distillation. Programs run on the device; between them the host looks."""

import time
from collections.abc import Callable
from typing import Any, TypeVar, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from expertgen_jax.errors import UserError
from expertgen_jax.learning import steering, student
from expertgen_jax.learning.dagger import Dagger, DaggerState
from expertgen_jax.learning.demos import DemoSet, chunk_starts
from expertgen_jax.learning.diffusion import Cloning, DiffusionConfig, Prior
from expertgen_jax.learning.steering import Expert, Steering, SteerState
from expertgen_jax.learning.student import Student
from expertgen_jax.runs import checkpoint
from expertgen_jax.runs.directory import RunDirectory
from expertgen_jax.runs.progress import Progress
from expertgen_jax.sim import evaluation, rollout
from expertgen_jax.sim.evaluation import SELECTION_SEED
from expertgen_jax.sim.rollout import Agent

F = TypeVar("F", bound=Callable[..., Any])


class Best(struct.PyTreeNode):
    """The best policy so far and its success on the selection episodes (-1 before there is one)."""

    policy: Any
    success: jax.Array


def pretrain(
    key: jax.Array,
    demos: DemoSet,
    config: DiffusionConfig,
    *,
    failures: float = 0.0,
    report: Callable[[int, float], None] = lambda step, loss: None,
) -> Prior:
    """Clones demonstrations into a diffusion prior.

    Args:
      key: randomness.
      demos: the demonstrations.
      config: the prior and its training.
      failures: share of the failed episodes that is cloned as well.
      report: called with the step and the mean loss since the last call, about ten times.

    Raises:
      UserError: no episode is as long as a chunk.
    """
    starts = chunk_starts(demos, config.chunk, failures)
    if not len(starts):
        raise UserError(f"--prior.chunk {config.chunk} is longer than every demonstration")
    init_key, train_key = jax.random.split(key)
    cloning = Cloning.of(jnp.asarray(demos.obs), jnp.asarray(demos.actions), jnp.asarray(starts), config)
    state = cloning.init(init_key)
    block = jax.jit(Cloning.block)
    keys = jax.random.split(train_key, config.train_steps)
    size = -(-config.train_steps // 10)
    for first in range(0, config.train_steps, size):
        state, loss = block(cloning, state, keys[first : first + size])
        report(int(state.step), float(loss))
    return cloning.trained(state)


def steer(run: RunDirectory, mdp: Steering, keys: jax.Array, progress: Progress) -> Expert:
    """Steers side by side from each of `keys: [seeds]` until every seed has had `config.episodes` episodes.

    Goes on from the last checkpoint in the run directory. Random numbers are part of the saved state, so that an
    interrupted training repeats the figures of an undisturbed one bit by bit (same machine, same back end).

    Returns:
      The expert, of all seeds and times, that did best on the selection episodes; of equals the latest.
    """
    config = mdp.config
    series = checkpoint.Series(run.checkpoints / "training")
    clock = _Clock()

    def init(mdp: Steering) -> tuple[SteerState, Best]:
        states = jax.vmap(mdp.init)(keys)
        return states, Best(jax.tree.map(lambda x: x[0], jax.vmap(mdp.expert)(states)), jnp.float32(-1.0))

    restored, last = _restored(run, series, jax.eval_shape(init, mdp), "steer", "iteration")
    states, best = jax.jit(init)(mdp) if restored is None else restored
    earlier = {name: last.get(name, 0.0) for name in ("wall_s", "compile_s")}

    @clock.compiled(donate_argnums=1)
    def block(mdp: Steering, states: SteerState) -> tuple[SteerState, dict[str, jax.Array]]:
        return jax.vmap(mdp.block)(states)

    @clock.compiled()
    def select(mdp: Steering, experts: Expert, best: Best) -> tuple[Best, jax.Array]:
        policy, key = steering.expert_policy(mdp.prior.config.chunk, config), jax.random.key(SELECTION_SEED)

        def play(expert: Expert) -> jax.Array:
            agent = Agent("expert", policy, (mdp.prior, expert))
            return rollout.play(mdp.env, agent, key, config.eval_episodes).success.mean()

        success = jax.vmap(play)(experts)
        challenger = Best(jax.tree.map(lambda x: x[success.argmax()], experts), success.max())
        return _better(challenger, best), success

    while (episodes := int(states.episodes.min())) < config.episodes:
        began, steps = clock.elapsed(), _total(states.env_steps)
        states, figures = block(mdp, states)
        row = _row(states, jax.device_get(figures))
        rate = (row["env_steps"] - steps) / (clock.elapsed() - began)
        due = row["episodes"] // config.eval_period > episodes // config.eval_period
        if due or row["episodes"] >= config.episodes:
            best, success = select(mdp, jax.vmap(mdp.expert)(states), best)
            row |= _evaluated(success.max(), config.eval_episodes)
            row["success_of_seeds"] = [float(s) for s in success]
        row |= {"compile_s": earlier["compile_s"] + clock.compile_s, "wall_s": earlier["wall_s"] + clock.elapsed()}
        run.log(row, step=row["env_steps"])
        if "success" in row:
            series.save(row["iteration"], (states, best))
        text = f"{row['episodes']} episodes, training success {row['train_success']:.1%}, "
        text += f"best {float(best.success):.1%}, " if best.success >= 0 else ""
        progress("steer", min(1.0, row["episodes"] / config.episodes), f"{text}{rate:,.0f} steps/s")
    return best.policy


def distill(run: RunDirectory, dagger: Dagger, key: jax.Array, progress: Progress) -> Student:
    """Plays, labels and learns for `config.rounds` rounds; goes on from the last checkpoint in the run directory.

    Returns:
      The student, of all rounds that were evaluated, that did best on the selection episodes; of equals the latest.
    """
    config = dagger.config
    series = checkpoint.Series(run.checkpoints / "training")
    clock = _Clock()

    def init(dagger: Dagger) -> tuple[DaggerState, Best]:
        state = dagger.init(key)
        return state, Best(state.student, jnp.float32(-1.0))

    restored, last = _restored(run, series, jax.eval_shape(init, dagger), "distil", "round")
    state, best = jax.jit(init)(dagger) if restored is None else restored
    earlier = last.get("wall_s", 0.0)

    @clock.compiled(donate_argnums=1)
    def play_round(dagger: Dagger, state: DaggerState) -> tuple[DaggerState, dict[str, jax.Array]]:
        return dagger.round(state)

    @clock.compiled()
    def select(dagger: Dagger, challenger: Student, best: Best) -> tuple[Best, jax.Array]:
        policy, key = student.policy(dagger.eyes, dagger.expert.chunk), jax.random.key(SELECTION_SEED)
        agent = Agent("student", policy, challenger)
        success = rollout.play(dagger.env, agent, key, config.eval_episodes).success.mean()
        return _better(Best(challenger, success), best), success

    while (played := int(state.round)) < config.rounds:
        state, figures = play_round(dagger, state)
        row: dict[str, Any] = {"phase": "distil", "round": played + 1}
        row |= {"labelled": int(state.labels.labelled), "kept": int(state.labels.count)}
        row |= {name: float(x) for name, x in figures.items()}
        due = (played + 1) % config.eval_period == 0 or played + 1 == config.rounds
        if due:
            best, success = select(dagger, state.student, best)
            row |= _evaluated(success, config.eval_episodes)
        row |= {"wall_s": earlier + clock.elapsed() + clock.compile_s}
        run.log(row, step=row["labelled"])
        if due:
            series.save(played + 1, (state, best))
        text = f"{row['labelled']} decisions labelled, loss {row['loss']:.4f}"
        text += f", best {float(best.success):.1%}" if best.success >= 0 else ""
        progress("distil", row["round"] / config.rounds, text)
    return best.policy


def _better(challenger: Best, best: Best) -> Best:
    """Of the two the better; of equals the challenger."""
    return jax.tree.map(lambda new, old: jnp.where(challenger.success >= best.success, new, old), challenger, best)


def _restored(
    run: RunDirectory, series: checkpoint.Series, like: Any, phase: str, counter: str
) -> tuple[Any, dict[str, Any]]:
    """The newest state of a phase (None if there is none) and its last row; later rows are dropped."""
    restored = series.restore(like)
    done = 0 if restored is None else restored[0]
    run.keep_rows(lambda row: row["phase"] != phase or row[counter] <= done)
    rows = [row for row in run.rows() if row["phase"] == phase]
    return None if restored is None else restored[1], rows[-1] if rows else {}


def _row(states: SteerState, figures: dict[str, Any]) -> dict[str, Any]:
    """A row of `metrics.jsonl`: sums and means over all seeds; `episodes` is that of the slowest seed."""
    finished, succeeded = figures.pop("finished").sum(), figures.pop("succeeded").sum()
    return {
        "phase": "steer",
        "iteration": int(states.iteration[0]),
        "env_steps": _total(states.env_steps),
        "episodes": int(states.episodes.min()),
        "train_episodes": _total(states.episodes),
        "diverged": _total(states.diverged),
        "train_success": float(succeeded / max(finished, 1)),
        **{name: float(values.mean()) for name, values in figures.items()},
    }


def _total(counts: jax.Array) -> int:
    return int(np.asarray(counts).sum(dtype=np.int64))


def _evaluated(success: jax.Array, episodes: int) -> dict[str, float]:
    """Success on the selection episodes with its interval."""
    low, high = evaluation.wilson(round(float(success) * episodes), episodes)
    return {"success": float(success), "success_low": low, "success_high": high}


class _Clock:
    """Time spent, with compilation apart."""

    def __init__(self) -> None:
        self.start = time.monotonic()
        self.compile_s = 0.0

    def elapsed(self) -> float:
        """Seconds since the start without those spent compiling."""
        return time.monotonic() - self.start - self.compile_s

    def compiled(self, **jit_options: Any) -> Callable[[F], F]:
        """`jax.jit` for arguments of one shape, compiled at the first call."""

        def decorate(function: F) -> F:
            executables: list[Any] = []

            def call(*args: Any) -> Any:
                if not executables:
                    began = time.monotonic()
                    executables.append(jax.jit(function, **jit_options).lower(*args).compile())
                    self.compile_s += time.monotonic() - began
                return executables[0](*args)

            return cast(F, call)

        return decorate
