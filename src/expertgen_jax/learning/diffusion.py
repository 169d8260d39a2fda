"""The prior: a diffusion policy over action chunks, trained by behaviour cloning.

The forward process is variance preserving, `x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps`, with the cosine schedule
of Nichol & Dhariwal (2021). The network predicts the velocity `v = sqrt(abar_t) eps - sqrt(1 - abar_t) x_0` (Salimans &
Ho 2022), which stays well conditioned at pure noise, where steering begins and where the usual eps prediction divides
by `sqrt(abar_T) ~ 0.002`. Sampling is DDIM (Song et al. 2021) without noise of its own (eta = 0) and with trailing
timesteps (Lin et al. 2024), so that the action is a deterministic function of the initial noise, all of which counts.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jaxtyping import Array, Float, Int, Key

from expertgen_jax.bounds import Count, Decay, Positive


@dataclasses.dataclass(frozen=True)
class DiffusionConfig:
    """The prior and its training."""

    chunk: Count = 4
    """Control steps in an action chunk, which is what the policy decides at once."""
    train_timesteps: Count = 20
    """Timesteps of the forward diffusion process."""
    sample_steps: Count = 5
    """DDIM steps (evaluations of the denoiser) to draw an action chunk."""
    width: Count = 256
    """Units in a hidden layer of the denoiser."""
    blocks: Count = 3
    """Residual blocks in the denoiser."""
    train_steps: Count = 2500
    """Gradient steps to train the prior, at least."""
    epochs: Count = 30
    """How often the prior sees each demonstrated action chunk, at least: where there are many, it takes more steps."""
    batch_size: Count = 512
    """Action chunks in a gradient step."""
    learning_rate: Positive = 1e-3
    """Learning rate of the prior at the start of its training; a cosine takes it to zero."""
    ema: Decay = 0.995
    """Decay of the moving average of the prior's weights; the average is what is kept."""


PARTS = 10
"""Equal parts of a training, all by one program, after which its progress is told."""
OUTLIERS = (0.001, 0.999)
"""Quantiles of the demonstrations within which they are normalised."""


class Prior(struct.PyTreeNode):
    """A trained diffusion policy; a pytree of arrays with its configuration.

    Attributes:
      params: the denoiser's weights.
      obs_mean: `[obs_size]`; obs_std: `[obs_size]`.
      action_low: `[action_size]`, `action_high: [action_size]`: bounds of the demonstrated actions, mapped to -1 and 1.
    """

    params: Any
    obs_mean: Float[Array, "obs_size"]
    obs_std: Float[Array, "obs_size"]
    action_low: Float[Array, "action_size"]
    action_high: Float[Array, "action_size"]
    config: DiffusionConfig = struct.field(pytree_node=False)

    @property
    def noise_shape(self) -> tuple[int, int]:
        """Shape of the initial noise, and of an action chunk: `(chunk, action_size)`."""
        return self.config.chunk, self.action_low.shape[-1]


class Denoiser(nn.Module):
    """Residual MLP from a noisy chunk, an observation and a timestep to the velocity."""

    width: int
    blocks: int

    @nn.compact
    def __call__(
        self, noisy: Float[Array, "*batch n"], obs: Float[Array, "*batch obs_size"], time: Float[Array, "*batch"]
    ) -> Float[Array, "*batch n"]:
        """The velocity of `noisy` at a time in (0, 1]."""
        x = nn.Dense(self.width)(jnp.concatenate([noisy, obs, _time_embedding(time)], axis=-1))
        for _ in range(self.blocks):
            h = nn.Dense(self.width)(nn.silu(nn.LayerNorm()(x)))
            x = x + nn.Dense(self.width, kernel_init=nn.initializers.zeros)(nn.silu(h))
        return nn.Dense(noisy.shape[-1], kernel_init=nn.initializers.zeros)(nn.silu(nn.LayerNorm()(x)))


def cosine_alpha_bar(timesteps: int, offset: float = 0.008, max_beta: float = 0.999) -> Float[np.ndarray, "timesteps"]:
    """`abar: [timesteps]`, the share of signal variance after each step of the forward process."""
    angle = (np.arange(timesteps + 1) / timesteps + offset) / (1 + offset) * np.pi / 2
    alpha_bar = np.cos(angle) ** 2
    return np.cumprod(1 - np.minimum(1 - alpha_bar[1:] / alpha_bar[:-1], max_beta))


def trailing_timesteps(train_timesteps: int, sample_steps: int) -> Int[np.ndarray, "sample_steps"]:
    """`[sample_steps]`, descending from the last timestep: the first step sees pure noise."""
    return np.round(np.arange(sample_steps, 0, -1) * train_timesteps / sample_steps).astype(int) - 1


def ddim(
    velocity: Callable[[Float[Array, "*shape"], Int[Array, ""]], Float[Array, "*shape"]],
    noise: Float[Array, "*shape"],
    alpha_bar: Sequence[float] | Float[np.ndarray, "T"],
    timesteps: Sequence[int] | Int[np.ndarray, "sample_steps"],
    clip: float | None = 1.0,
) -> Float[Array, "*shape"]:
    """Deterministic DDIM (Song et al. 2021, eq. 12 with sigma = 0).

    Args:
      velocity: `(x_t, t) -> v`, t an int32 scalar.
      noise: the initial `x`, any shape.
      alpha_bar: `[T]`.
      timesteps: descending.
      clip: bound on the predicted `x_0`; None for no bound.

    Returns:
      `x_0`, of the noise's shape.
    """
    abar = jnp.asarray(np.asarray(alpha_bar)[np.asarray(timesteps)], jnp.float32)
    abar_next = jnp.append(abar[1:], 1.0)

    def step(
        x: Float[Array, "*shape"], args: tuple[Int[Array, ""], Float[Array, ""], Float[Array, ""]]
    ) -> tuple[Float[Array, "*shape"], None]:
        t, signal, signal_next = args
        v = velocity(x, t)
        x0 = jnp.sqrt(signal) * x - jnp.sqrt(1 - signal) * v
        if clip is not None:
            x0 = jnp.clip(x0, -clip, clip)
        eps = (x - jnp.sqrt(signal) * x0) / jnp.sqrt(1 - signal)
        return jnp.sqrt(signal_next) * x0 + jnp.sqrt(1 - signal_next) * eps, None

    return jax.lax.scan(step, noise, (jnp.asarray(timesteps, jnp.int32), abar, abar_next))[0]


def sample(
    prior: Prior, obs: Float[Array, "obs_size"], noise: Float[Array, "chunk action_size"]
) -> Float[Array, "chunk action_size"]:
    """The action chunk that the prior makes of `noise`: unbatched, deterministic.

    Args:
      prior: the policy.
      obs: `[obs_size]`.
      noise: `[chunk, action_size]`; N(0, I) draws from the demonstrations' distribution, anything else steers.

    Returns:
      `[chunk, action_size]`, within the demonstrated bounds.
    """
    seen = normalize_obs(prior, obs)
    network = Denoiser(prior.config.width, prior.config.blocks)

    def velocity(x: Float[Array, "size"], time: Float[Array, ""]) -> Any:
        return network.apply(prior.params, x, seen, time)

    unit = generate(velocity, noise.ravel(), prior.config).reshape(prior.noise_shape)
    return prior.action_low + (unit + 1) / 2 * (prior.action_high - prior.action_low)


def generate(
    velocity: Callable[[Float[Array, "size"], Float[Array, ""]], Float[Array, "size"]],
    noise: Float[Array, "size"],
    config: DiffusionConfig,
) -> Float[Array, "size"]:
    """`ddim` from `noise` with the timesteps of `config`; `velocity` is a function of x and time in (0, 1]."""
    alpha_bar = cosine_alpha_bar(config.train_timesteps)
    timesteps = trailing_timesteps(config.train_timesteps, config.sample_steps)
    return ddim(lambda x, t: velocity(x, (t + 1) / config.train_timesteps), noise, alpha_bar, timesteps)


def denoising_loss(
    velocity: Callable[[Float[Array, "n size"], Float[Array, "n"]], Float[Array, "n size"]],
    x0: Float[Array, "n size"],
    config: DiffusionConfig,
    time_key: Key[Array, ""],
    noise_key: Key[Array, ""],
) -> Float[Array, ""]:
    """Mean squared error of `velocity(x [n, size], time [n])` on noisy versions of `x0: [n, size]`."""
    noisy, time, target = noised(x0, config, time_key, noise_key)
    return jnp.square(velocity(noisy, time) - target).mean()


def noised(
    x0: Float[Array, "n size"], config: DiffusionConfig, time_key: Key[Array, ""], noise_key: Key[Array, ""]
) -> tuple[Float[Array, "n size"], Float[Array, "n"], Float[Array, "n size"]]:
    """Noisy versions of `x0` at random times, these times, and the velocities there."""
    t = jax.random.randint(time_key, (len(x0),), 0, config.train_timesteps)
    eps = jax.random.normal(noise_key, x0.shape)
    signal = jnp.asarray(cosine_alpha_bar(config.train_timesteps), jnp.float32)[t][:, None]
    noisy = jnp.sqrt(signal) * x0 + jnp.sqrt(1 - signal) * eps
    target = jnp.sqrt(signal) * eps - jnp.sqrt(1 - signal) * x0
    return noisy, (t + 1) / config.train_timesteps, target


def normalize_obs(prior: Prior, obs: Float[Array, "*batch obs_size"]) -> Float[Array, "*batch obs_size"]:
    """The observation in the demonstrations' standard deviations, at most 5 from their mean."""
    return jnp.clip((obs - prior.obs_mean) / prior.obs_std, -5.0, 5.0)


def untrained(config: DiffusionConfig, obs_size: int, action_size: int, key: Key[Array, ""] | None = None) -> Prior:
    """A prior with fresh weights, for actions in [-1, 1] and observations of unit variance."""
    network = Denoiser(config.width, config.blocks)
    key = jax.random.key(0) if key is None else key
    return Prior(
        params=network.init(key, jnp.zeros(config.chunk * action_size), jnp.zeros(obs_size), jnp.float32(1.0)),
        obs_mean=jnp.zeros(obs_size),
        obs_std=jnp.ones(obs_size),
        action_low=-jnp.ones(action_size),
        action_high=jnp.ones(action_size),
        config=config,
    )


class CloneState(struct.PyTreeNode):
    """Weights, their moving average, and the optimiser's state."""

    params: Any
    ema: Any
    opt_state: Any
    step: Int[Array, ""]


class Cloning(struct.PyTreeNode):
    """Behaviour cloning of action chunks by denoising: pure functions of `CloneState`.

    Attributes:
      prior: normalises observations and actions; its weights are not used.
      obs: `[time, obs_size]`, normalised; actions: `[time, action_size]`, in [-1, 1] of their bounds: control steps of
        all episodes, end to end.
      windows: `[n, chunk]`, the rows of each action chunk, which is for the observation of its first.
    """

    prior: Prior
    obs: Float[Array, "time obs_size"]
    actions: Float[Array, "time action_size"]
    windows: Int[Array, "n chunk"]

    @classmethod
    def of(
        cls,
        obs: Float[np.ndarray, "time obs_size"],
        actions: Float[np.ndarray, "time action_size"],
        windows: Int[np.ndarray, "n chunk"],
        config: DiffusionConfig,
    ) -> "Cloning":
        """The cloning of `obs: [time, obs_size]` and `actions: [time, action_size]` as they were demonstrated.

        Both are normalised by what is cloned of them, without its extremes: a thousandth at either end.
        """
        seen, done = (
            np.clip(x, *np.quantile(x, OUTLIERS, axis=0)) for x in (obs[windows[:, 0]], actions[windows[:, 0]])
        )
        std = seen.std(0)
        low, high = done.min(0), done.max(0)
        prior = untrained(config, obs.shape[-1], actions.shape[-1]).replace(
            params=None,
            obs_mean=jnp.asarray(seen.mean(0)),
            obs_std=jnp.asarray(np.where(std < 1e-6, 1.0, np.maximum(std, 1e-4))),  # what never varied tells nothing
            action_low=jnp.asarray(low),
            action_high=jnp.asarray(np.maximum(high, low + 1e-3)),
        )
        unit = 2 * (jnp.asarray(actions) - prior.action_low) / (prior.action_high - prior.action_low) - 1
        return cls(prior, normalize_obs(prior, jnp.asarray(obs)), jnp.clip(unit, -1.0, 1.0), jnp.asarray(windows))

    @property
    def steps(self) -> int:
        """Gradient steps that the training takes, a multiple of `PARTS`."""
        config = self.prior.config
        least = max(config.train_steps, config.epochs * len(self.windows) / config.batch_size)
        return PARTS * math.ceil(least / PARTS)

    def init(self, key: Key[Array, ""]) -> CloneState:
        """Fresh weights."""
        params = untrained(self.prior.config, self.obs.shape[-1], self.actions.shape[-1], key).params
        return CloneState(params, params, self._optimizer.init(params), jnp.int32(0))

    def trained(self, state: CloneState) -> Prior:
        """The prior as far as it is trained: with the average of its weights."""
        return self.prior.replace(params=state.ema)

    def block(self, state: CloneState, keys: Key[Array, "steps"]) -> tuple[CloneState, Float[Array, ""]]:
        """A gradient step with each of `keys: [steps]`; returns their mean loss."""
        state, losses = jax.lax.scan(self.update, state, keys)
        return state, losses.mean()

    def update(self, state: CloneState, key: Key[Array, ""]) -> tuple[CloneState, Float[Array, ""]]:
        """One gradient step; returns its loss."""
        loss, grads = jax.value_and_grad(self._loss)(state.params, key)
        updates, opt_state = self._optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        ema = optax.incremental_update(params, state.ema, 1 - self.prior.config.ema)
        return CloneState(params, ema, opt_state, state.step + 1), loss

    @functools.cached_property
    def _optimizer(self) -> optax.GradientTransformation:
        rate = optax.cosine_decay_schedule(self.prior.config.learning_rate, self.steps)
        return optax.adamw(rate, weight_decay=1e-6)

    def _loss(self, params: Any, key: Key[Array, ""]) -> Float[Array, ""]:
        config = self.prior.config
        start_key, time_key, noise_key = jax.random.split(key, 3)
        windows = self.windows[jax.random.randint(start_key, (config.batch_size,), 0, len(self.windows))]
        x0 = self.actions[windows].reshape(config.batch_size, -1)
        network = Denoiser(config.width, config.blocks)

        def velocity(noisy: Float[Array, "n size"], time: Float[Array, "n"]) -> Any:
            return network.apply(params, noisy, self.obs[windows[:, 0]], time)

        return denoising_loss(velocity, x0, config, time_key, noise_key)


def _time_embedding(time: Float[Array, "*batch"], size: int = 32) -> Float[Array, "*batch size"]:
    """Sines and cosines of `time [...]` in [0, 1] at frequencies from 1 to 1000: `[..., size]`."""
    frequencies = np.geomspace(1.0, 1000.0, size // 2, dtype=np.float32)  # constants, since engines round exp apart
    angle = time[..., None] * frequencies
    return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)
