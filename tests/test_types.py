"""Shapes and dtypes of what is called are checked in tests: see `conftest`."""

import jax
import jax.numpy as jnp
import pytest
from jaxtyping import TypeCheckError

from expertgen_jax.learning import diffusion, td3
from expertgen_jax.learning.diffusion import DiffusionConfig
from expertgen_jax.sim import rollout

PRIOR = diffusion.untrained(DiffusionConfig(chunk=4, width=8, blocks=1), obs_size=3, action_size=2)


def test_right_shapes_pass():
    assert diffusion.sample(PRIOR, jnp.zeros(3), jnp.zeros((4, 2))).shape == (4, 2)


def test_a_batch_is_refused_where_one_is_due():
    with pytest.raises(TypeCheckError, match="parameter 'obs'"):
        diffusion.sample(PRIOR, jnp.zeros((5, 3)), jnp.zeros((4, 2)))


def test_sizes_agree_between_arguments():
    with pytest.raises(TypeCheckError, match="parameter 'valid'"):
        td3.update_normalizer(td3.init_normalizer(3), jnp.zeros((5, 3)), jnp.ones(4, bool))


def test_numbers_of_episodes_are_whole():
    with pytest.raises(TypeCheckError, match="parameter 'numbers'"):
        rollout.episode_keys(jax.random.key(0), jnp.arange(2.0))
