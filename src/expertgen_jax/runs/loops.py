"""The host's loops: cloning, steering, distillation. Programs run on the device; between them the host looks."""

import functools
import math
import shutil
import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from expertgen_jax.learning import steering, student, td3
from expertgen_jax.learning.dagger import Dagger, DaggerConfig, DaggerState, Labels, filled
from expertgen_jax.learning.demos import DemoSet, windows
from expertgen_jax.learning.diffusion import PARTS, Cloning, DiffusionConfig, Prior
from expertgen_jax.learning.steering import Expert, SteerConfig, Steering, SteerState
from expertgen_jax.learning.student import Student
from expertgen_jax.runs import checkpoint, memory
from expertgen_jax.runs.directory import RunDirectory
from expertgen_jax.runs.progress import Progress
from expertgen_jax.sim import episode, evaluation, physics, rollout
from expertgen_jax.sim.evaluation import CONFIRMATION_SEED, SELECTION_SEED
from expertgen_jax.sim.rollout import Agent

F = TypeVar("F", bound=Callable[..., Any])

SEEMS_DONE = 0.9
"""Training success, in shares of the target, at which an expert, which does not explore, may have reached it."""


class Best(struct.PyTreeNode):
    """The best policy so far, with the episodes that say so.

    Attributes:
      policy: its parameters.
      successes: on `episodes` episodes, none before there is one.
      confirmed: those were fresh ones, and not those on which it was chosen.
      since: when it, or one as good, was found: in training episodes, or rounds of a distillation.
    """

    policy: Any
    successes: jax.Array
    episodes: jax.Array
    confirmed: jax.Array
    since: jax.Array

    @classmethod
    def none(cls, policy: Any) -> "Best":
        """No policy has been tried yet."""
        return cls(policy, jnp.int32(0), jnp.int32(0), jnp.bool_(False), jnp.int32(0))

    @property
    def low(self) -> float:
        """The lower end of the interval of its success, by which policies are compared."""
        return evaluation.wilson(int(self.successes), int(self.episodes))[0]

    @property
    def success(self) -> float:
        """The rate; NaN before there is one."""
        return int(self.successes) / int(self.episodes) if self.episodes else math.nan

    def challenged(self, other: "Best") -> "Best":
        """The better one; of equals the other, which does not count as progress."""
        if other.low < self.low:
            return self
        return other if other.low > self.low else other.replace(since=self.since)


def pretrain(
    key: jax.Array,
    demos: DemoSet,
    config: DiffusionConfig,
    report: Callable[[int, int, float], None] = lambda step, steps, loss: None,
) -> Prior:
    """Clones demonstrations into a diffusion prior.

    Args:
      key: randomness.
      demos: the demonstrations.
      config: the prior and its training.
      report: called with the step, of how many, and the mean loss since the last call, after each of `PARTS`.
    """
    init_key, train_key = jax.random.split(key)
    cloning = Cloning.of(demos.obs, demos.actions, windows(demos, config.chunk), config)
    state = cloning.init(init_key)
    block = jax.jit(Cloning.block)
    for keys in jax.random.split(train_key, (PARTS, cloning.steps // PARTS)):
        state, loss = block(cloning, state, keys)
        report(int(state.step), cloning.steps, float(loss))
    return cloning.trained(state)


class Learnt(NamedTuple):
    """What steering has learnt: networks, with their optimisers, and the normalisation of what they see."""

    learner: td3.LearnerState
    normalizer: td3.Normalizer


def _begin(mdp: Steering, keys: jax.Array, learnt: Learnt | None = None) -> tuple[SteerState, Best]:
    """Steering before its first step, side by side from each of `keys: [seeds]`; what is `learnt` needs no warm-up."""
    states = jax.vmap(mdp.init)(keys)
    if learnt is not None:
        learner, normalizer = jax.tree.map(lambda x: jnp.repeat(x[None], len(keys), axis=0), learnt)
        warm = jnp.full_like(states.successes, mdp.config.warmup_successes)
        states = states.replace(learner=learner, normalizer=normalizer, successes=warm)
    return states, Best.none(jax.tree.map(lambda x: x[0], jax.vmap(mdp.expert)(states)))


def learnt(run: RunDirectory, mdp: Steering, seeds: int) -> Learnt:
    """What a run's steering, of so many seeds, had learnt when it last was evaluated; of the first of them.

    Raises:
      FileNotFoundError: it was never evaluated.
    """
    shapes = jax.eval_shape(_begin, mdp, jax.random.split(jax.random.key(0), seeds))
    if (found := checkpoint.Series(run.checkpoints / "training").restore(shapes)) is None:
        raise FileNotFoundError(run.checkpoints / "training")
    states, _ = found[1]
    return Learnt(*jax.tree.map(lambda x: x[0], (states.learner, states.normalizer)))


def steer(
    run: RunDirectory, mdp: Steering, keys: jax.Array, progress: Progress, inherited: Learnt | None = None
) -> Expert:
    """Steers side by side from each of `keys: [seeds]` until an expert reaches the target, or nothing gets better.

    An expert that reaches `config.target` on the selection episodes is put to the test on fresh ones; steering ends
    where the lower end of the interval of its success there reaches it too. Goes on from the last checkpoint in the
    run directory. Random numbers are part of the saved state, so that an interrupted training repeats the figures of
    an undisturbed one bit by bit (same machine, same back end). With what another run `inherited` it goes on from that.

    Returns:
      The expert, of all seeds and times, whose success is surest; of equals the latest.
    """
    config = mdp.config
    series = checkpoint.Series(run.checkpoints / "training")
    clock = _Clock()
    shapes = jax.eval_shape(_begin, mdp, keys)
    memory.check(shapes, "take fewer --steer.worlds, --num-seeds or --steer.buffer-decisions")
    restored, last = _restored(run, series, shapes, "steer", "iteration")
    states, best = jax.jit(_begin)(mdp, keys, inherited) if restored is None else restored
    earlier = {name: last.get(name, 0.0) for name in ("wall_s", "compile_s")}

    @clock.compiled(donate_argnums=1)
    def block(mdp: Steering, states: SteerState) -> tuple[SteerState, dict[str, jax.Array]]:
        return jax.vmap(mdp.block)(states)

    @clock.compiled()
    def successes(mdp: Steering, expert: Expert, key: jax.Array, first: int) -> jax.Array:
        policy = steering.expert_policy(mdp.prior.config.chunk, episode.sizes(mdp.env)[0], config)
        agent = Agent("expert", policy, (mdp.prior, expert))
        return rollout.play(mdp.env, agent, key, config.eval_episodes, first).success.sum()

    def select(experts: Expert, iteration: int, episodes: int) -> tuple[Best, list[float]]:
        """The best of the present experts, put to the test where it may be good enough; and the success of each."""
        found = []
        for seed in range(len(keys)):
            expert = jax.tree.map(lambda x, seed=seed: x[seed], experts)
            count = successes(mdp, expert, jax.random.key(SELECTION_SEED), 0)
            found.append(Best(expert, count, jnp.int32(config.eval_episodes), jnp.bool_(False), jnp.int32(episodes)))
        chosen = max(found, key=lambda one: one.success)
        if chosen.success >= config.target:
            chosen = confirm(chosen, iteration)
        return chosen, [one.success for one in found]

    def confirm(chosen: Best, iteration: int) -> Best:
        """The expert with its success on fresh episodes."""
        return tested(chosen, functools.partial(successes, mdp), iteration, config)

    while not (reason := ended(best, episodes := int(states.episodes.min()), config.episodes, config)):
        began, steps = clock.elapsed(), _total(states.env_steps)
        states, figures = block(mdp, states)
        row = _row(states, jax.device_get(figures))
        rate = (row["env_steps"] - steps) / (clock.elapsed() - began)
        if due(best, episodes, row["episodes"], row.get("train_success", 0.0), config):
            chosen, of_seeds = select(jax.vmap(mdp.expert)(states), row["iteration"], row["episodes"])
            best = best.challenged(chosen)
            row |= _evaluated(chosen) | {"success_of_seeds": of_seeds}
        row |= {"compile_s": earlier["compile_s"] + clock.compile_s, "wall_s": earlier["wall_s"] + clock.elapsed()}
        run.log(row, step=row["env_steps"])
        if "success" in row:
            series.save(row["iteration"], (states, best))
        text = f"{row['episodes']} episodes, "
        text += f"training success {row['train_success']:.1%}, " if "train_success" in row else ""
        text += f"best {best.success:.1%}, " if best.episodes else ""
        progress("steer", min(1.0, row["episodes"] / config.episodes), f"{text}{rate:,.0f} steps/s")
    if not best.confirmed:
        best = confirm(best, int(states.iteration.max()))
    row = {"phase": "steered", "ended": reason, "episodes": episodes, **_evaluated(best)}
    run.keep_rows(lambda row: row["phase"] != "steered")
    run.log(row, step=_total(states.env_steps))
    progress("steer", 1.0, f"{reason}: {best.success:.1%} on {int(best.episodes)} fresh episodes")
    return best.policy


def due(best: Best, before: int, episodes: int, train_success: float, config: SteerConfig) -> bool:
    """Whether the expert is evaluated after a block that began at `before` and ended at `episodes` training episodes.

    At every `config.eval_period`, at the cap, and out of turn where it seems to be done: where training succeeds at
    least as often as the best expert so far, and nearly as often as is wanted.
    """
    surpassed = not best.episodes or train_success >= best.success
    seems_done = surpassed and train_success >= SEEMS_DONE * config.target
    return seems_done or episodes // config.eval_period > before // config.eval_period or episodes >= config.episodes


def tested(
    chosen: Best, successes: Callable[[Any, jax.Array, int], jax.Array], number: int, config: SteerConfig | DaggerConfig
) -> Best:
    """The policy with its success on fresh episodes, others for each `number`.

    Args:
      chosen: the policy.
      successes: of `config.eval_episodes` episodes, given the policy, their key, and the first one's number.
      number: of the test.
      config: how many episodes.
    """
    key = jax.random.fold_in(jax.random.key(CONFIRMATION_SEED), number)
    parts = range(0, config.confirm_episodes, config.eval_episodes)
    count = sum(successes(chosen.policy, key, first) for first in parts)
    played = len(parts) * config.eval_episodes
    return chosen.replace(successes=count, episodes=jnp.int32(played), confirmed=jnp.bool_(True))


def ended(best: Best, done: int, most: int, config: SteerConfig | DaggerConfig) -> str:
    """Why training is over after so many episodes or rounds, of `most`; "" where it is not."""
    if best.confirmed and best.low >= config.target:
        return "target confirmed"
    if done >= most:
        return "out of episodes" if isinstance(config, SteerConfig) else "out of rounds"
    return "no progress" if done - int(best.since) >= config.patience else ""


def distill(run: RunDirectory, dagger: Dagger, key: jax.Array, progress: Progress) -> Student:
    """Plays, labels and learns until the student reaches the target, or nothing gets better.

    A student that reaches `config.target` on the selection episodes is put to the test on fresh ones, as in `steer`.
    Goes on from the last checkpoint in the run directory. Labels, which are gigabytes, are kept apart from it and only
    while distillation lasts; where a finished one goes on, it gathers new ones.

    Returns:
      The student, of all rounds that were evaluated, whose success is surest; of equals the latest.
    """
    config = dagger.config
    series, hoard = (checkpoint.Series(run.checkpoints / name) for name in ("training", "labels"))
    clock = _Clock()

    def init(dagger: Dagger) -> tuple[DaggerState, Best]:
        state = dagger.init(key)
        return state, Best.none(state.student)

    shapes = jax.eval_shape(init, dagger)
    memory.check(shapes, "take fewer --dagger.labels, or a smaller --student.image-size")
    state, best = jax.jit(init)(dagger)
    restored, last = _restored(run, series, _without_labels(shapes), "distil", "round")
    if restored is not None:
        (light, best), empty = restored, state.labels
        state = light.replace(labels=_labels(hoard, int(light.round), int(light.labels.count), empty))
    earlier = last.get("wall_s", 0.0)
    forgotten = last.get("labelled", 0) - int(state.labels.count)
    saved, save_s = clock.elapsed(), 0.0

    @clock.compiled(donate_argnums=1)
    def play_round(dagger: Dagger, state: DaggerState) -> tuple[DaggerState, dict[str, jax.Array]]:
        return dagger.round(state)

    @clock.compiled()
    def successes(dagger: Dagger, challenger: Student, key: jax.Array, first: int) -> jax.Array:
        agent = Agent("student", student.policy(dagger.eyes, dagger.expert.chunk), challenger)
        return rollout.play(dagger.env, agent, key, config.eval_episodes, first).success.sum()

    while not (reason := ended(best, played := int(state.round), config.rounds, config)):
        state, figures = play_round(dagger, state)
        played += 1
        row: dict[str, Any] = {"phase": "distil", "round": played, "labelled": forgotten + int(state.labels.count)}
        row |= _known(jax.device_get(figures))
        due = played % config.eval_period == 0 or played == config.rounds
        if due:
            learnt = jax.tree.map(jnp.copy, state.student)  # the state is donated
            count = successes(dagger, learnt, jax.random.key(SELECTION_SEED), 0)
            chosen = Best(learnt, count, jnp.int32(config.eval_episodes), jnp.bool_(False), jnp.int32(played))
            if chosen.success >= config.target:
                chosen = tested(chosen, functools.partial(successes, dagger), played, config)
            best = best.challenged(chosen)
            row |= _evaluated(chosen)
        row |= {"wall_s": earlier + clock.elapsed() + clock.compile_s}
        run.log(row, step=row["labelled"])
        # What takes longer than a second is saved so seldom that it takes a tenth of the time.
        if due and (began := clock.elapsed()) - saved >= 10 * (save_s - 1.0):
            hoard.save(played, _kept(state.labels))
            series.save(played, _without_labels((state, best)))
            saved = clock.elapsed()
            save_s = saved - began
        text = f"{row['labelled']} decisions labelled, loss {row['loss']:.4f}"
        text += f", best {best.success:.1%}" if best.episodes else ""
        progress("distil", played / config.rounds, text)
    series.save(played, _without_labels((state, best)))
    shutil.rmtree(hoard.folder, ignore_errors=True)
    run.keep_rows(lambda row: row["phase"] != "distilled")
    row = {"phase": "distilled", "ended": reason, "round": played, **_evaluated(best)}
    run.log(row, step=forgotten + int(state.labels.count))
    progress("distil", 1.0, f"{reason}: {best.success:.1%} on {int(best.episodes)} episodes")
    return best.policy


def _without_labels(state_and_best: tuple[DaggerState, Best]) -> tuple[DaggerState, Best]:
    """The same, but for how many labels there are."""
    state, best = state_and_best
    return state.replace(labels=state.labels.replace(percepts=None, chunks=None, observed=None)), best


def _kept(labels: Labels) -> Labels:
    """The labels, as many as there are."""
    count = int(filled(labels))
    return jax.tree.map(lambda x: x[:count], labels.replace(count=None))


def _labels(hoard: checkpoint.Series, number: int, count: int, empty: Labels) -> Labels:
    """The labels that were saved with a state of which there were `count`; none where they are gone."""
    kept, arrays = min(count, len(empty.chunks)), empty.replace(count=None)
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct((kept, *x.shape[1:]), x.dtype), arrays)
    try:
        saved = checkpoint.restore(hoard.folder / str(number), like)
    except FileNotFoundError:
        return empty
    except checkpoint.DamagedError as error:
        warnings.warn(f"{error}; labels are gathered anew", stacklevel=2)
        return empty
    return jax.tree.map(lambda old, new: old.at[:kept].set(new), arrays, saved).replace(count=jnp.int32(count))


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
    """A row of `metrics.jsonl`: sums and means over all seeds; `episodes` is that of the slowest seed. What is not
    known yet is left out."""
    return {
        "phase": "steer",
        "iteration": int(states.iteration[0]),
        "env_steps": _total(states.env_steps),
        "episodes": int(states.episodes.min()),
        "train_episodes": _total(states.episodes),
        "diverged": _total(states.diverged),
        **_known(figures),
    }


def _known(figures: dict[str, Any]) -> dict[str, float]:
    """Means of figures, of steering over its seeds, without those that are not known yet."""
    means = {name: float(values.mean()) for name, values in figures.items()}
    return {name: mean for name, mean in means.items() if not math.isnan(mean)}


def _total(counts: jax.Array) -> int:
    return int(np.asarray(counts).sum(dtype=np.int64))


def _evaluated(best: Best) -> dict[str, Any]:
    """Success with its interval, on how many episodes, and whether these were fresh."""
    low, high = evaluation.wilson(int(best.successes), int(best.episodes))
    figures = {"success": best.success, "success_low": low, "success_high": high}
    return figures | {"eval_episodes": int(best.episodes), "confirmed": bool(best.confirmed)}


class _Clock:
    """Time spent, with compilation apart."""

    def __init__(self) -> None:
        self.start = time.monotonic()
        self.compile_s = 0.0

    def elapsed(self) -> float:
        """Seconds since the start without those spent compiling."""
        return time.monotonic() - self.start - self.compile_s

    def compiled(self, **jit_options: Any) -> Callable[[F], F]:
        """`jax.jit` for arguments of one shape, the first of which has an `env`, compiled at the first call."""

        def decorate(function: F) -> F:
            executables: list[Any] = []

            def call(*args: Any) -> Any:
                if not executables:
                    began = time.monotonic()
                    options = physics.compiler_options(args[0].env.model)
                    executables.append(jax.jit(function, **jit_options).lower(*args).compile(options))
                    self.compile_s += time.monotonic() - began
                return executables[0](*args)

            return cast(F, call)

        return decorate
