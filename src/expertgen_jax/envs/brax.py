"""Tasks as environments of Brax, for its learners: PPO, SAC and the rest.

    brax.training.agents.ppo.train.train(BraxEnv(make_env(load_task("peg"))), episode_length=100, ...)

A step is a control step; the reward is 1 where strict success ends the episode, else 0. An episode is done where it
succeeds or physics diverges; time runs out in Brax's own wrapper, whose `episode_length` should be the task's horizon.
Brax's automatic reset begins each world again where it began first: take many worlds.
"""

import jax
import jax.numpy as jnp
from brax.envs.base import Env as BraxBase
from brax.envs.base import State

from expertgen_jax.sim import episode
from expertgen_jax.sim.episode import Env


class BraxEnv(BraxBase):
    """One world of a task; `vmap` is applied outside, as by Brax's wrappers.

    Attributes:
      env: the task on a back end.
    """

    def __init__(self, env: Env):
        """See `make_env`."""
        self.env = env

    def reset(self, rng: jax.Array) -> State:
        """Begins an episode; its `pipeline_state` is an `episode.World`, and `metrics` holds its `success`."""
        key = rng if jnp.issubdtype(rng.dtype, jax.dtypes.prng_key) else jax.random.wrap_key_data(rng)
        world, no = episode.reset(self.env, key), jnp.zeros(())
        return State(world, world.obs, no, no, {"success": no}, {})

    def step(self, state: State, action: jax.Array) -> State:
        """One control step under `action: [m]`, clipped to [-1, 1]."""
        before = state.pipeline_state
        world, _ = episode.advance(self.env, before, jnp.clip(action, -1.0, 1.0)[None])
        reward = (world.success & ~before.success).astype(jnp.float32)
        done = (world.success | world.diverged).astype(jnp.float32)
        metrics = state.metrics | {"success": reward}  # wrappers add their own
        return state.replace(pipeline_state=world, obs=world.obs, reward=reward, done=done, metrics=metrics)

    @property
    def observation_size(self) -> int:
        """Numbers in an observation."""
        return episode.sizes(self.env)[0]

    @property
    def action_size(self) -> int:
        """Numbers in an action."""
        return self.env.task.action_size

    @property
    def backend(self) -> str:
        """Which engine steps it."""
        return self.env.model.backend
