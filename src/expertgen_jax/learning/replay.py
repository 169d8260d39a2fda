"""A time-major ring buffer on the device, with n-step sampling that never crosses an episode's end."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int, Key, Shaped


class Transition(NamedTuple):
    """One decision in each of `n` worlds.

    Attributes:
      obs: `[n, size]`; next_obs: `[n, size]`, the true one, also where the episode ended.
      action: `[n, action_size]`.
      reward: `[n]`.
      terminated: `[n]` bool, the episode ended and nothing follows.
      truncated: `[n]` bool, the episode was cut off by its time limit: bootstrap from `next_obs`.
      valid: `[n]` bool, False where physics diverged; such a decision is never sampled, nor looked across.
    """

    obs: Float[Array, "*batch n size"]
    next_obs: Float[Array, "*batch n size"]
    action: Float[Array, "*batch n action_size"]
    reward: Float[Array, "*batch n"]
    terminated: Bool[Array, "*batch n"]
    truncated: Bool[Array, "*batch n"]
    valid: Bool[Array, "*batch n"]


class Batch(NamedTuple):
    """Sampled n-step transitions.

    Attributes:
      obs: `[batch, size]`; action: `[batch, action_size]`.
      returns: `[batch]`, the discounted sum of up to n rewards.
      discount: `[batch]`, the factor of the value at `next_obs`: gamma^k after k steps, 0 after termination.
      next_obs: `[batch, size]`.
      weight: `[batch]`, 0 where the sample must not count.
    """

    obs: Float[Array, "*batch size"]
    action: Float[Array, "*batch action_size"]
    returns: Float[Array, "*batch"]
    discount: Float[Array, "*batch"]
    next_obs: Float[Array, "*batch size"]
    weight: Float[Array, "*batch"]


class Buffer(struct.PyTreeNode):
    """Transitions `[capacity, n, ...]`; `added` counts all that were ever written (time steps)."""

    transitions: Transition
    added: Int[Array, "*batch"]

    @property
    def capacity(self) -> int:
        """Time steps it holds."""
        return self.transitions.reward.shape[0]


def init(example: Transition, capacity: int) -> Buffer:
    """An empty buffer for `capacity` time steps of transitions shaped like `example`."""
    empty = jax.tree.map(lambda x: jnp.zeros((capacity, *x.shape), x.dtype), example)
    return Buffer(empty, jnp.int32(0))


def add(buffer: Buffer, transition: Transition) -> Buffer:
    """Writes one time step over the oldest. Diverged worlds leave no numbers behind: their entries become zeros."""

    def clean(x: Shaped[Array, "n *size"]) -> Shaped[Array, "n *size"]:
        valid = transition.valid.reshape(-1, *[1] * (x.ndim - 1))
        return jnp.where(valid, x, jnp.zeros_like(x))

    slot = buffer.added % buffer.capacity
    rows = jax.tree.map(clean, transition)
    transitions = jax.tree.map(lambda ring, row: ring.at[slot].set(row), buffer.transitions, rows)
    return Buffer(transitions, buffer.added + 1)


def sample(buffer: Buffer, key: Key[Array, ""], batch_size: int, n_step: int, gamma: float) -> Batch:
    """Uniform n-step transitions.

    The sum stops after a terminated or truncated step and before a diverged one. Near the newest entry it is
    shorter than n, with the discount of the steps taken.

    Args:
      buffer: must hold at least one time step.
      key: randomness.
      batch_size: samples.
      n_step: most steps to look ahead.
      gamma: discount a step.
    """
    time_key, world_key = jax.random.split(key)
    ring = buffer.transitions
    size = jnp.minimum(buffer.added, buffer.capacity)
    age = jax.random.randint(time_key, (batch_size,), 0, size)  # 0: the newest
    world = jax.random.randint(world_key, (batch_size,), 0, ring.reward.shape[1])
    first = buffer.added - 1 - age
    step = jnp.arange(n_step)
    slot = (first[:, None] + jnp.minimum(step, age[:, None])) % buffer.capacity
    at = (slot, world[:, None])

    ended = ring.terminated[at] | ring.truncated[at] | (step >= age[:, None])
    usable = ring.valid[at]
    open_before = jnp.cumprod(jnp.concatenate([jnp.ones((batch_size, 1), bool), ~ended[:, :-1]], 1), axis=1)
    taken = open_before.astype(bool) & jnp.cumprod(usable, axis=1).astype(bool)
    count = taken.sum(1)
    last = (jnp.arange(batch_size), jnp.maximum(count - 1, 0))
    start = (slot[:, 0], world)
    end = (slot[last], world)
    return Batch(
        obs=ring.obs[start],
        action=ring.action[start],
        returns=(ring.reward[at] * gamma**step * taken).sum(1),
        discount=gamma**count * ~ring.terminated[end],
        next_obs=ring.next_obs[end],
        weight=usable[:, 0].astype(jnp.float32),
    )
