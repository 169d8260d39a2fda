"""An episode that a person watches."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy import BLOW_UP, TOY

from expertgen_jax.runs import recording
from expertgen_jax.sim import episode, rollout
from expertgen_jax.sim.rollout import Agent
from expertgen_jax.viewer.session import Session
from expertgen_jax.vision import camera

CHUNK = 3  # of the agent `chunks`; the toy's horizon is no multiple of it


def make_session(task=TOY, choice="script", seed=0):
    chunks = rollout.policy_from_obs(CHUNK, lambda params, obs, key: jax.random.uniform(key, (CHUNK, 1)))
    blow_up = rollout.policy_from_obs(1, lambda params, obs, key: jnp.full((1, 1), BLOW_UP))
    agents = {**rollout.untrained_agents(task), "chunks": Agent("chunks", chunks), "mad": Agent("mad", blow_up)}
    return Session(episode.make_env(task, "native"), agents, choice, seed)


@pytest.fixture(scope="module")
def session():
    return make_session()


def play(session):
    """What is observed before each of the steps until the end."""
    seen = []
    while not session.over:
        assert session.ending == ""
        seen.append(np.concatenate(list(session.observation.values())))
        session.step()
    return np.array(seen)


@pytest.mark.parametrize(("choice", "seed"), [("script", 0), ("script", 5), ("random", 5), ("chunks", 2), ("mad", 1)])
def test_is_the_episode_that_is_recorded(session, choice, seed):
    recorded = rollout.record(session.env, session.agents[choice], jax.random.key(0), 1, first=seed)
    world, frames = jax.tree.map(lambda x: x[0], jax.device_get(recorded))
    session.choose(choice)
    session.reset(seed)
    seen = play(session)
    np.testing.assert_allclose(seen, frames.obs[frames.active], atol=1e-6)
    np.testing.assert_allclose(session.data.qpos, world.data.qpos, atol=1e-6)
    assert session.ending == recording.ending(world)


def test_endings(session):
    endings = {}
    for choice in ("script", "zero", "mad"):
        session.choose(choice)
        play(session)
        endings[choice] = session.ending, session.succeeds
    assert endings == {"script": ("success", True), "zero": ("failure", False), "mad": ("diverged", False)}


def test_a_step_after_the_end_does_nothing(session):
    session.choose("script")
    play(session)
    before = session.world
    session.step()
    assert session.world is before


def test_another_agent_starts_the_same_episode_anew(session):
    session.choose("script")
    session.reset(4)
    start = session.data.qpos.copy()
    play(session)
    session.choose("zero")
    assert (session.choice, session.seed, session.over, session.data.time) == ("zero", 4, False, 0)
    np.testing.assert_array_equal(session.data.qpos, start)


def test_seeds_have_32_bits(session):
    session.choose("script")
    session.reset(2**32 - 1)
    key = jax.random.fold_in(jax.random.key(0), 2**32 - 1)
    world, _ = rollout.start(session.env, session.agents["script"].policy, key)
    np.testing.assert_allclose(session.data.qpos, world.data.qpos)


def test_shows_the_delayed_observation_and_the_fields_of_the_episode():
    sizes = TOY.scene().compile().geom_size

    def reset(key):
        fields = {"geom_size": sizes * jax.random.uniform(key)}
        return TOY.reset(key)._replace(fields=fields, delays=(1, 0))

    session = make_session(dataclasses.replace(TOY, reset=reset, max_delay=1))
    x, size = session.observation["x"], session.model.geom_size.copy()
    assert (size < sizes)[sizes > 0].all()
    session.step()
    assert session.observation["x"] == x != session.data.qpos
    assert session.observation["past_actions"].shape == (TOY.action_size,)
    session.reset(1)
    assert (session.model.geom_size != size).any()


def test_pictures(envs, session):
    assert session.pictures(8) == {}
    env = envs("peg", "native")
    peg = Session(env, rollout.untrained_agents(env.task), "script")
    pictures = peg.pictures(8)
    assert list(pictures) == list(env.task.cameras)

    @jax.jit
    def see(world):
        geoms = camera.visible(env.model.mj, world.data, world.fields)
        return camera.render(geoms, camera.of_view(env.model.mj, world.data, env.task.cameras["front"]), 8, 8)

    expected = see(peg.world)
    np.testing.assert_allclose(pictures["front"].depth, expected.depth, atol=1e-5)
    np.testing.assert_allclose(pictures["front"].rgb, expected.rgb, atol=1e-5)
