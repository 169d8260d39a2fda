"""Episodes of the toy task: how they begin, go on and end."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pressing import BACKENDS
from toy import BLOW_UP, EPS, HOLD, TOY

from expertgen_jax.sim import episode
from expertgen_jax.task import Start


@pytest.fixture(scope="module", params=BACKENDS)
def env(request):
    return episode.make_env(TOY, request.param)


@pytest.fixture(scope="module")
def play(env):
    """`actions [n, chunk] -> (worlds, frames)`: one chunk in worlds that start at x = 0."""

    def one(key, actions):
        world = episode.reset(env, key)
        return episode.advance(env, at(world, 0.0), actions[:, None])

    program = jax.jit(jax.vmap(one, in_axes=(None, 0)))
    return lambda actions: program(jax.random.key(0), jnp.asarray(actions))


def at(world, x):
    data = world.data.replace(qpos=jnp.full_like(world.data.qpos, x), ctrl=jnp.full_like(world.data.ctrl, x))
    return world.replace(data=data)


# What the four worlds of `CHUNKS` do: go to the goal and stay; never move; go through the goal and back; blow up.
CHUNKS = np.zeros((4, 8), np.float32)
GO, REST, THROUGH, BURST = range(4)
CHUNKS[GO, :4] = 0.5
CHUNKS[GO, 7] = -0.5  # must not be executed
CHUNKS[THROUGH] = [0.99, 0.99, 0.99, 0.99, -0.99, -0.99, -0.99, -0.99]
CHUNKS[BURST] = [0.5, 0.5, BLOW_UP, 0.5, 0.5, 0.5, 0.5, 0.5]


def test_chunk_ends_where_the_episode_ends(env, play):
    worlds, frames = play(CHUNKS)
    np.testing.assert_array_equal(worlds.success, [True, False, False, False])
    np.testing.assert_array_equal(worlds.diverged, [False, False, False, True])
    np.testing.assert_array_equal(jax.vmap(lambda w: episode.done(env, w))(worlds), [True, False, False, True])

    # Steps are counted and frames active until the end, the ending step included.
    active = np.asarray(frames.active)
    np.testing.assert_array_equal(active.sum(1), worlds.steps)
    assert (np.diff(active.astype(int), axis=1) <= 0).all(), "once over, always over"
    np.testing.assert_array_equal(worlds.steps, [worlds.steps[GO], 8, 8, 3])
    end = int(worlds.steps[GO])
    assert HOLD < end < 8

    # Success came at the first moment at which it had been held: frame i shows the state before step i.
    near = np.abs(np.append(frames.qpos[GO, :, 0], worlds.data.qpos[GO]) - 0.2) < EPS
    assert near[end - HOLD + 1 : end + 1].all() and not near[: end - HOLD + 1].any()
    np.testing.assert_array_equal(worlds.held, [HOLD, 0, 0, 0])

    # The final observation is that of the final state, and nothing moved after it.
    final = worlds.data.qpos[:, 0]
    np.testing.assert_array_equal(worlds.obs, np.stack([final, np.full(4, 0.2, np.float32)], axis=1))
    np.testing.assert_array_equal(worlds.privileged, worlds.data.qvel)
    np.testing.assert_array_equal(frames.obs[GO, end:, 0], np.full(8 - end, final[GO]))
    np.testing.assert_allclose(worlds.data.time, np.array([end, 8, 8, 2]) * TOY.control_dt, rtol=1e-5)


def test_success_and_lenient_in_passing(play):
    worlds, frames = play(CHUNKS)
    x = np.asarray(frames.qpos[THROUGH, :, 0])
    assert x.max() > 0.25 and worlds.data.qpos[THROUGH, 0] < 0.15, "it went past the goal and came back"
    np.testing.assert_array_equal(worlds.lenient, [True, False, True, False])
    assert not worlds.success[THROUGH]


def test_divergence_keeps_the_last_finite_state(play):
    worlds, frames = play(CHUNKS)
    calm, _ = play(np.where(CHUNKS == BLOW_UP, 0.0, CHUNKS))
    assert all(np.isfinite(x).all() for x in (worlds.data.qpos, worlds.data.qvel, worlds.data.ctrl, worlds.obs))
    np.testing.assert_array_equal(worlds.data.qpos[BURST], frames.qpos[BURST, 2])
    for k in (GO, REST, THROUGH):  # the neighbours noticed nothing
        np.testing.assert_array_equal(worlds.data.qpos[k], calm.data.qpos[k])
    assert not calm.diverged.any()


def test_reset_done_restarts_only_what_is_over(env, play):
    worlds, _ = play(CHUNKS[[GO, REST, THROUGH, BURST, GO]])
    restart = jax.jit(lambda w, k: episode.reset_done(env, w, k))
    fresh = restart(worlds, jax.random.key(7))
    over = np.array([True, False, False, True, True])
    np.testing.assert_array_equal(fresh.steps, np.where(over, 0, worlds.steps))
    np.testing.assert_array_equal(fresh.data.time, np.where(over, 0, worlds.data.time))
    np.testing.assert_array_equal(fresh.data.qpos[~over], worlds.data.qpos[~over])
    np.testing.assert_array_equal(fresh.obs[~over], worlds.obs[~over])
    np.testing.assert_array_equal(fresh.lenient, [False, False, True, False, False])
    assert not (fresh.success | fresh.diverged | (fresh.held > 0)).any()
    starts = np.asarray(fresh.data.qpos[over, 0])
    np.testing.assert_array_equal(fresh.obs[over, 0], starts)
    assert len(set(starts)) == 3 and np.abs(starts).max() <= 0.1, "each restart is another random one"
    again = restart(worlds, jax.random.key(8))
    assert not np.isin(again.data.qpos[over, 0], starts).any()


@pytest.mark.parametrize(("late_obs", "late_action"), [(0, 0), (2, 0), (0, 1), (1, 2)])
def test_delayed_worlds_see_and_do_later_what_others_do_now(late_obs, late_action):
    def reset(key):
        x = jnp.zeros(1)
        return Start(qpos=x, ctrl=x, context={"goal": jnp.array([0.2])}, delays=jnp.array([late_obs, late_action]))

    env = episode.make_env(dataclasses.replace(TOY, reset=reset, max_delay=2), "native")
    prompt = episode.make_env(dataclasses.replace(TOY, reset=lambda key: reset(key)._replace(delays=(0, 0))), "native")
    key, actions = jax.random.key(0), np.float32([0.9, -0.3, 0.8, -0.6, 0.2, 0.4])[:, None]
    late, late_frames = episode.advance(env, episode.reset(env, key), actions[:3])
    late, more = episode.advance(env, late, actions[3:])  # a line goes on over the end of a chunk
    obs = np.concatenate([late_frames.obs, more.obs, late.obs[None]])[:, 0]

    done = np.concatenate([np.zeros((late_action, 1), np.float32), actions])[:6]
    same, frames = episode.advance(prompt, episode.reset(prompt, key), done)
    np.testing.assert_array_equal(late.data.qpos, same.data.qpos)
    seen = np.append(frames.obs[:, 0], same.obs[0])
    np.testing.assert_array_equal(obs, np.concatenate([np.repeat(seen[:1], late_obs), seen])[:7])
