"""Agents play the toy task."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy import HORIZON, TOY

from expertgen_jax.sim import episode, rollout
from expertgen_jax.sim.rollout import Agent


@pytest.fixture(scope="module")
def native():
    return episode.make_env(TOY, "native")


LAZY = Agent("lazy", rollout.policy_from_obs(4, lambda params, obs, key: jnp.full((4, 1), params)), 0.01)


def draw(params, obs, key):
    return jax.random.uniform(key, (4, 1), minval=-0.5, maxval=params)


NOISY = Agent("noisy", rollout.policy_from_obs(4, draw), 0.6)


def test_time_out_inside_a_chunk(native):
    assert HORIZON % LAZY.policy.chunk
    worlds, frames = jax.jit(lambda k: rollout.record(native, LAZY, k, 3))(jax.random.key(0))
    assert frames.active.shape == (3, 12)
    np.testing.assert_array_equal(worlds.steps, [HORIZON] * 3)
    np.testing.assert_array_equal(frames.active.sum(1), [HORIZON] * 3)
    np.testing.assert_allclose(worlds.data.time, HORIZON * TOY.control_dt, rtol=1e-5)
    assert not (worlds.success | worlds.diverged).any()


def test_an_episode_depends_on_its_number_only(native):
    run = lambda count: jax.jit(lambda k: rollout.play(native, NOISY, k, count))(jax.random.key(3))  # noqa: E731
    many, few = run(16), run(3)
    for name in ("qpos", "qvel", "time"):
        np.testing.assert_array_equal(getattr(many.data, name)[:3], getattr(few.data, name))
    np.testing.assert_array_equal(many.steps[:3], few.steps)
    assert len(set(np.asarray(many.data.qpos[:, 0]).tolist())) == 16
    few_slots = rollout.play(native, NOISY, jax.random.key(3), 16, slots=5)
    np.testing.assert_array_equal(few_slots.data.qpos, many.data.qpos)
    np.testing.assert_array_equal(few_slots.steps, many.steps)
    later = rollout.play(native, NOISY, jax.random.key(3), 4, first=9)
    np.testing.assert_array_equal(later.data.qpos, many.data.qpos[9:13])


def test_record_shows_what_play_does(native):
    key = jax.random.key(4)
    script = rollout.scripted_agent(TOY)
    worlds, frames = jax.jit(lambda k: rollout.record(native, script, k, 5))(key)
    ran = jax.jit(lambda k: rollout.play(native, script, k, 5))(key)
    jax.tree.map(np.testing.assert_array_equal, worlds.replace(key=()), ran.replace(key=()))
    assert worlds.success.all() and len(set(worlds.steps.tolist())) > 1
    assert frames.active.shape == (5, HORIZON) and frames.action.shape == (5, HORIZON, 1)
    np.testing.assert_array_equal(frames.active.sum(1), worlds.steps)

    starts = [episode.reset(native, jax.random.split(jax.random.fold_in(key, i))[0]) for i in range(5)]
    np.testing.assert_array_equal(frames.obs[:, 0], np.stack([w.obs for w in starts]))
    np.testing.assert_array_equal(frames.qpos[:, :, 0], frames.obs[:, :, 0])
    # The recorded actions, replayed in one chunk from the same starts, give the same end.
    replay = jax.jit(lambda w, a: episode.advance(native, w, a))
    for i, start in enumerate(starts):
        end, _ = replay(start, frames.action[i])
        np.testing.assert_array_equal(end.data.qpos, worlds.data.qpos[i])
        assert end.steps == worlds.steps[i]
