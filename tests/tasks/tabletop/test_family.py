"""What holds for every task of the table-top family."""

import jax
import pytest

from expertgen_jax.sim import episode, rollout
from expertgen_jax.tasks.registry import FAMILIES

pytestmark = pytest.mark.parametrize("name", FAMILIES["tabletop"])


@pytest.mark.slow
def test_scripts_are_imperfect(envs, name):
    env = envs(name, "native")
    worlds = rollout.play(env, rollout.scripted_agent(env.task), jax.random.key(5), 256)
    assert 0.09 <= worlds.success.mean() <= 0.66, "the published range"
    assert not worlds.diverged.any()


def test_observations_are_small(envs, name):
    assert episode.sizes(envs(name, "native"))[0] <= 60
