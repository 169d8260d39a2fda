"""Distillation by DAgger (Ross et al. 2011): a student learns what the expert does in the states that it gets into.

In a round every world makes some decisions; where its episode is over the next begins. At each decision either acts:
the expert with probability alpha, which falls from round to round, else the student; in the first round, where the
student knows nothing, the expert alone. Every decision is labelled with the chunk of an expert that sees the truth,
also in episodes that then fail: the states in which a student fails are those that it must learn about. The labels join
those of earlier rounds, and the student trains on all of them. With alpha at 1 throughout it is behaviour cloning. A
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

from expertgen_jax.bounds import Count, NonNegative, Positive, Share, Whole
from expertgen_jax.learning import student
from expertgen_jax.learning.student import Eyes, Memory, Percept, Student, StudentConfig
from expertgen_jax.sim import episode, physics, rollout
from expertgen_jax.sim.episode import Env, World
from expertgen_jax.sim.rollout import Policy
from expertgen_jax.vision.appearance import VisualRandomization


@dataclasses.dataclass(frozen=True)
class DaggerConfig:
    """Distillation."""

    target: Share = 0.98
    """Success at which distillation ends: the lower end of its 95 % interval, confirmed on fresh episodes."""
    rounds: Count = 60
    """Rounds after which it stops at the latest; in each, decisions are made, labelled by the expert, and learnt."""
    patience: Count = 15
    """Rounds without a better student after which it stops."""
    worlds: Count = 64
    """Simulated worlds that act in parallel."""
    decisions: Count = 4096
    """Decisions in a round, over all worlds."""
    labels: Count = 65536
    """Labelled decisions that are kept, the newest."""
    alpha_start: Share = 1.0
    """Share of decisions that the expert takes in the first rounds; in the very first it takes all."""
    alpha_end: Share = 0.2
    """Share of decisions that the expert takes in the end."""
    alpha_rounds: Count = 12
    """Rounds over which the expert's share falls, linearly."""
    updates: Count = 1000
    """Gradient steps per round."""
    batch_size: Count = 64
    """Labelled decisions in the batch of a gradient step."""
    auxiliary_weight: NonNegative = 0.3
    """Weight of the auxiliary loss: the error of what the student tells of the expert's observation."""
    shift: Whole = 2
    """Pixels by which a batch's pictures are moved at most, at random, each view otherwise."""
    learning_rate: Positive = 1e-3
    """Learning rate of the student."""
    ema: Share = 0.9995
    """Decay of the average over gradient steps that the student's weights are."""
    eval_period: Count = 3
    """Rounds between two evaluations of the student."""
    eval_episodes: Count = 256
    """Episodes of an evaluation; a student that reaches the target on them is put to the test."""
    confirm_episodes: Count = 1024
    """Fresh episodes on which a student is put to the test."""

    @property
    def iterations(self) -> int:
        """Decisions of each world in a round."""
        return max(1, round(self.decisions / self.worlds))

    @property
    def capacity(self) -> int:
        """Labelled decisions that are kept: those of one iteration at least."""
        return max(self.labels, self.worlds)


class Labels(struct.PyTreeNode):
    """The newest labelled decisions; decision i is kept in place i modulo the capacity.

    Attributes:
      percepts: `[capacity, history, ...]`, see `_stored`; chunks: `[capacity, chunk, action_size]`.
      observed: by the expert, `[capacity, obs_size]`.
      count: of decisions that were ever labelled.
    """

    percepts: Percept
    chunks: Float[Array, "capacity chunk action_size"]
    observed: Float[Array, "capacity obs_size"]
    count: Int[Array, ""]


_EXAMPLES = 2048  # of the first labels, by which percepts are normalised


def _stored(config: StudentConfig, percepts: Percept) -> Percept:
    """Percepts with less room for what is seen: colours in 8 bits, depth to 0.05 % in 16."""
    if config.modality == "rgb":
        return percepts._replace(seen=jnp.round(255 * percepts.seen).astype(jnp.uint8))
    return percepts._replace(seen=percepts.seen.astype(jnp.float16))


def _read(config: StudentConfig, percepts: Percept) -> Percept:
    """Percepts as they were before `_stored`."""
    percepts = jax.tree.map(lambda x: x.astype(jnp.float32), percepts)
    return percepts._replace(seen=percepts.seen / 255) if config.modality == "rgb" else percepts


def _joined(
    labels: Labels,
    percepts: Percept,
    chunks: Float[Array, "n chunk action_size"],
    observed: Float[Array, "n obs_size"],
) -> Labels:
    """The labels with `n` more."""
    place = (labels.count + jnp.arange(len(chunks))) % len(labels.chunks)
    new = labels.replace(percepts=percepts, chunks=chunks, observed=observed, count=None)
    joined = jax.tree.map(lambda old, new: old.at[place].set(new), labels.replace(count=None), new)
    return joined.replace(count=labels.count + len(place))


def filled(labels: Labels) -> Int[Array, ""]:
    """How many are kept."""
    return jnp.minimum(labels.count, len(labels.chunks))


class DaggerState(struct.PyTreeNode):
    """Everything that distillation carries from round to round; saved whole for resuming.

    Attributes:
      worlds: an episode each; memories: of expert and student in each.
      outcome: of each world's last finished episode: 1 for success, 0 for failure, NaN while there is none.
      student: with the average of its weights; params: the weights that are trained; opt_state: the optimiser's.
      labels: of all rounds; round: how many there were.
    """

    key: Key[Array, ""]
    worlds: World
    memories: tuple[Any, Memory]
    outcome: Float[Array, "n"]
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

    @functools.cached_property
    def _optimizer(self) -> optax.GradientTransformation:
        return optax.adamw(self.config.learning_rate)

    def init(self, key: Key[Array, ""]) -> DaggerState:
        """Fresh worlds, an untrained student and no labels."""
        key, begin_key, student_key = jax.random.split(key, 3)
        worlds, memories = self._begin(begin_key)
        percepts, shape = memories[1].percepts, (self.expert.chunk, self.env.task.action_size)
        size, room = worlds.obs.shape[-1], self.config.capacity
        fresh = student.untrained(self.student, jax.tree.map(lambda x: x[0], percepts), shape, size, student_key)
        empty = _stored(self.student, jax.tree.map(lambda x: jnp.zeros((room, *x.shape[1:])), percepts))
        return DaggerState(
            key=key,
            worlds=worlds,
            memories=memories,
            outcome=jnp.full(self.config.worlds, jnp.nan),
            student=fresh,
            params=fresh.params,
            opt_state=self._optimizer.init(fresh.params),
            labels=Labels(empty, jnp.zeros((room, *shape)), jnp.zeros((room, size)), jnp.int32(0)),
            round=jnp.int32(0),
        )

    def _begin(self, key: Key[Array, ""]) -> tuple[World, tuple[Any, Memory]]:
        """A fresh episode in every world, and the memories of expert and student."""
        keys = jax.random.split(key, (2, self.config.worlds))
        worlds, of_expert = jax.vmap(lambda k: rollout.start(self.env, self.expert, k))(keys[0])
        return worlds, (of_expert, jax.vmap(self.eyes.init)(keys[1]))

    def alpha(self, state: DaggerState) -> Float[Array, ""]:
        """Share of decisions that are the expert's in this round."""
        done = jnp.minimum(state.round / self.config.alpha_rounds, 1.0)
        falling = self.config.alpha_start + done * (self.config.alpha_end - self.config.alpha_start)
        return jnp.where(state.round == 0, 1.0, falling)

    def round(self, state: DaggerState) -> tuple[DaggerState, dict[str, Scalar]]:
        """Plays, labels and learns; returns figures, among them `train_success`: of the last episodes that the worlds
        finished, NaN until each has finished one."""
        alpha = self.alpha(state)
        state = self.play(state)
        key, sample_key, learn_key = jax.random.split(state.key, 3)

        def normalized(learner: Student) -> Student:
            rows = jax.random.randint(sample_key, (_EXAMPLES,), 0, filled(state.labels))
            percepts, observed = jax.tree.map(lambda x: x[rows], (state.labels.percepts, state.labels.observed))
            return student.normalized(learner, _read(self.student, percepts), observed)

        learner = jax.lax.cond(state.round == 0, normalized, lambda learner: learner, state.student)
        figures = {"train_success": state.outcome.mean(), "alpha": alpha}
        state, loss = self.learn(state.replace(key=key, student=learner), learn_key)
        return state.replace(round=state.round + 1), figures | {"loss": loss}

    def play(self, state: DaggerState) -> DaggerState:
        """`config.iterations` decisions in every world, all labelled."""
        env, eyes, alpha, n = self.env, self.eyes, self.alpha(state), self.config.worlds

        def decide(world: World, memories: tuple[Any, Memory], key: Key[Array, ""]) -> tuple[World, Any, Any]:
            expert_key, look_key, perceive_key, act_key, turn_key = jax.random.split(key, 5)
            truth = episode.as_it_is(env, world)
            of_expert, label = self.expert.act(self.params, memories[0], truth, expert_key)
            memory = eyes.perceive(memories[1]._replace(look=eyes.look(look_key)), world, perceive_key)
            own = student.act(state.student, memory.percepts, act_key)
            actions = jnp.where(jax.random.bernoulli(turn_key, alpha), label, own)
            after, _ = episode.advance(env, world, actions)
            return after, (of_expert, memory), (label, truth.obs)

        def step(state: DaggerState, _: None) -> tuple[DaggerState, None]:
            key, decide_key, begin_key = jax.random.split(state.key, 3)
            after, memories, labels = jax.vmap(decide)(state.worlds, state.memories, jax.random.split(decide_key, n))
            over = episode.done(env, after)
            worlds, fresh = self._begin(begin_key)
            return state.replace(
                key=key,
                worlds=episode.pick(over, worlds, after),
                memories=jax.vmap(physics.where)(over, fresh, memories),
                outcome=jnp.where(over, after.success.astype(jnp.float32), state.outcome),
                labels=_joined(state.labels, _stored(self.student, memories[1].percepts), *labels),
            ), None

        return jax.lax.scan(step, state, None, length=self.config.iterations)[0]

    def learn(self, state: DaggerState, key: Key[Array, ""]) -> tuple[DaggerState, Float[Array, ""]]:
        """`config.updates` gradient steps on all labels; returns the mean loss."""
        config, labels, tree_map = self.config, state.labels, jax.tree.map

        def update(
            state: DaggerState, now: tuple[Int[Array, ""], Key[Array, ""]]
        ) -> tuple[DaggerState, Float[Array, ""]]:
            number, key = now
            sample_key, shift_key, loss_key = jax.random.split(key, 3)
            rows = jax.random.randint(sample_key, (config.batch_size,), 0, filled(labels))
            percepts, chunks, observed = tree_map(lambda x: x[rows], (labels.percepts, labels.chunks, labels.observed))
            percepts = _read(self.student, student.shifted(percepts, config.shift, shift_key))

            def loss_fn(params: Any) -> tuple[Float[Array, ""], Float[Array, ""]]:
                learner = state.student.replace(params=params)
                return student.loss(learner, percepts, chunks, observed, config.auxiliary_weight, loss_key)

            grads, loss = jax.grad(loss_fn, has_aux=True)(state.params)
            updates, opt_state = self._optimizer.update(grads, state.opt_state, state.params)
            params = optax.apply_updates(state.params, updates)
            ema = jnp.minimum(config.ema, number / (number + 10))  # the first weights are soon forgotten
            mean = tree_map(lambda mean, new: ema * mean + (1 - ema) * new, state.student.params, params)
            return state.replace(student=state.student.replace(params=mean), params=params, opt_state=opt_state), loss

        numbers = state.round * config.updates + jnp.arange(config.updates)
        state, losses = jax.lax.scan(update, state, (numbers, jax.random.split(key, config.updates)))
        return state, losses.mean()
