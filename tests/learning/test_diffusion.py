"""The prior: schedule and sampler against closed forms, training on data whose answer is known."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from expertgen_jax.learning import diffusion
from expertgen_jax.learning.demos import DemoSet, windows
from expertgen_jax.learning.diffusion import Cloning, DiffusionConfig
from expertgen_jax.runs import loops

TINY = DiffusionConfig(chunk=2, width=16, blocks=1, train_steps=20, batch_size=32)


def test_cosine_schedule_falls_from_nearly_one_to_nearly_zero():
    alpha_bar = diffusion.cosine_alpha_bar(100)
    assert alpha_bar.shape == (100,)
    assert (np.diff(alpha_bar) < 0).all()
    assert 0.999 < alpha_bar[0] < 1
    assert 0 < alpha_bar[-1] < 1e-5
    # halfway, Nichol & Dhariwal's eq. 17
    assert alpha_bar[49] == pytest.approx(np.cos((0.5 + 0.008) / 1.008 * np.pi / 2) ** 2, rel=0.01)
    # no step takes away more than max_beta of what is left
    assert (alpha_bar[1:] / alpha_bar[:-1]).min() == pytest.approx(1 - 0.999)


def test_trailing_timesteps_match_the_published_example():
    assert diffusion.trailing_timesteps(20, 5).tolist() == [19, 15, 11, 7, 3]
    assert diffusion.trailing_timesteps(20, 20).tolist() == list(range(19, -1, -1))
    assert diffusion.trailing_timesteps(20, 1).tolist() == [19]


def test_trailing_timesteps_start_at_the_last_and_descend():
    for total in range(1, 61):
        for count in range(1, total + 1):
            timesteps = diffusion.trailing_timesteps(total, count)
            assert timesteps.shape == (count,), (total, count)
            assert timesteps[0] == total - 1, (total, count)
            assert timesteps[-1] >= 0, (total, count)
            assert (np.diff(timesteps) < 0).all(), (total, count)


def gaussian_velocity(mean, std, alpha_bar):
    """E[v | x_t] for data N(mean, std^2): v and x_t are jointly Gaussian."""
    abar = jnp.asarray(alpha_bar, jnp.float32)

    def velocity(x, t):
        a = abar[t]
        slope = jnp.sqrt(a * (1 - a)) * (1 - std**2) / (a * std**2 + 1 - a)
        return -jnp.sqrt(1 - a) * mean + slope * (x - jnp.sqrt(a) * mean)

    return velocity


def test_ddim_steps_follow_the_gaussian_posterior():
    mean, std = 0.3, 0.25
    alpha_bar, timesteps = diffusion.cosine_alpha_bar(20), diffusion.trailing_timesteps(20, 5)
    noise = np.linspace(-2.5, 2.5, 11)
    x = noise.copy()
    signals = [*alpha_bar[timesteps], 1.0]
    for a, a_next in itertools.pairwise(signals):
        x0 = mean + std**2 * np.sqrt(a) / (a * std**2 + 1 - a) * (x - np.sqrt(a) * mean)  # E[x_0 | x_t]
        x = np.sqrt(a_next) * x0 + np.sqrt((1 - a_next) / (1 - a)) * (x - np.sqrt(a) * x0)
    ours = diffusion.ddim(gaussian_velocity(mean, std, alpha_bar), jnp.asarray(noise), alpha_bar, timesteps, clip=None)
    np.testing.assert_allclose(ours, x, atol=1e-5)


def test_ddim_of_many_steps_maps_noise_to_the_data_distribution():
    mean, std = 0.3, 0.25
    alpha_bar = diffusion.cosine_alpha_bar(200)
    noise = jnp.linspace(-2.5, 2.5, 11)
    exact = mean + std * noise  # the probability-flow ODE keeps each quantile

    def generate(steps):
        timesteps = diffusion.trailing_timesteps(200, steps)
        return diffusion.ddim(gaussian_velocity(mean, std, alpha_bar), noise, alpha_bar, timesteps, clip=None)

    coarse, fine = generate(10), generate(20)
    error = float(jnp.abs(fine - exact).max())
    assert error < 0.1
    assert error < 0.6 * float(jnp.abs(coarse - exact).max())
    # first order in the step size: the extrapolation to infinitely many steps is exact
    np.testing.assert_allclose(2 * fine - coarse, exact, atol=0.012)


def test_ddim_clips_the_prediction_not_the_noise():
    alpha_bar, timesteps = diffusion.cosine_alpha_bar(20), diffusion.trailing_timesteps(20, 5)
    noise = jnp.array([-3.0, 3.0])
    velocity = gaussian_velocity(0.0, 4.0, alpha_bar)
    clipped = diffusion.ddim(velocity, noise, alpha_bar, timesteps, clip=1.0)
    np.testing.assert_allclose(clipped, [-1.0, 1.0], atol=1e-6)
    assert jnp.abs(diffusion.ddim(velocity, noise, alpha_bar, timesteps, clip=None)).min() > 5
    # a bound that is never reached changes nothing
    narrow = gaussian_velocity(0.0, 0.1, alpha_bar)
    free = diffusion.ddim(narrow, noise, alpha_bar, timesteps, clip=None)
    np.testing.assert_array_equal(diffusion.ddim(narrow, noise, alpha_bar, timesteps, clip=10.0), free)


def coin_demos(episodes=400, length=4):
    """Episodes of constant actions near -0.8 or 0.8, a coin tossed for each; observations say nothing."""
    rng = np.random.default_rng(0)
    actions = rng.choice([-0.8, 0.8], (episodes, 1, 1)) + rng.uniform(-0.05, 0.05, (episodes, length, 1))
    return DemoSet(
        obs=rng.normal(size=(episodes * length, 2)).astype(np.float32),
        actions=actions.reshape(-1, 1).astype(np.float32),
        lengths=np.full(episodes, length),
        success=np.ones(episodes, bool),
    )


@pytest.fixture(scope="module")
def coin_prior():
    demos = coin_demos()
    config = DiffusionConfig(chunk=4, width=64, blocks=2, train_steps=800, batch_size=256, ema=0.99)
    losses = []
    prior = loops.pretrain(
        jax.random.key(0), demos, config, report=lambda step, steps, loss: losses.append((step, loss))
    )
    assert [step for step, _ in losses] == [80 * i for i in range(1, 11)]
    assert losses[-1][1] < 0.5 * losses[0][1]
    return prior


sample = jax.jit(jax.vmap(diffusion.sample, (None, 0, 0)))


def draw(prior, key, noise_scale=1.0, obs_scale=1.0):
    noise_key, obs_key = jax.random.split(key)
    noise = noise_scale * jax.random.normal(noise_key, (512, *prior.noise_shape))
    return noise, sample(prior, obs_scale * jax.random.normal(obs_key, (512, 2)), noise)


def test_training_keeps_both_modes(coin_prior):
    _, chunks = draw(coin_prior, jax.random.key(1))
    assert chunks.shape == (512, 4, 1)
    first = chunks[:, 0, 0]
    assert (jnp.abs(jnp.abs(first) - 0.8) < 0.15).mean() > 0.85  # a regression would answer 0
    assert 0.4 < (first > 0).mean() < 0.6
    assert jnp.abs(first.mean()) < 0.16


def test_chunks_do_not_cross_episodes(coin_prior):
    _, chunks = draw(coin_prior, jax.random.key(2))
    sign = jnp.sign(chunks[..., 0])
    # chunks begun anywhere would be mixed in three eighths of the data
    assert (sign == sign[:, :1]).all(axis=1).mean() > 0.97


def test_the_noise_steers(coin_prior):
    noise, chunks = draw(coin_prior, jax.random.key(3))
    push, first = noise.mean((1, 2)), chunks[:, 0, 0]
    clear = jnp.abs(push) > 0.3
    assert clear.sum() > 200
    assert (jnp.sign(first) == jnp.sign(push))[clear].mean() > 0.97
    # along the diagonal of the noise the action climbs from one mode to the other
    ramp = jnp.linspace(-1.5, 1.5, 31)
    line = jax.jit(jax.vmap(lambda w: diffusion.sample(coin_prior, jnp.zeros(2), jnp.full((4, 1), w))))(ramp)[:, 0, 0]
    assert line[0] < -0.65
    assert line[-1] > 0.65
    assert jnp.diff(line).min() > -0.02


def test_samples_stay_within_the_demonstrated_bounds(coin_prior):
    _, chunks = draw(coin_prior, jax.random.key(4), noise_scale=10.0, obs_scale=1e3)
    assert jnp.isfinite(chunks).all()
    assert chunks.min() >= coin_prior.action_low[0] - 1e-6
    assert chunks.max() <= coin_prior.action_high[0] + 1e-6


def test_sampling_is_deterministic(coin_prior):
    _, once = draw(coin_prior, jax.random.key(5))
    _, again = draw(coin_prior, jax.random.key(5))
    np.testing.assert_array_equal(once, again)


@pytest.mark.parametrize(("episodes", "steps"), [(10, 800), (2048, 960), (2049, 970)])
def test_many_demonstrations_take_more_steps(episodes, steps):
    """2,048 episodes of 4 rows are 8,192 chunks: 30 times that many in steps of 256."""
    demos, config = coin_demos(episodes), DiffusionConfig(train_steps=800, epochs=30, batch_size=256)
    cloning = Cloning.of(demos.obs, demos.actions, windows(demos, config.chunk), config)
    assert cloning.steps == steps


@pytest.fixture(scope="module")
def tiny_priors():
    """Two trainings with one key; the second of the two actions is 0.25 throughout."""
    demos = coin_demos(50)
    actions = np.concatenate([demos.actions, np.full_like(demos.actions, 0.25)], axis=1)
    return [loops.pretrain(jax.random.key(seed), demos._replace(actions=actions), TINY) for seed in (0, 0)]


def test_training_is_a_function_of_its_key(tiny_priors):
    once, again = (np.concatenate([np.ravel(x) for x in jax.tree.leaves(p.params)]) for p in tiny_priors)
    np.testing.assert_array_equal(once, again)
    assert (once != 0).any()


def test_a_constant_action_is_reproduced(tiny_priors):
    prior = tiny_priors[0]
    noise = 3 * jax.random.normal(jax.random.key(1), (64, *prior.noise_shape))
    chunks = jax.jit(jax.vmap(lambda w: diffusion.sample(prior, jnp.zeros(2), w)))(noise)
    np.testing.assert_allclose(chunks[..., 1], 0.25, atol=2e-3)
    assert jnp.abs(chunks[..., 0]).max() > 0.5
