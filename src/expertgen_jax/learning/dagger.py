"""Distillation by DAgger (Ross et al. 2011): a student learns what the expert does in the states that it gets into.

A round plays one episode in every world. At each decision either acts: the expert with probability alpha, which falls
from round to round, else the student; in the first round, where the student knows nothing, the expert alone.
Every decision is labelled with the chunk of an expert that sees the truth, also in episodes that then fail: the states
in which a student fails are those that it must learn about. The labels join those of earlier rounds, and the student
trains on all of them. With alpha at 1 throughout it is behaviour cloning. A round is one jitted program: cameras,
physics, expert and learning.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jaxtyping import Array, Float, Int, Key, Scalar

from expertgen_jax.bounds import Count, Positive, Share
from expertgen_jax.learning import student
from expertgen_jax.learning.student import Eyes, Percept, Student, StudentConfig
from expertgen_jax.sim import episode, rollout
from expertgen_jax.sim.episode import Env, World
from expertgen_jax.sim.rollout import Policy
from expertgen_jax.vision.appearance import VisualRandomization


@dataclasses.dataclass(frozen=True)
class DaggerConfig:
    """Distillation."""

    target: Share = 0.98
    """Success at which distillation ends: the lower end of its 95 % interval, confirmed on fresh episodes."""
    rounds: Count = 60
    """Rounds after which it stops at the latest; in each, episodes are played, labelled by the expert, and learnt."""
    patience: Count = 15
    """Rounds without a better student after which it stops."""
    worlds: Count = 256
    """Episodes per round, played in parallel."""
    labels: Count = 65536
    """Labelled decisions that are kept, the newest."""
    alpha_start: Share = 1.0
    """Share of decisions that the expert takes in the first rounds; in the very first it takes all."""
    alpha_end: Share = 0.2
    """Share of decisions that the expert takes in the end."""
    alpha_rounds: Count = 12
    """Rounds over which the expert's share falls, linearly."""
    updates: Count = 250
    """Gradient steps per round."""
    batch_size: Count = 256
    """Labelled decisions in the batch of a gradient step."""
    learning_rate: Positive = 1e-3
    """Learning rate of the student."""
    ema: Share = 0.998
    """Decay of the average over gradient steps that the student's weights are."""
    eval_period: Count = 3
    """Rounds between two evaluations of the student."""
    eval_episodes: Count = 256
    """Episodes of an evaluation; a student that reaches the target on them is put to the test."""
    confirm_episodes: Count = 1024
    """Fresh episodes on which a student is put to the test."""


class Labels(struct.PyTreeNode):
    """The newest labelled decisions; decision i is kept in place i modulo the capacity.

    Attributes:
      percepts: `[capacity, history, ...]`, see `_stored`; chunks: `[capacity, chunk, action_size]`.
      count: of decisions that were ever labelled.
    """

    percepts: Percept
    chunks: Float[Array, "capacity chunk action_size"]
    count: Int[Array, ""]


_EXAMPLES = 2048  # of the first labels, by which percepts are normalised


def _stored(config: StudentConfig, percepts: Percept) -> Percept:
    """Percepts with less room for what is seen: colours in 8 bits, depth to 0.05 % in 16."""
    if config.modality == "rgb":
        return percepts._replace(seen=jnp.round(255 * percepts.seen).astype(jnp.uint8))
    return percepts._replace(seen=percepts.seen.astype(jnp.float16))


def _examples(
    config: StudentConfig, labels: Labels, rows: Int[Array, "n"]
) -> tuple[Percept, Float[Array, "n chunk action_size"]]:
    """Percepts and chunks by place."""
    percepts = jax.tree.map(lambda x: x[rows].astype(jnp.float32), labels.percepts)
    if config.modality == "rgb":
        percepts = percepts._replace(seen=percepts.seen / 255)
    return percepts, labels.chunks[rows]


def filled(labels: Labels) -> Int[Array, ""]:
    """How many are kept."""
    return jnp.minimum(labels.count, len(labels.chunks))


class DaggerState(struct.PyTreeNode):
    """Everything that distillation carries from round to round; saved whole for resuming.

    Attributes:
      student: with the average of its weights; params: the weights that are trained; opt_state: the optimiser's.
      labels: of all rounds; round: how many there were.
    """

    key: Key[Array, ""]
    student: Student
    params: Any
    opt_state: Any
    labels: Labels
    round: Int[Array, ""]


class Dagger(struct.PyTreeNode):
    """An environment, an expert, and a student: pure functions of `DaggerState`.

    Attributes:
      env: the task on a back end.
      params: of the expert.
      expert: any policy.
      config: settings of the distillation; student: of the student; visual: of what it sees.
    """

    env: Env
    params: Any
    expert: Policy = struct.field(pytree_node=False)
    config: DaggerConfig = struct.field(pytree_node=False)
    student: StudentConfig = struct.field(pytree_node=False)
    visual: VisualRandomization = struct.field(pytree_node=False)

    @functools.cached_property
    def eyes(self) -> Eyes:
        """How the student perceives."""
        return Eyes(self.env, self.student, self.visual)

    @property
    def decisions(self) -> int:
        """Most decisions in an episode."""
        return -(-self.env.task.horizon // self.expert.chunk)

    @functools.cached_property
    def _optimizer(self) -> optax.GradientTransformation:
        return optax.adamw(self.config.learning_rate)

    def init(self, key: Key[Array, ""]) -> DaggerState:
        """An untrained student and no labels."""
        key, memory_key, student_key = jax.random.split(key, 3)
        percepts, shape = self.eyes.init(memory_key).percepts, (self.expert.chunk, self.env.task.action_size)
        capacity = self.config.labels
        fresh = student.untrained(self.student, percepts, shape, student_key)
        return DaggerState(
            key=key,
            student=fresh,
            params=fresh.params,
            opt_state=self._optimizer.init(fresh.params),
            labels=Labels(
                percepts=_stored(self.student, jax.tree.map(lambda x: jnp.zeros((capacity, *x.shape)), percepts)),
                chunks=jnp.zeros((capacity, *shape)),
                count=jnp.int32(0),
            ),
            round=jnp.int32(0),
        )

    def alpha(self, state: DaggerState) -> Float[Array, ""]:
        """Share of decisions that are the expert's in this round."""
        done = jnp.minimum(state.round / self.config.alpha_rounds, 1.0)
        falling = self.config.alpha_start + done * (self.config.alpha_end - self.config.alpha_start)
        return jnp.where(state.round == 0, 1.0, falling)

    def round(self, state: DaggerState) -> tuple[DaggerState, dict[str, Scalar]]:
        """Plays, labels and learns; returns figures."""
        key, play_key, sample_key, learn_key = jax.random.split(state.key, 4)
        labels, success = self.play(state, play_key)
        figures = {"train_success": success, "alpha": self.alpha(state)}

        def normalised(learner: Student) -> Student:
            rows = jax.random.randint(sample_key, (_EXAMPLES,), 0, filled(labels))
            mean, std = student.statistics(self.student, _examples(self.student, labels, rows)[0])
            return learner.replace(mean=mean, std=std)

        learner = jax.lax.cond(state.round == 0, normalised, lambda learner: learner, state.student)
        state, loss = self.learn(state.replace(key=key, labels=labels, student=learner), learn_key)
        return state.replace(round=state.round + 1), figures | {"loss": loss}

    def play(self, state: DaggerState, key: Key[Array, ""]) -> tuple[Labels, Float[Array, ""]]:
        """One episode in every world, labelled; returns all labels, and the share of episodes that succeeded."""
        config, env, eyes = self.config, self.env, self.eyes
        alpha = self.alpha(state)
        keys = jax.random.split(key, (3, config.worlds))
        worlds, memories = jax.vmap(lambda k: rollout.start(env, self.expert, k))(keys[0])
        memories = memories, jax.vmap(eyes.init)(keys[1])

        def decide(world: World, memories: Any, key: Key[Array, ""]) -> tuple[World, Any, Any]:
            keys = jax.random.split(jax.random.fold_in(key, world.steps), 4)
            expert_key, perceive_key, act_key, turn_key = keys
            of_expert, label = self.expert.act(self.params, memories[0], episode.as_it_is(env, world), expert_key)
            memory = eyes.perceive(memories[1], world, perceive_key)
            own = student.act(state.student, memory.percepts, act_key)
            actions = jnp.where(jax.random.bernoulli(turn_key, alpha), label, own)
            after, _ = episode.advance(env, world, actions)
            return after, (of_expert, memory), (memory.percepts, label, ~episode.done(env, world))

        def step(carry: tuple[Any, Any], _: None) -> tuple[tuple[Any, Any], Any]:
            worlds, memories, (percepts, *labelled) = jax.vmap(decide)(*carry, keys[2])
            return (worlds, memories), (_stored(self.student, percepts), *labelled)

        (worlds, _), (percepts, chunks, active) = jax.lax.scan(step, (worlds, memories), None, length=self.decisions)
        keep = active.ravel()  # until an episode's end
        labels = state.labels
        capacity, number = len(labels.chunks), labels.count + jnp.cumsum(keep) - 1
        keep &= number >= labels.count + keep.sum() - capacity  # of more than fit, the newest
        place = jnp.where(keep, number % capacity, capacity)

        def put(
            old: Float[Array, "capacity *shape"], new: Float[Array, "decisions worlds *shape"]
        ) -> Float[Array, "capacity *shape"]:
            return old.at[place].set(new.reshape(len(place), *new.shape[2:]), mode="drop")

        return labels.replace(
            percepts=jax.tree.map(put, labels.percepts, percepts),
            chunks=put(labels.chunks, chunks),
            count=number[-1] + 1,
        ), worlds.success.mean()

    def learn(self, state: DaggerState, key: Key[Array, ""]) -> tuple[DaggerState, Float[Array, ""]]:
        """`config.updates` gradient steps on all labels; returns the mean loss."""
        config, labels, tree_map = self.config, state.labels, jax.tree.map

        def update(
            state: DaggerState, now: tuple[Int[Array, ""], Key[Array, ""]]
        ) -> tuple[DaggerState, Float[Array, ""]]:
            number, key = now
            sample_key, loss_key = jax.random.split(key)
            rows = jax.random.randint(sample_key, (config.batch_size,), 0, filled(labels))
            percepts, chunks = _examples(self.student, labels, rows)

            def loss_fn(params: Any) -> Float[Array, ""]:
                return student.loss(state.student.replace(params=params), percepts, chunks, loss_key)

            loss, grads = jax.value_and_grad(loss_fn)(state.params)
            updates, opt_state = self._optimizer.update(grads, state.opt_state, state.params)
            params = optax.apply_updates(state.params, updates)
            ema = jnp.minimum(config.ema, number / (number + 10))  # the first weights are soon forgotten
            mean = tree_map(lambda mean, new: ema * mean + (1 - ema) * new, state.student.params, params)
            return state.replace(student=state.student.replace(params=mean), params=params, opt_state=opt_state), loss

        numbers = state.round * config.updates + jnp.arange(config.updates)
        state, losses = jax.lax.scan(update, state, (numbers, jax.random.split(key, config.updates)))
        return state, losses.mean()
