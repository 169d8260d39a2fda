"""The noise-space MDP on a cart that one number moves: what is stored, counted, learnt and left alone."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from expertgen_jax import diffusion, rollout, steering, td3
from expertgen_jax.diffusion import Denoiser, DiffusionConfig, Prior
from expertgen_jax.steering import SteerConfig, Steering
from expertgen_jax.task import Script, Start, Task

HORIZON, CHUNK, CONTROL_DT, NEAR = 6, 4, 0.02, 0.03
CONFIG = SteerConfig(
    worlds=16,
    block_iterations=6,
    updates=2,
    buffer_decisions=16,
    learner=td3.TD3Config(batch_size=32, atoms=11, actor_hidden=(16,), critic_hidden=(16,)),
)


def scene() -> mujoco.MjSpec:
    spec = mujoco.MjSpec()
    spec.option.timestep = 0.01
    spec.option.disableflags |= mujoco.mjtDisableBit.mjDSBL_AUTORESET  # a diverged world must show
    cart = spec.worldbody.add_body(name="cart")
    cart.add_geom(size=[0.05, 0, 0], mass=1.0)
    cart.add_joint(name="x", type=mujoco.mjtJoint.mjJNT_SLIDE, axis=[1, 0, 0], damping=40.0)
    actuator = spec.add_actuator(name="x", target="x", trntype=mujoco.mjtTrn.mjTRN_JOINT)
    actuator.set_to_position(kp=1000.0)
    return spec


def cart(distance: float = 0.1, edge: float = -np.inf) -> Task:
    """A cart to be driven to a goal `distance` to the left or right; left of `edge` it blows up. The second number of
    its action does nothing."""

    def reset(key):
        place, side = jax.random.split(key)
        x = jax.random.uniform(place, (1,), minval=-0.5, maxval=0.5)
        return Start(qpos=x, context=x[0] + distance * jax.random.rademacher(side, (), jnp.float32))

    return Task(
        name="cart",
        scene=scene,
        control_dt=CONTROL_DT,
        horizon=HORIZON,
        action_size=2,
        observation={"way": "m", "x": "m", "time": "s"},
        reset=reset,
        observe=lambda data, goal: {"way": goal - data.qpos, "x": data.qpos, "time": data.time},
        control=lambda data, action: jnp.where(data.qpos < edge, 1e7, data.qpos + 0.1 * action[:1]),
        success=lambda data, goal: jnp.abs(data.qpos[0] - goal) < NEAR,
        script=Script(lambda key: (), lambda memory, data, goal, key: (memory, jnp.zeros(2))),
        privileged=lambda data, goal: data.qvel,
        hold=1,
    )


def make_prior() -> Prior:
    """An untrained denoiser, nudged: its actions follow the noise, and a little the observation."""
    config = DiffusionConfig(chunk=CHUNK, width=16, blocks=1)
    params = Denoiser(16, 1).init(jax.random.key(7), jnp.zeros(CHUNK * 2), jnp.zeros(3), jnp.float32(1))
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda x: x + jnp.asarray(0.02 * rng.normal(size=x.shape), jnp.float32), params)
    one = jnp.ones(2)
    return Prior(params, obs_mean=jnp.zeros(3), obs_std=jnp.ones(3), action_low=-one, action_high=one, config=config)


PRIOR = make_prior()


@functools.cache
def make(distance: float = 0.1, edge: float = -np.inf) -> Steering:
    return Steering(rollout.make_env(cart(distance, edge), "native"), PRIOR, CONFIG)


@functools.cache
def programs(machine: Steering):
    """`init(key)`, `warm_up(state)` and `learn(state)`, compiled."""
    block = jax.jit(machine.block, static_argnums=1)
    return jax.jit(machine.init), lambda state: block(state, False), lambda state: block(state, True)


def history(state):
    """What the ring holds, oldest first (it must not have wrapped around)."""
    added = int(state.buffer.added)
    assert added <= state.buffer.capacity
    return jax.tree.map(lambda x: np.asarray(x[:added]), state.buffer.transitions)


def assert_same(ours, theirs):
    def same(a, b):
        if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        np.testing.assert_array_equal(a, b)

    jax.tree.map(same, ours, theirs)


def changed(ours, theirs) -> bool:
    pairs = zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True)
    return any((np.asarray(a) != np.asarray(b)).any() for a, b in pairs)


@pytest.fixture(scope="module")
def hopeless():
    """Steering towards goals out of reach, where every episode is two decisions and a time-out: the states at first,
    after a warm-up block and after a learning block, and the blocks' figures."""
    init, warm_up, learn = programs(make(distance=9.0))
    first = init(jax.random.key(0))
    warm, warm_figures = warm_up(first)
    learnt, learnt_figures = learn(warm)
    return (first, warm, learnt), (warm_figures, learnt_figures)


def test_steps_and_episodes_are_counted(hopeless):
    states, figures = hopeless
    for blocks, state in enumerate(states):
        assert int(state.iteration) == 6 * blocks
        assert int(state.episodes) == 16 * 3 * blocks
        assert int(state.env_steps) == 16 * 3 * HORIZON * blocks  # not 8: the second chunk is cut in half
        assert int(state.buffer.added) == 6 * blocks
        assert int(state.diverged) == 0
    for block in figures:
        assert int(block["finished"]) == 16 * 3
        assert int(block["succeeded"]) == 0


def test_warm_up_does_not_learn_and_learning_does(hopeless):
    (first, warm, learnt), (warm_figures, learnt_figures) = hopeless
    assert_same(warm.learner, first.learner)
    assert changed(learnt.learner.actor, warm.learner.actor)
    assert changed(learnt.learner.critics, warm.learner.critics)
    assert "critic_loss" not in warm_figures
    assert np.isfinite([learnt_figures[name] for name in ("critic_loss", "q_mean", "noise_saturation")]).all()


def test_warm_up_draws_clipped_normal_noise(hopeless):
    (_, warm, _), _ = hopeless
    noise = CONFIG.noise_bound * history(warm).action
    assert noise.shape == (6, 16, 8)
    assert np.abs(noise).max() <= CONFIG.noise_bound + 1e-6
    assert 0.08 < (np.abs(noise) > CONFIG.noise_bound - 1e-4).mean() < 0.19  # 13.4 % of N(0, 1) lie beyond 1.5
    assert noise[np.abs(noise) < 1].std() == pytest.approx(0.54, abs=0.05)


def test_time_outs_are_truncated_with_their_own_final_observation(hopeless):
    (_, warm, _), _ = hopeless
    past = history(warm)
    ends = np.arange(6) % 2 == 1
    np.testing.assert_array_equal(past.truncated, np.broadcast_to(ends[:, None], (6, 16)))
    assert not past.terminated.any()
    assert not past.reward.any()
    np.testing.assert_allclose(past.next_obs[ends][..., 2], HORIZON * CONTROL_DT, atol=1e-6)
    np.testing.assert_allclose(past.next_obs[~ends][..., 2], CHUNK * CONTROL_DT, atol=1e-6)
    np.testing.assert_array_equal(past.next_obs[~ends], past.obs[ends])
    np.testing.assert_array_equal(past.obs[~ends][..., 2], 0.0)  # and the next episode starts afresh
    starts = past.obs[~ends][..., 1]
    assert len(np.unique(starts)) == starts.size
    moved = np.abs(past.next_obs[..., 1] - past.obs[..., 1])
    assert (moved > 1e-3).mean() > 0.8


def test_exploration_noise_is_redrawn_where_an_episode_ends():
    machine = make(distance=9.0)
    act = jax.jit(machine.act, static_argnums=1)
    first = programs(machine)[0](jax.random.key(0))
    midway, _ = act(first, False)
    ended, _ = act(midway, False)
    np.testing.assert_array_equal(midway.sigma, first.sigma)
    assert (np.asarray(ended.sigma) != np.asarray(first.sigma)).all()
    for state in (first, ended):
        assert CONFIG.sigma_min <= state.sigma.min() < state.sigma.max() <= CONFIG.sigma_max


@pytest.fixture(scope="module")
def hopeful():
    init, warm_up, _ = programs(make())
    return warm_up(init(jax.random.key(1)))


def test_success_terminates_with_reward_one_also_inside_a_chunk(hopeful):
    state, figures = hopeful
    past = history(state)
    over = past.terminated | past.truncated
    assert int(figures["finished"]) == int(state.episodes) == over.sum()
    assert 5 < int(figures["succeeded"]) == past.terminated.sum() < over.sum()
    np.testing.assert_array_equal(past.reward, past.terminated)
    assert not (past.terminated & past.truncated).any()
    # the final observation is the one that succeeded: near the goal, and no other is
    np.testing.assert_array_equal(np.abs(past.next_obs[..., 0]) < NEAR, past.terminated)
    steps = np.round((past.next_obs[..., 2] - past.obs[..., 2]) / CONTROL_DT)
    assert int(state.env_steps) == steps.sum()
    assert set(steps[past.terminated]) > {1.0, 2.0}  # it was frozen where it succeeded


def test_stored_decisions_follow_each_other(hopeful):
    past = history(hopeful[0])
    over = (past.terminated | past.truncated)[:-1]
    np.testing.assert_array_equal(past.next_obs[:-1][~over], past.obs[1:][~over])
    np.testing.assert_array_equal(past.obs[1:][over][:, 2], 0.0)
    assert (past.next_obs[:-1][over][:, 2] > 0).all()


def test_diverged_worlds_are_counted_and_not_stored():
    init, _, learn = programs(make(edge=-0.3))
    state, _ = learn(init(jax.random.key(2)))
    past = history(state)
    assert 0 < int(state.diverged) == (~past.valid).sum() < past.valid.size / 2
    for stored in (past.obs, past.next_obs, past.action, past.reward, past.terminated, past.truncated):
        assert not stored[~past.valid].any()
    assert (past.obs[past.valid][:, 1] >= -0.3 - 0.1).all()
    assert int(state.normalizer.count) == past.valid.sum()
    ended = past.terminated | past.truncated | ~past.valid
    assert int(state.episodes) == ended.sum()
    np.testing.assert_array_equal(past.obs[1:][ended[:-1] & past.valid[1:]][:, 2], 0.0)
    leaves = [x for x in jax.tree.leaves(state) if jnp.issubdtype(x.dtype, jnp.floating)]
    assert all(jnp.isfinite(x).all() for x in leaves)


def test_the_prior_is_left_bit_identical():
    obs, noise = jnp.array([0.1, 0.2, 0.0]), jax.random.normal(jax.random.key(3), PRIOR.noise_shape)
    before = jax.tree.map(lambda x: np.array(x, copy=True), (PRIOR, diffusion.sample(PRIOR, obs, noise)))
    machine = make()
    init, _, learn = programs(machine)
    state, _ = learn(init(jax.random.key(3)))
    assert changed(state.learner.actor, init(jax.random.key(3)).learner.actor)
    assert_same((machine.prior, diffusion.sample(machine.prior, obs, noise)), before)


def test_the_same_key_gives_the_same_training_to_the_bit():
    init, warm_up, learn = programs(make())

    def train(seed):
        return learn(warm_up(init(jax.random.key(seed)))[0])

    assert_same(train(4), train(4))
    assert changed(train(5)[0].learner, train(4)[0].learner)


def test_seeds_side_by_side_are_seeds_one_by_one():
    machine = make()
    init, warm_up, learn = programs(machine)
    keys = jax.random.split(jax.random.key(6))
    both = jax.jit(jax.vmap(lambda key: machine.block(machine.block(machine.init(key), False)[0], True)))(keys)
    alone = [learn(warm_up(init(key))[0]) for key in keys]
    for i, (state, figures) in enumerate(alone):
        ours = jax.tree.map(lambda x, i=i: x[i], both)
        np.testing.assert_allclose(ours[0].buffer.transitions.obs, state.buffer.transitions.obs, atol=2e-3)
        np.testing.assert_array_equal(ours[0].buffer.transitions.reward, state.buffer.transitions.reward)
        for name in ("episodes", "env_steps", "iteration"):
            assert int(getattr(ours[0], name)) == int(getattr(state, name))
        jax.tree.map(functools.partial(np.testing.assert_allclose, atol=2e-3), ours[0].learner.actor, state.learner.actor)
        np.testing.assert_allclose(ours[1]["critic_loss"], figures["critic_loss"], rtol=1e-3)
    assert changed(alone[0][0].worlds.obs, alone[1][0].worlds.obs)


@pytest.mark.parametrize(("mode", "size"), [("chunk", 8), ("row", 2), ("scalar", 1)])
def test_noise_modes(mode, size):
    config = dataclasses.replace(CONFIG, noise_mode=mode, noise_bound=2.5)
    assert steering.noise_size(PRIOR, mode) == size
    action = jnp.linspace(-1.0, 1.0, size) if size > 1 else jnp.array([-1.0])
    noise = steering.spread(action, PRIOR, config)
    assert noise.shape == PRIOR.noise_shape
    assert jnp.abs(noise).max() == 2.5
    expected = {
        "chunk": 2.5 * np.linspace(-1, 1, 8).reshape(4, 2),  # step by step
        "row": np.tile([[-2.5, 2.5]], (4, 1)),
        "scalar": np.full((4, 2), -2.5),
    }[mode]
    np.testing.assert_allclose(noise, expected, rtol=1e-6)


def test_a_scalar_steers_the_whole_loop():
    config = dataclasses.replace(CONFIG, noise_mode="scalar", block_iterations=2)
    machine = Steering(make().env, PRIOR, config)
    state, _ = jax.jit(lambda key: machine.block(machine.init(key), True))(jax.random.key(0))
    assert state.buffer.transitions.action.shape == (16, 16, 1)
    assert int(state.iteration) == 2


def test_the_expert_acts_as_steering_without_exploration(hopeless):
    (_, _, state), _ = hopeless
    machine = make(distance=9.0)
    still = dataclasses.replace(CONFIG, sigma_min=0.0, sigma_max=0.0)
    policy = steering.expert_policy(PRIOR, still)
    expert = machine.expert(state)
    assert expert.normalizer.mean.shape == (3,)  # what is privileged, the critic keeps to itself

    @jax.jit
    def by_policy(worlds, keys):
        chunks = jax.vmap(lambda w, k: policy.act(expert, (), w, k)[1])(worlds, keys)
        return chunks, jax.vmap(lambda w, c: rollout.advance(machine.env, w, c)[0].obs)(worlds, chunks)

    acted, _ = jax.jit(machine.act, static_argnums=1)(state.replace(sigma=jnp.zeros(16)), True)
    chunks, obs = by_policy(state.worlds, jax.random.split(jax.random.key(0), 16))
    newest = (int(acted.buffer.added) - 1) % CONFIG.buffer_decisions
    np.testing.assert_allclose(obs, acted.buffer.transitions.next_obs[newest][:, :3], atol=1e-5)
    assert chunks.shape == (16, CHUNK, 2)


def test_the_prior_policy_draws_its_own_noise():
    policy = steering.prior_policy(CHUNK)
    world = rollout.reset(make().env, jax.random.key(0))
    once, again, other = (policy.act(PRIOR, (), world, jax.random.key(seed))[1] for seed in (0, 0, 1))
    np.testing.assert_array_equal(once, again)
    assert jnp.abs(other - once).max() > 0.1
    noise = jax.random.normal(jax.random.key(0), PRIOR.noise_shape)
    np.testing.assert_allclose(once, diffusion.sample(PRIOR, world.obs, noise), atol=1e-6)


def test_steering_finds_the_goal():
    config = SteerConfig(
        worlds=64,
        block_iterations=40,
        updates=4,
        learner=td3.TD3Config(batch_size=128, learning_rate=1e-3, actor_hidden=(32,), critic_hidden=(64,)),
    )
    env = make(distance=0.15).env
    machine = Steering(env, PRIOR, config)

    @jax.jit
    def train(key):
        state = machine.init(key)
        state, _ = machine.block(state, False)
        return jax.lax.scan(lambda s, _: (machine.block(s, True)[0], None), state, None, length=3)[0]

    state = train(jax.random.key(0))

    def success(policy, params):
        return jax.jit(lambda key: rollout.run(env, policy, params, key, 256).success.mean())(jax.random.key(1))

    before = success(steering.prior_policy(CHUNK), PRIOR)
    after = success(steering.expert_policy(PRIOR, config), machine.expert(state))
    print(before, after)
    assert before < 0.6
    assert after > 0.9
