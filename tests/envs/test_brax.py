"""Tasks in Brax: its wrappers step them. Runs where Brax is installed, as in CI."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy import BLOW_UP, HOLD, HORIZON, TOY

from expertgen_jax.sim import episode

with warnings.catch_warnings():  # of what Brax stands on
    warnings.simplefilter("ignore")
    from brax.envs.wrappers import training

    from expertgen_jax.envs.brax import BraxEnv

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def toy() -> BraxEnv:
    return BraxEnv(episode.make_env(TOY, "native"))


def test_success_is_a_reward_and_the_end(toy):
    state, step, rewards = jax.jit(toy.reset)(jax.random.key(0)), jax.jit(toy.step), []
    while not state.done and len(rewards) < HORIZON:
        x, goal = state.obs
        state = step(state, jnp.clip((goal - x) / 0.1, -0.5, 0.5)[None])
        rewards.append(float(state.reward))
    assert state.done and rewards == [0.0] * (len(rewards) - 1) + [1.0] and len(rewards) >= HOLD
    assert float(step(state, jnp.zeros(1)).reward) == 0.0, "only once"
    assert (toy.observation_size, toy.action_size, toy.backend) == (2, 1, "native")


def test_divergence_ends_without_a_reward(toy):
    state = jax.jit(toy.step)(toy.reset(jax.random.key(0)), jnp.array([BLOW_UP]))
    assert state.done and not state.reward


def test_braxs_wrappers_end_and_begin_episodes(toy):
    env = training.wrap(toy, episode_length=HORIZON)
    state, step = jax.jit(env.reset)(jax.random.split(jax.random.PRNGKey(0), 3)), jax.jit(env.step)
    first = state.obs
    for number in range(HORIZON):
        assert not state.done.any(), number
        state = step(state, jnp.zeros((3, 1)))
    assert state.done.all() and state.info["truncation"].all()
    np.testing.assert_array_equal(state.obs, first)  # Brax begins again where it began
    assert not step(state, jnp.zeros((3, 1))).done.any()
