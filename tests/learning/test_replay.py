"""The ring buffer against a reference in plain Python, on random histories."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from expertgen_jax.learning import replay
from expertgen_jax.learning.replay import Transition

GAMMA = 0.9
sample = jax.jit(replay.sample, static_argnums=(2, 3, 4))
add = jax.jit(replay.add)


def history(seed, steps, worlds):
    """Random decisions. An observation is (number of its decision, world); what follows it has the next number, + 0.5
    where the episode ended, so that the true final observation differs from the first of the next episode. Diverged
    decisions are NaN throughout."""
    rng = np.random.default_rng(seed)
    kind = rng.choice(4, (steps, worlds), p=[0.6, 0.15, 0.15, 0.1])  # goes on, terminated, truncated, diverged
    time, world = np.meshgrid(np.arange(steps, dtype=np.float32), np.arange(worlds, dtype=np.float32), indexing="ij")
    number = np.where(kind == 3, np.nan, time)
    after = number + np.where((kind == 1) | (kind == 2), 1.5, 1.0)
    return Transition(
        obs=np.stack([number, world], -1).astype(np.float32),
        next_obs=np.stack([after, world], -1).astype(np.float32),
        action=(number * 100 + world)[..., None].astype(np.float32),
        reward=np.where(kind == 3, np.nan, rng.normal(size=kind.shape)).astype(np.float32),
        terminated=kind == 1,
        truncated=kind == 2,
        valid=kind != 3,
    )


def fill(past, capacity):
    buffer = replay.init(jax.tree.map(lambda x: jnp.asarray(x[0]), past), capacity)
    for t in range(len(past.reward)):
        buffer = add(buffer, jax.tree.map(lambda x, t=t: jnp.asarray(x[t]), past))
    return buffer


def reference(past, t, world, n_step):
    """Returns, discount and next observation of the n-step transition from decision `t`, by its definition."""
    returns, discount = 0.0, 1.0
    for i in range(t, min(t + n_step, len(past.reward))):
        if not past.valid[i, world]:
            break
        returns += discount * past.reward[i, world]
        discount *= GAMMA
        next_obs = past.next_obs[i, world]
        if past.terminated[i, world]:
            return returns, 0.0, next_obs
        if past.truncated[i, world]:
            break
    return returns, discount, next_obs


@pytest.mark.parametrize("n_step", [1, 3, 5])
@pytest.mark.parametrize("steps", [1, 2, 7, 8, 9, 16, 29, 40])
def test_samples_match_the_reference(steps, n_step):
    worlds, capacity = 3, 8
    past = history(steps * 10 + n_step, steps, worlds)
    batch = jax.device_get(sample(fill(past, capacity), jax.random.key(steps), 512, n_step, GAMMA))
    assert all(np.isfinite(x).all() for x in batch)
    used = batch.weight > 0
    oldest = max(0, steps - capacity)
    stored = {(t, w) for t in range(oldest, steps) for w in range(worlds) if past.valid[t, w]}
    drawn = {(int(t), int(w)) for t, w in batch.obs[used]}
    assert drawn == stored  # 512 draws of at most 24: all, and nothing overwritten or diverged
    for i in np.flatnonzero(used):
        t, world = (int(x) for x in batch.obs[i])
        returns, discount, next_obs = reference(past, t, world, n_step)
        assert batch.action[i, 0] == 100 * t + world
        assert batch.returns[i] == pytest.approx(returns, abs=1e-5)
        assert batch.discount[i] == pytest.approx(discount, abs=1e-6)
        np.testing.assert_array_equal(batch.next_obs[i], next_obs)


def test_a_time_out_bootstraps_from_its_own_final_observation():
    no, one = jnp.zeros(1, bool), jnp.ones(1)
    buffer = replay.init(
        Transition(jnp.zeros((1, 1)), jnp.zeros((1, 1)), jnp.zeros((1, 1)), one, no, no, no), capacity=4
    )
    for obs, next_obs, truncated in ((0.0, 1.0, False), (1.0, 77.0, True), (0.0, 1.0, False)):
        buffer = add(
            buffer,
            Transition(
                jnp.full((1, 1), obs), jnp.full((1, 1), next_obs), jnp.zeros((1, 1)), one, no, one > 1 - truncated, ~no
            ),
        )
    batch = jax.device_get(sample(buffer, jax.random.key(0), 64, 3, GAMMA))
    cut = batch.next_obs[:, 0] == 77
    assert 0 < cut.sum() < 64
    np.testing.assert_allclose(batch.discount[cut], np.where(batch.obs[cut, 0] == 0, GAMMA**2, GAMMA), rtol=1e-6)
    np.testing.assert_allclose(batch.returns[cut], np.where(batch.obs[cut, 0] == 0, 1 + GAMMA, 1.0), rtol=1e-6)
    np.testing.assert_allclose(batch.discount[~cut], GAMMA, rtol=1e-6)  # the newest: one step was all there is


@pytest.mark.parametrize("steps", [6, 30])
def test_sampling_is_uniform_over_stored_decisions(steps):
    past = history(0, steps, 5)
    past = past._replace(valid=np.ones_like(past.valid), obs=np.nan_to_num(past.obs, nan=-1.0))
    time = np.broadcast_to(np.arange(steps)[:, None], (steps, 5))
    past.obs[..., 0] = time
    draws = 40_000
    batch = sample(fill(past, 8), jax.random.key(1), draws, 3, GAMMA)
    stored = min(steps, 8)
    cell = (np.asarray(batch.obs[:, 0]) - (steps - stored)) * 5 + np.asarray(batch.obs[:, 1])
    counts = np.bincount(cell.astype(int), minlength=stored * 5)
    expected = draws / (stored * 5)
    chi2 = ((counts - expected) ** 2 / expected).sum()
    freedom = stored * 5 - 1
    assert len(counts) == stored * 5
    assert chi2 < freedom + 5 * np.sqrt(2 * freedom)


def test_diverged_decisions_leave_no_numbers_in_the_ring():
    past = history(3, 12, 4)
    assert np.isnan(past.obs).any()
    buffer = fill(past, 8)
    ring = buffer.transitions
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(ring))
    assert int(buffer.added) == 12
    np.testing.assert_array_equal(np.asarray(ring.valid).sum(), past.valid[-8:].sum())


def test_a_buffer_of_diverged_decisions_has_no_weight():
    past = history(0, 4, 2)
    past = past._replace(valid=np.zeros_like(past.valid))
    batch = sample(fill(past, 8), jax.random.key(0), 32, 3, GAMMA)
    assert not batch.weight.any()
    assert not batch.returns.any()
    assert np.isfinite(batch.next_obs).all()
