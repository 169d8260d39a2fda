"""Distillation by DAgger (Ross et al. 2011): a student learns what the expert does in the states that it gets into.

A round plays one episode in every world. At each decision either acts: the expert with probability alpha, which falls
linearly from round to round, else the student; in the first round, where the student knows nothing, the expert alone.
Every decision is labelled with the expert's action chunk; labels of episodes that fail are dropped; the rest joins the
labels of earlier rounds, and the student trains on all of them. With alpha at 1 throughout it is behaviour cloning. A
round is one jitted program: cameras, physics, expert and learning.
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

    rounds: Count = 12
    """Rounds of DAgger: in each, episodes are played, labelled by the expert and learnt from."""
    worlds: Count = 256
    """Episodes per round, played in parallel."""
    alpha_start: Share = 1.0
    """Share of decisions that the expert takes in the first rounds; in the very first it takes all."""
    alpha_end: Share = 0.2
    """Share of decisions that the expert takes in the last round; between first and last it falls linearly."""
    updates: Count = 250
    """Gradient steps per round."""
    batch_size: Count = 256
    """Labelled decisions in the batch of a gradient step."""
    learning_rate: Positive = 1e-3
    """Learning rate of the student at the start of the distillation; a cosine takes it to zero."""
    eval_period: Count = 3
    """Rounds between two evaluations of the student."""
    eval_episodes: Count = 256
    """Episodes of an evaluation during distillation, by which the best student is selected."""


class Labels(struct.PyTreeNode):
    """Labelled decisions, of which the first `count` are filled.

    Attributes:
      percepts: `[capacity, history, ...]`, what is seen as float16; chunks: `[capacity, chunk, action_size]`.
      count: of labels kept; labelled: of all that the expert gave.
    """

    percepts: Percept
    chunks: Float[Array, "capacity chunk action_size"]
    count: Int[Array, ""]
    labelled: Int[Array, ""]


_EXAMPLES = 2048  # of the first labels, by which percepts are normalised


def _stored(percepts: Percept) -> Percept:
    """Pictures take half the room: depth to 0.05 %."""
    return percepts._replace(seen=percepts.seen.astype(jnp.float16))


def _examples(labels: Labels, rows: Int[Array, "n"]) -> tuple[Percept, Float[Array, "n chunk action_size"]]:
    """Percepts and chunks by number."""
    return jax.tree.map(lambda x: x[rows].astype(jnp.float32), labels.percepts), labels.chunks[rows]


class DaggerState(struct.PyTreeNode):
    """Everything that distillation carries from round to round; saved whole for resuming."""

    key: Key[Array, ""]
    student: Student
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
        steps = self.config.rounds * self.config.updates
        return optax.adamw(optax.cosine_decay_schedule(self.config.learning_rate, steps))

    def init(self, key: Key[Array, ""]) -> DaggerState:
        """An untrained student and no labels."""
        key, memory_key, student_key = jax.random.split(key, 3)
        percepts, shape = self.eyes.init(memory_key).percepts, (self.expert.chunk, self.env.task.action_size)
        capacity = self.config.rounds * self.config.worlds * self.decisions
        fresh = student.untrained(self.student, percepts, shape, student_key)
        return DaggerState(
            key=key,
            student=fresh,
            opt_state=self._optimizer.init(fresh.params),
            labels=Labels(
                percepts=_stored(jax.tree.map(lambda x: jnp.zeros((capacity, *x.shape)), percepts)),
                chunks=jnp.zeros((capacity, *shape)),
                count=jnp.int32(0),
                labelled=jnp.int32(0),
            ),
            round=jnp.int32(0),
        )

    def alpha(self, state: DaggerState) -> Float[Array, ""]:
        """Share of decisions that are the expert's in this round."""
        done = state.round / max(1, self.config.rounds - 1)
        falling = self.config.alpha_start + done * (self.config.alpha_end - self.config.alpha_start)
        return jnp.where(state.round == 0, 1.0, falling)

    def round(self, state: DaggerState) -> tuple[DaggerState, dict[str, Scalar]]:
        """Plays, labels and learns; returns figures."""
        key, play_key, sample_key, learn_key = jax.random.split(state.key, 4)
        labels, success = self.play(state, play_key)
        figures = {"train_success": success, "alpha": self.alpha(state)}

        def normalised(learner: Student) -> Student:
            rows = jax.random.randint(sample_key, (_EXAMPLES,), 0, labels.count)
            mean, std = student.statistics(_examples(labels, rows)[0])
            return learner.replace(mean=mean, std=std)

        first = (state.labels.count == 0) & (labels.count > 0)
        learner = jax.lax.cond(first, normalised, lambda learner: learner, state.student)
        state = state.replace(key=key, labels=labels, student=learner)
        state, loss = jax.lax.cond(
            labels.count > 0, lambda s: self.learn(s, learn_key), lambda s: (s, jnp.float32(0.0)), state
        )
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
            of_expert, label = self.expert.act(self.params, memories[0], world, expert_key)
            memory = eyes.perceive(memories[1], world, perceive_key)
            own = student.act(state.student, memory.percepts, act_key)
            actions = jnp.where(jax.random.bernoulli(turn_key, alpha), label, own)
            after, _ = episode.advance(env, world, actions)
            return after, (of_expert, memory), (memory.percepts, label, ~episode.done(env, world))

        def step(carry: tuple[Any, Any], _: None) -> tuple[tuple[Any, Any], Any]:
            worlds, memories, (percepts, *labelled) = jax.vmap(decide)(*carry, keys[2])
            return (worlds, memories), (_stored(percepts), *labelled)

        (worlds, _), (percepts, chunks, active) = jax.lax.scan(step, (worlds, memories), None, length=self.decisions)
        keep = (active & worlds.success).ravel()
        labels = state.labels
        place = jnp.where(keep, labels.count + jnp.cumsum(keep) - 1, len(labels.chunks))

        def put(
            old: Float[Array, "capacity *shape"], new: Float[Array, "decisions worlds *shape"]
        ) -> Float[Array, "capacity *shape"]:
            return old.at[place].set(new.reshape(len(place), *new.shape[2:]), mode="drop")

        return labels.replace(
            percepts=jax.tree.map(put, labels.percepts, percepts),
            chunks=put(labels.chunks, chunks),
            count=labels.count + keep.sum(),
            labelled=labels.labelled + active.sum(),
        ), worlds.success.mean()

    def learn(self, state: DaggerState, key: Key[Array, ""]) -> tuple[DaggerState, Float[Array, ""]]:
        """`config.updates` gradient steps on all labels; returns the mean loss."""
        labels = state.labels

        def update(state: DaggerState, key: Key[Array, ""]) -> tuple[DaggerState, Float[Array, ""]]:
            sample_key, loss_key = jax.random.split(key)
            rows = jax.random.randint(sample_key, (self.config.batch_size,), 0, jnp.maximum(labels.count, 1))
            percepts, chunks = _examples(labels, rows)

            def loss_fn(params: Any) -> Float[Array, ""]:
                return student.loss(state.student.replace(params=params), percepts, chunks, loss_key)

            loss, grads = jax.value_and_grad(loss_fn)(state.student.params)
            updates, opt_state = self._optimizer.update(grads, state.opt_state, state.student.params)
            learnt = state.student.replace(params=optax.apply_updates(state.student.params, updates))
            return state.replace(student=learnt, opt_state=opt_state), loss

        state, losses = jax.lax.scan(update, state, jax.random.split(key, self.config.updates))
        return state, losses.mean()
