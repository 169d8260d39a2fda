"""The learner: C51 projection against rlax, targets and gradients by hand, a chain with known values."""

import dataclasses
import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from expertgen_jax.learning import replay, td3
from expertgen_jax.learning.replay import Batch, Transition
from expertgen_jax.learning.td3 import Learner, TD3Config

with warnings.catch_warnings():  # its TensorFlow Probability asks JAX for a deprecated name
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    import rlax

# These programs run for milliseconds and would compile for half a minute.
jit = functools.partial(
    jax.jit, compiler_options={"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
)

SMALL = TD3Config(actor_hidden=(16,), critic_hidden=(16,), atoms=21, policy_noise=0.0)
LEARNER = Learner(SMALL, 2, 3, 2, (0.0, 1.0), action_cost=0.3)  # the actor sees the first two of three numbers


@functools.partial(jit, static_argnames="update_actor")
def update(state, batch, key, update_actor):
    state, figures = LEARNER.update_critics(state, batch, key)
    if update_actor:
        state, more = LEARNER.update_actor(state, batch)
        figures |= more
    return state, figures


def random_distributions(seed, count, points, low, high):
    rng = np.random.default_rng(seed)
    support = rng.uniform(low, high, (count, points)).astype(np.float32)
    return jnp.asarray(support), jnp.asarray(rng.dirichlet(np.full(points, 0.5), count).astype(np.float32))


project = jit(jax.vmap(td3.project_categorical, (0, 0, None)))
theirs = jit(jax.vmap(rlax.categorical_l2_project, (0, 0, None)))


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-1.0, 3.0), (1.5, 2.0), (-0.5, -0.1)])
def test_projection_matches_rlax(low, high):
    atoms = jnp.linspace(0.0, 1.0, 21)
    support, probs = random_distributions(0, 64, 21, low, high)
    np.testing.assert_allclose(project(support, probs, atoms), theirs(support, probs, atoms), atol=1e-5)


def test_projection_keeps_mass_always_and_the_mean_inside_the_range():
    atoms = jnp.linspace(-1.0, 2.0, 13)
    support, probs = random_distributions(1, 64, 9, -4.0, 5.0)
    np.testing.assert_allclose(project(support, probs, atoms).sum(-1), 1.0, atol=1e-5)
    support, probs = random_distributions(2, 64, 9, -1.0, 2.0)
    np.testing.assert_allclose(project(support, probs, atoms) @ atoms, (support * probs).sum(-1), atol=1e-5)


def test_projection_leaves_the_atoms_where_they_are():
    atoms = jnp.linspace(0.0, 1.0, 21)
    _, probs = random_distributions(3, 8, 21, 0.0, 1.0)
    np.testing.assert_allclose(project(jnp.broadcast_to(atoms, probs.shape), probs, atoms), probs, atol=1e-5)


def random_batch(seed, size=32):
    rng = np.random.default_rng(seed)
    return Batch(
        obs=rng.normal(size=(size, 3)).astype(np.float32),
        action=rng.uniform(-1, 1, (size, 2)).astype(np.float32),
        returns=rng.uniform(0, 0.5, size).astype(np.float32),
        discount=rng.choice([0.0, 0.9, 0.729], size).astype(np.float32),
        next_obs=rng.normal(size=(size, 3)).astype(np.float32),
        weight=np.ones(size, np.float32),
    )


@pytest.fixture(scope="module")
def state():
    """Fresh weights whose target critics disagree, with the critics and with each other, by more than a hair."""
    state = jit(LEARNER.init)(jax.random.key(0))
    rng = np.random.default_rng(0)
    targets = jax.tree.map(lambda x: x + rng.normal(size=x.shape).astype(np.float32), state.target_critics)
    return state.replace(target_critics=targets)


def test_the_target_is_the_whole_distribution_of_the_lower_critic(state):
    batch = random_batch(0, 128)
    target = jit(LEARNER.target_distribution)(state, batch, jax.random.key(0))

    action = td3.Actor(SMALL.actor_hidden, 2).apply(state.actor, batch.next_obs[:, :2])
    logits = jax.vmap(td3.Critic(SMALL.critic_hidden, SMALL.atoms).apply, (0, None, None))(
        state.target_critics, batch.next_obs, action
    )
    support = batch.returns[:, None] + batch.discount[:, None] * LEARNER.atoms
    both = [theirs(support, jax.nn.softmax(x), LEARNER.atoms) for x in logits]
    means = [x @ LEARNER.atoms for x in both]
    first_is_lower = means[0] < means[1]
    open_ended = batch.discount > 0
    assert 10 < first_is_lower[open_ended].sum() < open_ended.sum() - 10  # each is the lower one somewhere
    np.testing.assert_allclose(target, jnp.where(first_is_lower[:, None], *both), atol=1e-5)


def test_target_noise_is_bounded(state):
    batch = random_batch(0)

    def target(noise, clip, seed):
        config = dataclasses.replace(SMALL, policy_noise=noise, noise_clip=clip)
        return jit(Learner(config, 2, 3, 2, (0.0, 1.0)).target_distribution)(state, batch, jax.random.key(seed))

    still = target(0.0, 1.0, 0)
    np.testing.assert_allclose(target(5.0, 0.0, 0), still, atol=1e-6)
    assert jnp.abs(target(5.0, 0.2, 0) - still).max() > 1e-3
    assert jnp.abs(target(5.0, 0.2, 0) - target(5.0, 0.2, 1)).max() > 1e-3


def first_moments(state):
    """Adam's first moments: after one update from fresh weights, the gradients times 0.1."""
    return state.actor_opt[0].mu, state.critic_opt[0].mu


def assert_close(ours, theirs, **tolerance):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerance), ours, theirs)


def test_samples_without_weight_do_not_count(state):
    good, rubbish = random_batch(1, 16), random_batch(2, 16)
    rubbish = rubbish._replace(obs=rubbish.obs * 100, returns=rubbish.returns + 1e6, weight=np.zeros(16, np.float32))
    twice = jax.tree.map(lambda x: np.concatenate([x, x]), good)  # the same mean, and the same shapes
    padded = jax.tree.map(lambda *x: np.concatenate(x), good, rubbish)
    expected, figures = update(state, twice, jax.random.key(0), update_actor=True)
    ours, our_figures = update(state, padded, jax.random.key(0), update_actor=True)
    counted, _ = update(state, padded._replace(weight=np.ones(32, np.float32)), jax.random.key(0), update_actor=True)
    assert_close(first_moments(ours), first_moments(expected), rtol=1e-4, atol=1e-7)
    for name in ("critic_loss", "q_mean"):
        assert our_figures[name] == pytest.approx(float(figures[name]), rel=1e-4)
    with pytest.raises(AssertionError):  # the rubbish would show
        assert_close(first_moments(counted), first_moments(expected), rtol=1e-4, atol=1e-7)


def test_a_batch_without_any_weight_gives_no_gradient(state):
    batch = random_batch(1)._replace(weight=np.zeros(32, np.float32))
    updated, _ = update(state, batch, jax.random.key(0), update_actor=True)
    for leaf in jax.tree.leaves(first_moments(updated)):
        assert not leaf.any()


def test_actor_and_critics_keep_to_their_own_losses(state):
    batch = random_batch(3)
    critics_only, _ = update(state, batch, jax.random.key(0), update_actor=False)
    both, _ = update(state, batch, jax.random.key(0), update_actor=True)
    for name in ("critics", "target_critics", "critic_opt"):
        assert_close(getattr(both, name), getattr(critics_only, name), rtol=1e-6, atol=1e-9)
    jax.tree.map(np.testing.assert_array_equal, critics_only.actor, state.actor)

    critics = (
        both.critics
    )  # the actor climbs the critics' mean, less its actions' cost, as they are after their own step

    def value(actor):
        action = td3.Actor(SMALL.actor_hidden, 2).apply(actor, batch.obs[:, :2])
        q = LEARNER.q_values(critics, batch.obs, action).mean(0)
        slope = jax.lax.stop_gradient(q * (1 - q))  # the mean of logit(q) - cost would climb 1 / slope as fast
        return (q - 0.15 * slope * (action**2).sum(-1)).mean()

    ascent = jax.tree.map(lambda m: -m / 0.1, first_moments(both)[0])
    assert_close(ascent, jit(jax.grad(value))(state.actor), rtol=1e-3, atol=1e-7)


def test_the_critics_descend_the_cross_entropy(state):
    batch = random_batch(4)
    target = jit(LEARNER.target_distribution)(state, batch, jax.random.key(0))

    @jit
    @jax.grad
    def gradient(params):
        logits = td3.Critic(SMALL.critic_hidden, SMALL.atoms).apply(params, batch.obs, batch.action)
        return optax.softmax_cross_entropy(logits, target).mean()

    updated, _ = update(state, batch, jax.random.key(0), update_actor=False)
    for i in range(2):
        ours = jax.tree.map(lambda m, i=i: m[i] / 0.1, first_moments(updated)[1])
        assert_close(ours, gradient(jax.tree.map(lambda x, i=i: x[i], state.critics)), rtol=1e-3, atol=1e-6)


def test_target_critics_move_by_tau(state):
    updated, _ = update(state, random_batch(3), jax.random.key(0), update_actor=False)
    tau = SMALL.tau
    expected = jax.tree.map(lambda new, old: tau * new + (1 - tau) * old, updated.critics, state.target_critics)
    assert_close(updated.target_critics, expected, rtol=1e-5, atol=1e-6)


CHAIN = TD3Config(
    gamma=0.9,
    batch_size=256,
    critic_learning_rate=2e-3,
    actor_learning_rate=2e-3,
    tau=0.1,
    atoms=21,
    actor_hidden=(32,),
    critic_hidden=(64, 64),
)


def chain_buffer(worlds=64, steps=48):
    """Random walks on a chain of three states: an action above 0 goes on, below 0 ends the episode with nothing, and
    going on from the last state ends it with 1. One decision in ten is a time-out, after which the walk starts again
    at 0, and one in twenty diverges."""
    rng = np.random.default_rng(0)
    one_hot = np.eye(4, dtype=np.float32)
    place, rows = np.zeros(worlds, int), []
    for _ in range(steps):
        action = rng.uniform(-0.4, 1.0, worlds).astype(np.float32)
        goes_on = action > 0
        reward = (goes_on & (place == 2)).astype(np.float32)
        terminated = ~goes_on | (reward > 0)
        valid = rng.random(worlds) > 0.05
        truncated = ~terminated & (rng.random(worlds) < 0.1)
        after = place + 1
        obs = np.where(valid[:, None], one_hot[place], np.nan)
        rows.append(Transition(obs, one_hot[after], action[:, None], reward, terminated & valid, truncated, valid))
        place = np.where(terminated | truncated | ~valid, 0, after)
    buffer = replay.init(jax.tree.map(jnp.asarray, rows[0]), steps)
    add = jit(replay.add)
    for row in rows:
        buffer = add(buffer, jax.tree.map(jnp.asarray, row))
    return buffer


@pytest.mark.slow
def test_a_chain_of_known_values_is_learnt():
    learner = Learner(CHAIN, 4, 4, 1, (0.0, 1.0))

    @jit
    def train(buffer):
        def pair(state, key):
            for update_key in jax.random.split(key):
                batch = replay.sample(buffer, update_key, CHAIN.batch_size, 1, CHAIN.gamma)
                state, _ = learner.update_critics(state, batch, update_key)
            return learner.update_actor(state, batch)[0], None

        return jax.lax.scan(pair, learner.init(jax.random.key(0)), jax.random.split(jax.random.key(1), 150))[0]

    state = train(chain_buffer())
    places = jnp.eye(4)[:3]
    action = learner.act(state.actor, places)
    assert (action > 0.1).all()
    good = learner.q_values(state.critics, places, jnp.full((3, 1), 0.6))
    np.testing.assert_allclose(good, np.broadcast_to([0.81, 0.9, 1.0], (2, 3)), atol=0.05)
    np.testing.assert_allclose(learner.q_values(state.critics, places, action), good, atol=0.05)
    bad = learner.q_values(state.critics, places, jnp.full((3, 1), -0.3))
    np.testing.assert_allclose(bad, 0.0, atol=0.05)


def test_normalizer_is_the_mean_and_variance_of_all_valid_rows():
    rng = np.random.default_rng(0)
    state, seen = td3.init_normalizer(3), []
    update = jit(td3.update_normalizer)
    for i in range(6):
        obs = rng.normal([0.0, 5.0, -2.0], [1.0, 0.01, 30.0], (20, 3)).astype(np.float32) + i
        valid = rng.random(20) > 0.3 if i != 3 else np.zeros(20, bool)  # once, none at all
        seen.append(obs[valid])
        state = update(state, np.where(valid[:, None], obs, np.nan), valid)
    seen = np.concatenate(seen)
    assert int(state.count) == len(seen)
    np.testing.assert_allclose(state.mean, seen.mean(0), rtol=1e-5)
    np.testing.assert_allclose(state.var, seen.var(0), rtol=1e-4)
    standard = td3.normalize(state, seen)
    np.testing.assert_allclose(standard.mean(0), 0.0, atol=1e-3)
    np.testing.assert_allclose(standard.std(0), 1.0, atol=1e-3)
    np.testing.assert_array_equal(td3.normalize(state, jnp.full(3, 1e9)), 10.0)


def test_a_fresh_normalizer_changes_nothing():
    obs = jnp.array([0.5, -2.0])
    np.testing.assert_allclose(td3.normalize(td3.init_normalizer(2), obs), obs, rtol=2e-4)
