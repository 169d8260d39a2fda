"""FastTD3 (Seo et al. 2025, arXiv 2505.22642): TD3 with distributional twin critics for massively parallel simulation.

The learner knows neither environments nor diffusion: it sees batches of n-step transitions with actions in [-1, 1].
As in FastTD3 there is no target actor, each critic projects its own target distribution, and the distribution with the
lower mean is the target of both.
"""

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from annotated_types import Ge
from flax import struct
from jaxtyping import Array, ArrayLike, Bool, Float, Key, Scalar

from expertgen_jax.bounds import Count, Decay, NonNegative, Positive, Share
from expertgen_jax.learning.replay import Batch


@dataclasses.dataclass(frozen=True)
class TD3Config:
    """The learner."""

    gamma: Share = 0.97
    """Discount factor per decision."""
    n_step: Count = 3
    """Decisions whose rewards are summed before bootstrapping (n-step return)."""
    batch_size: Count = 256
    """Transitions in a batch of an update."""
    tau: Share = 0.05
    """Step of the target critics towards the critics at each update (Polyak averaging)."""
    critic_learning_rate: Positive = 1e-3
    """Learning rate of the critics (AdamW)."""
    actor_learning_rate: Positive = 3e-4  # at 1e-3, 94 % of the noise was at its bound after 150 iterations, here 58 %
    """Learning rate of the actor (AdamW)."""
    weight_decay: NonNegative = 0.01
    """Weight decay of both optimisers, the actor's and the critics'."""
    policy_noise: NonNegative = 0.05
    """Standard deviation of the noise on target actions."""
    noise_clip: NonNegative = 0.2
    """Bound on the noise on target actions."""
    atoms: Annotated[int, Ge(2)] = 51
    """Support points (atoms) of the return distribution, evenly spaced over the possible returns."""
    actor_hidden: tuple[Count, ...] = (256, 256)
    """Hidden layers of the actor."""
    critic_hidden: tuple[Count, ...] = (256, 256)
    """Hidden layers of each critic."""
    actor_average: Decay = 0.998
    """Largest decay of the moving average of the actor's weights, at each of its updates; the average is the expert.
    At first it is smaller, so that the average spans a tenth of the updates."""
    actor_period: Count = 2
    """Critic updates for each update of the actor."""


class Actor(nn.Module):
    """Observation to action in [-1, 1]."""

    hidden: Sequence[int]
    action_size: int

    @nn.compact
    def __call__(self, obs: Float[ArrayLike, "*batch obs_size"]) -> Float[Array, "*batch action_size"]:
        x = _mlp(jnp.asarray(obs), self.hidden)
        return jnp.tanh(nn.Dense(self.action_size, kernel_init=nn.initializers.normal(0.01))(x))


class Critic(nn.Module):
    """Observation and action to the logits of the return's distribution over the atoms."""

    hidden: Sequence[int]
    atoms: int

    @nn.compact
    def __call__(
        self, obs: Float[ArrayLike, "*batch critic_obs_size"], action: Float[ArrayLike, "*batch action_size"]
    ) -> Float[Array, "*batch atoms"]:
        return nn.Dense(self.atoms)(_mlp(jnp.concatenate([obs, action], axis=-1), self.hidden))


def _mlp(x: Float[Array, "*batch n"], hidden: Sequence[int]) -> Float[Array, "*batch m"]:
    for width in hidden:
        x = nn.relu(nn.LayerNorm()(nn.Dense(width)(x)))
    return x


class LearnerState(struct.PyTreeNode):
    """Weights and optimiser states; the two critics are stacked along a leading axis.

    Attributes:
      averaged: the moving average of the actor's weights.
    """

    actor: Any
    averaged: Any
    critics: Any
    target_critics: Any
    actor_opt: Any
    critic_opt: Any


@dataclasses.dataclass(frozen=True)
class Learner:
    """Pure functions of a TD3 learner for given sizes.

    Attributes:
      config: settings.
      obs_size: numbers the actor sees; they come first in the observations of a batch.
      critic_obs_size: numbers the critics see (`obs_size` plus privileged ones).
      action_size: numbers in an action.
      value_range: least and largest possible return.
      action_cost: what half the sum of an action's squares costs the actor, in log-odds of the return.
    """

    config: TD3Config
    obs_size: int
    critic_obs_size: int
    action_size: int
    value_range: tuple[float, float]
    action_cost: float = 0.0

    @property
    def atoms(self) -> Float[Array, "atoms"]:
        """`[atoms]`, the support of the return's distribution."""
        return jnp.linspace(*self.value_range, self.config.atoms)

    def init(self, key: Key[Array, ""]) -> LearnerState:
        """Fresh weights."""
        actor_key, critic_key = jax.random.split(key)
        obs, action = jnp.zeros(self.critic_obs_size), jnp.zeros(self.action_size)
        actor = self._actor.init(actor_key, obs[: self.obs_size])
        critics = jax.vmap(lambda k: self._critic.init(k, obs, action))(jax.random.split(critic_key))
        averaged, targets = jax.tree.map(jnp.copy, (actor, critics))  # no array twice: the state is donated
        return LearnerState(
            actor, averaged, critics, targets, self._actor_optimizer.init(actor), self._critic_optimizer.init(critics)
        )

    def act(self, actor: Any, obs: Float[ArrayLike, "*batch obs_size"]) -> Float[Array, "*batch action_size"]:
        """The deterministic action `[..., action_size]` for `obs [..., obs_size]` (normalised)."""
        action: Any = self._actor.apply(actor, obs)
        return action

    def q_values(
        self,
        critics: Any,
        obs: Float[ArrayLike, "*batch critic_obs_size"],
        action: Float[ArrayLike, "*batch action_size"],
    ) -> Float[Array, "2 *batch"]:
        """Mean return by each critic, `[2, ...]`."""
        return (jax.nn.softmax(self._logits(critics, obs, action)) * self.atoms).sum(-1)

    def update_critics(
        self, state: LearnerState, batch: Batch, key: Key[Array, ""]
    ) -> tuple[LearnerState, dict[str, Scalar]]:
        """One gradient step of the critics; observations are normalised."""
        target = jax.lax.stop_gradient(self.target_distribution(state, batch, key))

        def critic_loss(critics: Any) -> Float[Array, ""]:
            log_p = jax.nn.log_softmax(self._logits(critics, batch.obs, batch.action))
            return (_weighted_mean(-(target * log_p).sum(-1), batch.weight)).sum()

        loss, grads = jax.value_and_grad(critic_loss)(state.critics)
        updates, critic_opt = self._critic_optimizer.update(grads, state.critic_opt, state.critics)
        critics = optax.apply_updates(state.critics, updates)
        targets = optax.incremental_update(critics, state.target_critics, self.config.tau)
        state = state.replace(critics=critics, critic_opt=critic_opt, target_critics=targets)
        return state, {"critic_loss": loss / 2}

    def update_actor(self, state: LearnerState, batch: Batch) -> tuple[LearnerState, dict[str, Scalar]]:
        """One gradient step of the actor up the critics' mean less its actions' cost; observations are normalised.

        The cost is that of log-odds of the return within its range, as if the actor maximised `logit(q) - cost`: dear
        where half of the return is expected, hardly felt near its ends.
        """

        def actor_loss(actor: Any) -> tuple[Float[Array, ""], tuple[Float[Array, ""], Float[Array, "batch size"]]]:
            action = self.act(actor, batch.obs[:, : self.obs_size])
            q = self.q_values(state.critics, batch.obs, action).mean(0)
            low, high = self.value_range
            slope = jax.lax.stop_gradient((q - low) * (high - q) / (high - low))  # of q in its log-odds
            cost = self.action_cost * slope * (action**2).sum(-1) / 2
            return _weighted_mean(cost - q, batch.weight), (_weighted_mean(q, batch.weight), jnp.abs(action))

        (_, (q, size)), grads = jax.value_and_grad(actor_loss, has_aux=True)(state.actor)
        updates, actor_opt = self._actor_optimizer.update(grads, state.actor_opt, state.actor)
        actor = optax.apply_updates(state.actor, updates)
        done = optax.tree_utils.tree_get(actor_opt, "count")
        decay = jnp.minimum(self.config.actor_average, (1 + done) / (10 + done))
        averaged = optax.incremental_update(actor, state.averaged, 1 - decay)
        state = state.replace(actor=actor, averaged=averaged, actor_opt=actor_opt)
        return state, {"q_mean": q, "noise_saturation": (size > 0.95).mean()}

    def target_distribution(
        self, state: LearnerState, batch: Batch, key: Key[Array, ""]
    ) -> Float[Array, "batch atoms"]:
        """`[batch, atoms]`: the projected n-step target of the critic with the lower mean."""
        config = self.config
        action = self.act(state.actor, batch.next_obs[:, : self.obs_size])
        noise = config.policy_noise * jax.random.normal(key, action.shape)
        action = jnp.clip(action + jnp.clip(noise, -config.noise_clip, config.noise_clip), -1.0, 1.0)
        p_next = jax.nn.softmax(self._logits(state.target_critics, batch.next_obs, action))
        support = batch.returns[:, None] + batch.discount[:, None] * self.atoms
        project = jax.vmap(jax.vmap(project_categorical, (0, 0, None)), (None, 0, None))
        p = project(support, p_next, self.atoms)
        lower = (p * self.atoms).sum(-1).argmin(0)
        return jnp.take_along_axis(p, lower[None, :, None], axis=0)[0]

    @property
    def _actor(self) -> Actor:
        return Actor(self.config.actor_hidden, self.action_size)

    @property
    def _critic(self) -> Critic:
        return Critic(self.config.critic_hidden, self.config.atoms)

    @property
    def _actor_optimizer(self) -> optax.GradientTransformation:
        return optax.adamw(self.config.actor_learning_rate, weight_decay=self.config.weight_decay)

    @property
    def _critic_optimizer(self) -> optax.GradientTransformation:
        return optax.adamw(self.config.critic_learning_rate, weight_decay=self.config.weight_decay)

    def _logits(
        self,
        critics: Any,
        obs: Float[ArrayLike, "*batch critic_obs_size"],
        action: Float[ArrayLike, "*batch action_size"],
    ) -> Float[Array, "2 *batch atoms"]:
        logits: Any = jax.vmap(self._critic.apply, (0, None, None))(critics, obs, action)
        return logits


def project_categorical(
    support: Float[Array, "m"], probs: Float[Array, "m"], atoms: Float[Array, "n"]
) -> Float[Array, "n"]:
    """C51's projection (Bellemare et al. 2017, eq. 7) onto evenly spaced atoms, unbatched.

    Args:
      support: `[m]`, where the mass stands; clipped to the atoms' range.
      probs: `[m]`, the mass.
      atoms: `[n]`, evenly spaced, ascending.

    Returns:
      `[n]`.
    """
    chex.assert_equal_shape([support, probs])
    chex.assert_rank([support, atoms], 1)
    spacing = (atoms[-1] - atoms[0]) / (atoms.shape[0] - 1)
    support = jnp.clip(support, atoms[0], atoms[-1])
    share = jnp.clip(1 - jnp.abs(support[:, None] - atoms) / spacing, 0.0, 1.0)
    return probs @ share


class Normalizer(struct.PyTreeNode):
    """Running mean and variance of observations (Chan et al.'s parallel update)."""

    mean: Float[Array, "*batch size"]
    var: Float[Array, "*batch size"]
    count: Float[Array, "*batch"]


def init_normalizer(size: int) -> Normalizer:
    """Starts at mean 0, variance 1, with no weight."""
    return Normalizer(jnp.zeros(size), jnp.ones(size), jnp.float32(0.0))


def update_normalizer(state: Normalizer, obs: Float[Array, "n size"], valid: Bool[Array, "n"]) -> Normalizer:
    """Takes in `obs [n, size]` where `valid [n]`."""
    n = valid.sum().astype(jnp.float32)
    mask = valid[:, None]
    mean = jnp.where(mask, obs, 0.0).sum(0) / jnp.maximum(n, 1.0)
    var = jnp.where(mask, jnp.square(obs - mean), 0.0).sum(0) / jnp.maximum(n, 1.0)
    total = state.count + n
    share = n / jnp.maximum(total, 1.0)
    delta = mean - state.mean
    new_var = (1 - share) * state.var + share * var + share * (1 - share) * jnp.square(delta)
    return Normalizer(state.mean + share * delta, new_var, total)


def normalize(
    state: Normalizer, obs: Float[ArrayLike, "*batch size"], epsilon: float = 1e-4
) -> Float[Array, "*batch size"]:
    """`obs` in standard deviations from the mean, at most 10; SI units make small variances normal."""
    return jnp.clip((obs - state.mean) / (jnp.sqrt(state.var) + epsilon), -10.0, 10.0)


def _weighted_mean(x: Float[Array, "*critics batch"], weight: Float[Array, "batch"]) -> Float[Array, "*critics"]:
    return (x * weight).sum(-1) / jnp.maximum(weight.sum(), 1.0)
