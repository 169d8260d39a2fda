"""Steering: FastTD3 chooses the initial noise of a frozen diffusion prior (DSRL, arXiv 2506.15799).

The noise-space MDP: a decision is one action chunk, the action is the noise that the chunk is denoised from, the reward
is 1 when the episode succeeds and 0 otherwise, and the discount is per decision. Success terminates, a time-out
bootstraps from the true final observation, and a decision in which physics diverged is not learnt from.

One iteration acts once in every world, stores, resets what is over and learns; a block scans iterations in one jitted
program with donated state. Budgets count decisions over all worlds, so that with more worlds the learner sees as many
samples for each decision taken: 4 updates of 512 for every 256 decisions make 8.
"""

import dataclasses
import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int, Key, PRNGKeyArray, Scalar

from expertgen_jax.bounds import Count, NonNegative, Positive, Share, Whole
from expertgen_jax.learning import diffusion, replay, td3
from expertgen_jax.learning.diffusion import Prior
from expertgen_jax.sim import episode, rollout
from expertgen_jax.sim.episode import Env, World
from expertgen_jax.sim.rollout import Policy

NoiseMode = Literal["chunk", "row", "scalar"]


@dataclasses.dataclass(frozen=True)
class SteerConfig:
    """Steering the prior's noise."""

    worlds: Count = 256
    """Simulated worlds that act in parallel."""
    target: Share = 0.99
    """Success at which steering ends: the lower end of its 95 % interval, confirmed on fresh episodes."""
    episodes: Count = 32768
    """Training episodes after which steering stops at the latest."""
    patience: Count = 16384
    """Training episodes without a better expert after which steering stops."""
    noise_bound: Positive = 2.5
    """Bound on each number of the steering noise; the prior was trained on N(0, 1)."""
    noise_cost: NonNegative = 0.005
    """What half the sum of the noise's squares, its negative log-likelihood under N(0, 1), costs the actor, in
    log-odds of success: where the critics know of no gain, noise stays small."""
    noise_mode: NoiseMode = "row"
    """What is steered: the noise of the whole chunk, one row repeated over the chunk, or one scalar."""
    history: Count = 1
    """Observations that actor and critics see: the present one, and those of the decisions before."""
    warmup_successes: Whole = 128
    """Successful episodes with random noise before the actor is trained and takes over."""
    warmup_episodes: Whole = 4096
    """Episodes after which it takes over at the latest."""
    warmup_sigma: Positive = 2.0
    """Largest standard deviation of that noise; each world draws its own, from 0 up, at every reset."""
    updates: Count = 16
    """Critic updates for every 256 decisions."""
    sigma_min: NonNegative = 0.1
    """Smallest standard deviation of what a world adds to the steering noise to explore."""
    sigma_max: NonNegative = 0.9
    """Largest one; each world draws its own at every reset."""
    buffer_decisions: Count = 131072
    """Decisions that the replay buffer holds, over all worlds."""
    block_decisions: Count = 7680
    """Decisions, over all worlds, in a jitted block; between two blocks the host logs and evaluates."""
    eval_period: Count = 1280
    """Training episodes between two evaluations of the expert."""
    eval_episodes: Count = 256
    """Episodes of an evaluation during steering; an expert that reaches the target on them is put to the test."""
    confirm_episodes: Count = 1024
    """Fresh episodes on which an expert is put to the test."""
    learner: td3.TD3Config = dataclasses.field(default_factory=td3.TD3Config)
    """FastTD3, the learner."""

    @property
    def block_iterations(self) -> int:
        """Iterations of a block; in each every world makes a decision."""
        return max(1, round(self.block_decisions / self.worlds))

    @property
    def actor_updates(self) -> int:
        """Actor updates of an iteration, each after `learner.actor_period` updates of the critics."""
        return max(1, round(self.updates * self.worlds / 256 / self.learner.actor_period))

    @property
    def buffer_iterations(self) -> int:
        """Iterations that the buffer holds."""
        return max(SHORTEST_BUFFER, -(-self.buffer_decisions // self.worlds))


SHORTEST_BUFFER = 16
"""Decisions of each world that a buffer holds at least: n-step returns look along them."""


class Expert(struct.PyTreeNode):
    """A steering policy: which noise to start from, given what is seen. `prior` turns the noise into actions."""

    actor: Any
    normalizer: td3.Normalizer


class SteerState(struct.PyTreeNode):
    """Everything that steering carries from iteration to iteration; saved whole for resuming.

    Attributes:
      seen: what was observed at the last decisions of each world's episode, the newest first.
      boldness: where in its range, from 0 to 1, the standard deviation of each world's exploration lies.
      proven: boldness of each world's last episode that succeeded; NaN while there is none.
      env_steps: control steps of each world; a sum over many worlds would leave 32 bits.
      successes: episodes that succeeded.
      outcome: of each world's last finished episode: 1 for success, 0 for failure, NaN while there is none.
    """

    key: Key[Array, "*batch"]
    worlds: World
    seen: Float[Array, "*batch n history obs_size"]
    boldness: Float[Array, "*batch n"]
    proven: Float[Array, "*batch n"]
    outcome: Float[Array, "*batch n"]
    buffer: replay.Buffer
    learner: td3.LearnerState
    normalizer: td3.Normalizer
    iteration: Int[Array, "*batch"]
    env_steps: Int[Array, "*batch n"]
    episodes: Int[Array, "*batch"]
    successes: Int[Array, "*batch"]
    diverged: Int[Array, "*batch"]


class Steering(struct.PyTreeNode):
    """The noise-space MDP of an environment and a frozen prior, and its learner: pure functions of `SteerState`.

    It is an argument of compiled programs, so that other weights and other sizes need no other program.
    """

    env: Env
    prior: Prior
    config: SteerConfig = struct.field(pytree_node=False)

    @functools.cached_property
    def learner(self) -> td3.Learner:
        """The TD3 learner for this environment's sizes."""
        obs_size, privileged_size = episode.sizes(self.env)
        return td3.Learner(
            config=self.config.learner,
            obs_size=obs_size * self.config.history,
            critic_obs_size=obs_size * self.config.history + privileged_size,
            action_size=noise_size(self.prior, self.config.noise_mode),
            value_range=(0.0, 1.0),  # one reward of 1 at the end of an episode
            action_cost=self.config.noise_cost * self.config.noise_bound**2,
        )

    def init(self, key: Key[Array, ""]) -> SteerState:
        """Fresh worlds, networks and an empty buffer."""
        config = self.config
        key, reset_key, boldness_key, learner_key = jax.random.split(key, 4)
        worlds = jax.vmap(lambda k: episode.reset(self.env, k))(jax.random.split(reset_key, config.worlds))
        n, size = config.worlds, self.learner.critic_obs_size
        no = jnp.zeros(n, bool)
        example = replay.Transition(
            obs=jnp.zeros((n, size)),
            next_obs=jnp.zeros((n, size)),
            action=jnp.zeros((n, self.learner.action_size)),
            reward=jnp.zeros(n),
            terminated=no,
            truncated=no,
            valid=no,
        )
        return SteerState(
            key=key,
            worlds=worlds,
            seen=jnp.repeat(worlds.obs[:, None], config.history, axis=1),
            boldness=jax.random.uniform(boldness_key, (n,)),
            proven=jnp.full(n, jnp.nan),
            outcome=jnp.full(n, jnp.nan),
            buffer=replay.init(example, config.buffer_iterations),
            learner=self.learner.init(learner_key),
            normalizer=td3.init_normalizer(size),
            iteration=jnp.int32(0),
            env_steps=jnp.zeros(n, jnp.int32),
            episodes=jnp.int32(0),
            successes=jnp.int32(0),
            diverged=jnp.int32(0),
        )

    def expert(self, state: SteerState) -> Expert:
        """The present expert."""
        normalizer, size = state.normalizer, self.learner.obs_size
        own = td3.Normalizer(normalizer.mean[:size], normalizer.var[:size], normalizer.count)
        return Expert(state.learner.averaged, own)

    def block(self, state: SteerState) -> tuple[SteerState, dict[str, Scalar]]:
        """`config.block_iterations` iterations; returns means of figures over them, and `train_success`: of the last
        episodes that the worlds finished, NaN until each has finished one."""

        def iteration(state: SteerState, _: None) -> tuple[SteerState, dict[str, Scalar]]:
            return self.learn(self.act(state))

        state, metrics = jax.lax.scan(iteration, state, None, length=self.config.block_iterations)
        return state, jax.tree.map(jnp.mean, metrics) | {"train_success": state.outcome.mean()}

    def act(self, state: SteerState) -> SteerState:
        """One decision in every world: act (in warm-up by random noise), store, reset what is over."""
        env, worlds = self.env, state.worlds
        key, noise_key, reset_key, boldness_key = jax.random.split(state.key, 4)
        obs = full_obs(state.seen, worlds)
        action, chunks = self.decide(state, noise_key)
        after, _ = jax.vmap(lambda w, c: episode.advance(env, w, c))(worlds, chunks)

        over = episode.done(env, after)
        proven = jnp.where(after.success, state.boldness, state.proven)
        fresh = episode.reset_done(env, after, reset_key)
        remember = jax.vmap(rollout.remember)
        transition = replay.Transition(
            obs=obs,
            next_obs=full_obs(remember(after.obs, state.seen, jnp.zeros_like(over)), after),
            action=self.config.noise_bound * action,  # so that the bound may change
            reward=after.success.astype(jnp.float32),
            terminated=after.success,
            truncated=over & ~after.success & ~after.diverged,
            valid=~after.diverged,
        )
        return state.replace(
            key=key,
            worlds=fresh,
            seen=remember(fresh.obs, state.seen, over),
            boldness=jnp.where(over, dare(proven, boldness_key), state.boldness),
            proven=proven,
            outcome=jnp.where(over, after.success.astype(jnp.float32), state.outcome),
            buffer=replay.add(state.buffer, transition),
            normalizer=td3.update_normalizer(state.normalizer, obs, transition.valid),
            iteration=state.iteration + 1,
            env_steps=state.env_steps + (after.steps - worlds.steps),
            episodes=state.episodes + over.sum(),
            successes=state.successes + after.success.sum(),
            diverged=state.diverged + after.diverged.sum(),
        )

    def decide(
        self, state: SteerState, key: Key[Array, ""]
    ) -> tuple[Float[Array, "n noise_size"], Float[Array, "n chunk action_size"]]:
        """Noise in units of the bound and the action chunks that the prior makes of it."""
        config = self.config
        seen = td3.normalize(state.normalizer, full_obs(state.seen, state.worlds))[:, : self.learner.obs_size]
        sigma = config.sigma_min + state.boldness * (config.sigma_max - config.sigma_min)
        sigma = jnp.where(self.warming_up(state), state.boldness * config.warmup_sigma, sigma)[:, None]
        # The actor, not yet trained in warm-up, chooses next to no noise.
        noise = config.noise_bound * self.learner.act(state.learner.actor, seen)
        noise += sigma * jax.random.normal(key, noise.shape)
        action = jnp.clip(noise / config.noise_bound, -1.0, 1.0)
        noise = jax.vmap(lambda a: spread(a, self.prior, config))(action)
        return action, jax.vmap(lambda o, w: diffusion.sample(self.prior, o, w))(state.worlds.obs, noise)

    def learn(self, state: SteerState) -> tuple[SteerState, dict[str, Scalar]]:
        """`config.actor_updates` actor updates, none in warm-up, each after `learner.actor_period` updates of the
        critics."""
        config, ready = self.config.learner, ~self.warming_up(state)

        def critics(state: SteerState, _: None) -> tuple[SteerState, tuple[replay.Batch, dict[str, Scalar]]]:
            key, sample_key, update_key = jax.random.split(state.key, 3)
            batch = replay.sample(state.buffer, sample_key, config.batch_size, config.n_step, config.gamma)
            obs, next_obs = (td3.normalize(state.normalizer, x) for x in (batch.obs, batch.next_obs))
            action = jnp.clip(batch.action / self.config.noise_bound, -1.0, 1.0)
            batch = batch._replace(obs=obs, next_obs=next_obs, action=action)
            learner, metrics = self.learner.update_critics(state.learner, batch, update_key)
            return state.replace(key=key, learner=learner), (batch, metrics)

        def period(state: SteerState, _: None) -> tuple[SteerState, dict[str, Float[Array, "..."]]]:
            state, (batches, metrics) = jax.lax.scan(critics, state, None, length=config.actor_period)
            last = jax.tree.map(lambda x: x[-1], batches)
            learner, actor_metrics = self.learner.update_actor(state.learner, last)
            learner = jax.tree.map(functools.partial(jnp.where, ready), learner, state.learner)
            return state.replace(learner=learner), metrics | actor_metrics

        state, metrics = jax.lax.scan(period, state, None, length=self.config.actor_updates)
        return state, jax.tree.map(jnp.mean, metrics)

    def warming_up(self, state: SteerState) -> Bool[Array, "*batch"]:
        """Whether noise is random yet."""
        return (state.successes < self.config.warmup_successes) & (state.episodes < self.config.warmup_episodes)


def dare(proven: Float[Array, "n"], key: Key[Array, ""]) -> Float[Array, "n"]:
    """How boldly, from 0 to 1, `n` worlds explore next: half of the time as boldly as another world last succeeded,
    `proven`; anyhow else, and where that one never has (NaN)."""
    anyhow_key, which_key, half_key = jax.random.split(key, 3)
    as_one = jax.random.choice(which_key, proven, proven.shape)
    anyhow = jax.random.uniform(anyhow_key, proven.shape)
    return jnp.where(jnp.isnan(as_one) | jax.random.bernoulli(half_key, shape=proven.shape), anyhow, as_one)


def noise_size(prior: Prior, mode: NoiseMode) -> int:
    """Numbers that a steering policy chooses."""
    chunk, action_size = prior.noise_shape
    return {"chunk": chunk * action_size, "row": action_size, "scalar": 1}[mode]


def spread(action: Float[Array, "noise_size"], prior: Prior, config: SteerConfig) -> Float[Array, "chunk action_size"]:
    """The prior's initial noise `[chunk, action_size]` for a steering action in [-1, 1], within the bound."""
    chunk, action_size = prior.noise_shape
    noise = config.noise_bound * action
    return (
        noise.reshape(chunk, action_size)
        if config.noise_mode == "chunk"
        else jnp.broadcast_to(noise, (chunk, action_size))
    )


def full_obs(seen: Float[Array, "n history obs_size"], worlds: World) -> Float[Array, "n critic_obs_size"]:
    """What the critics see `[n, critic_obs_size]`: the observations that the actor sees, the newest first, and
    what is privileged."""
    return jnp.concatenate([seen.reshape(len(seen), -1), worlds.privileged], axis=-1)


def prior_policy(chunk: int) -> Policy:
    """The unsteered prior; its parameters are the `Prior`."""

    def act(prior: Prior, obs: Float[Array, "obs_size"], key: Key[Array, ""]) -> Float[Array, "chunk action_size"]:
        return diffusion.sample(prior, obs, jax.random.normal(key, prior.noise_shape))

    return rollout.policy_from_obs(chunk, act)


def expert_policy(chunk: int, obs_size: int, config: SteerConfig) -> Policy:
    """The steered prior, deterministic; its parameters are the `Prior` and the `Expert`, its memory is what it observed
    at the last decisions `[history, obs_size]`."""

    def act(
        params: tuple[Prior, Expert], memory: Float[Array, "history obs_size"], world: World, key: PRNGKeyArray
    ) -> tuple[Float[Array, "history obs_size"], Float[Array, "chunk action_size"]]:
        prior, expert = params
        seen = rollout.remember(world.obs, memory, world.steps == 0)
        actor = td3.Actor(config.learner.actor_hidden, noise_size(prior, config.noise_mode))
        action: Any = actor.apply(expert.actor, td3.normalize(expert.normalizer, seen.ravel()))
        return seen, diffusion.sample(prior, world.obs, spread(action, prior, config))

    return Policy(chunk, lambda key: jnp.zeros((config.history, obs_size)), act)
