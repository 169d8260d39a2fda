"""Episodes of the toy task."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pressing import BACKENDS
from toy import BLOW_UP, EPS, HOLD, HORIZON, TOY

from expertgen_jax.sim import rollout
from expertgen_jax.sim.rollout import Agent
from expertgen_jax.task import Start


@pytest.fixture(scope="module", params=BACKENDS)
def env(request):
    return rollout.make_env(TOY, request.param)


@pytest.fixture(scope="module")
def native():
    return rollout.make_env(TOY, "native")


@pytest.fixture(scope="module")
def play(env):
    """`actions [n, chunk] -> (worlds, frames)`: one chunk in worlds that start at x = 0."""

    def one(key, actions):
        world = rollout.reset(env, key)
        return rollout.advance(env, at(world, 0.0), actions[:, None])

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
    np.testing.assert_array_equal(jax.vmap(lambda w: rollout.done(env, w))(worlds), [True, False, False, True])

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
    restart = jax.jit(lambda w, k: rollout.reset_done(env, w, k))
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

    starts = [rollout.reset(native, jax.random.split(jax.random.fold_in(key, i))[0]) for i in range(5)]
    np.testing.assert_array_equal(frames.obs[:, 0], np.stack([w.obs for w in starts]))
    np.testing.assert_array_equal(frames.qpos[:, :, 0], frames.obs[:, :, 0])
    # The recorded actions, replayed in one chunk from the same starts, give the same end.
    replay = jax.jit(lambda w, a: rollout.advance(native, w, a))
    for i, start in enumerate(starts):
        end, _ = replay(start, frames.action[i])
        np.testing.assert_array_equal(end.data.qpos, worlds.data.qpos[i])
        assert end.steps == worlds.steps[i]


@pytest.mark.parametrize(("late_obs", "late_action"), [(0, 0), (2, 0), (0, 1), (1, 2)])
def test_delayed_worlds_see_and_do_later_what_others_do_now(late_obs, late_action):
    def reset(key):
        x = jnp.zeros(1)
        return Start(qpos=x, ctrl=x, context={"goal": jnp.array([0.2])}, delays=jnp.array([late_obs, late_action]))

    env = rollout.make_env(dataclasses.replace(TOY, reset=reset, max_delay=2), "native")
    prompt = rollout.make_env(dataclasses.replace(TOY, reset=lambda key: reset(key)._replace(delays=(0, 0))), "native")
    key, actions = jax.random.key(0), np.float32([0.9, -0.3, 0.8, -0.6, 0.2, 0.4])[:, None]
    late, late_frames = rollout.advance(env, rollout.reset(env, key), actions[:3])
    late, more = rollout.advance(env, late, actions[3:])  # a line goes on over the end of a chunk
    obs = np.concatenate([late_frames.obs, more.obs, late.obs[None]])[:, 0]

    done = np.concatenate([np.zeros((late_action, 1), np.float32), actions])[:6]
    same, frames = rollout.advance(prompt, rollout.reset(prompt, key), done)
    np.testing.assert_array_equal(late.data.qpos, same.data.qpos)
    seen = np.append(frames.obs[:, 0], same.obs[0])
    np.testing.assert_array_equal(obs, np.concatenate([np.repeat(seen[:1], late_obs), seen])[:7])
