"""The noise-space MDP on a cart that one number moves: what is stored, counted, learnt and left alone."""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from expertgen_jax.learning import diffusion, steering, td3
from expertgen_jax.learning.diffusion import Denoiser, DiffusionConfig, Prior
from expertgen_jax.learning.steering import SteerConfig, Steering, SteerState
from expertgen_jax.sim import episode
from expertgen_jax.task import Script, Start, Task

# These programs run for milliseconds and would compile for a minute.
jit = functools.partial(
    jax.jit, compiler_options={"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
)

HORIZON, CHUNK, CONTROL_DT, NEAR, EDGE = 6, 4, 0.02, 0.03, -0.8
CONFIG = SteerConfig(
    worlds=16,
    block_decisions=6 * 16,
    warmup_episodes=3 * 16,
    noise_mode="chunk",
    noise_bound=1.5,
    sigma_min=0.0,
    updates=32,
    buffer_decisions=16 * 16,
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


def cart() -> Task:
    """A cart to be driven to a goal on its left or right. Three kinds of episodes: a goal within reach; one far out of
    reach, so that time runs out; a start so far left that the cart blows up at the first control step. The second
    number of the action does nothing."""

    def reset(key):
        kind_key, place_key, side_key = jax.random.split(key, 3)
        blows_up, hopeless = jax.random.uniform(kind_key, (2,)) < jnp.array([0.15, 0.4])
        x = jnp.where(blows_up, -0.9, jax.random.uniform(place_key, (1,), minval=-0.2, maxval=0.5))
        way = jax.random.rademacher(side_key, (), jnp.float32) * jnp.where(hopeless, 9.0, 0.05)
        return Start(qpos=x, context=x[0] + way)

    return Task(
        name="cart",
        scene=scene,
        control_dt=CONTROL_DT,
        horizon=HORIZON,
        action_size=2,
        observation={"way": "m", "x": "m", "time": "s"},
        reset=reset,
        observe=lambda data, goal: {"way": goal - data.qpos, "x": data.qpos, "time": data.time},
        control=lambda data, action: jnp.where(data.qpos < EDGE, 1e7, data.qpos + 0.1 * action[:1]),
        success=lambda data, goal: jnp.abs(data.qpos[0] - goal) < NEAR,
        script=Script(lambda key: (), lambda memory, data, goal, key: (memory, jnp.zeros(2))),
        privileged=lambda data, goal: data.qvel,
        hold=1,
    )


def make_prior() -> Prior:
    """An untrained denoiser, nudged: its actions follow the noise, and a little the observation."""
    config = DiffusionConfig(chunk=CHUNK, sample_steps=2, width=16, blocks=1)
    params = Denoiser(16, 1).init(jax.random.key(7), jnp.zeros(CHUNK * 2), jnp.zeros(3), jnp.float32(1))
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda x: x + jnp.asarray(0.02 * rng.normal(size=x.shape), jnp.float32), params)
    one = jnp.ones(2)
    return Prior(params, obs_mean=jnp.zeros(3), obs_std=jnp.ones(3), action_low=-one, action_high=one, config=config)


PRIOR = make_prior()


@pytest.fixture(scope="module")
def machine() -> Steering:
    return Steering(episode.make_env(cart(), "native"), PRIOR, CONFIG)


class Programs(NamedTuple):
    """The machine's functions, compiled."""

    init: Callable
    block: Callable
    act: Callable


@pytest.fixture(scope="module")
def programs(machine) -> Programs:
    return Programs(
        jit(machine.init),
        jit(machine.block),
        jit(machine.act),
    )


class Run(NamedTuple):
    """States at first, after a warm-up block and after a learning block, and the blocks' figures."""

    first: SteerState
    warm: SteerState
    warm_figures: dict
    learnt: SteerState
    learnt_figures: dict


def run(programs, seed) -> Run:
    first = programs.init(jax.random.key(seed))
    warm, warm_figures = programs.block(first)
    return Run(first, warm, warm_figures, *programs.block(warm))


@pytest.fixture(scope="module")
def trained(programs) -> Run:
    return run(programs, 1)


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


def test_steps_and_episodes_are_counted(trained):
    for blocks, state in enumerate((trained.first, trained.warm, trained.learnt)):
        past = history(state)
        over = past.terminated | past.truncated | ~past.valid
        steps = np.round((past.next_obs[..., 2] - past.obs[..., 2]) / CONTROL_DT)
        assert int(state.iteration) == int(state.buffer.added) == 6 * blocks
        assert int(state.episodes) == over.sum()
        assert state.env_steps.sum() == steps[past.valid].sum() + (~past.valid).sum()  # a blow-up takes one


def test_training_success_is_of_each_worlds_last_episode(trained):
    past = history(trained.learnt)
    over = past.terminated | past.truncated | ~past.valid
    for upto, figures in ((6, trained.warm_figures), (12, trained.learnt_figures)):
        last = upto - 1 - over[:upto][::-1].argmax(0)  # the decision that ended it
        assert over[:upto].any(0).all()
        assert float(figures["train_success"]) == past.terminated[last, np.arange(16)].mean()


def test_nothing_is_said_of_training_success_before_every_world_ended_an_episode(machine, programs):
    short = Steering(machine.env, PRIOR, dataclasses.replace(CONFIG, block_decisions=16))
    _, figures = jit(short.block)(programs.init(jax.random.key(0)))
    assert jnp.isnan(figures["train_success"])


def test_with_more_worlds_a_decision_is_learnt_from_as_often():
    few, many = SteerConfig(worlds=256), SteerConfig(worlds=4096)
    for config in (few, many, SteerConfig(worlds=16384)):
        assert config.actor_updates * 2 / config.worlds == few.actor_updates * 2 / 256
        assert config.buffer_iterations * config.worlds >= few.buffer_decisions
    assert (few.block_iterations, few.buffer_iterations, few.actor_updates) == (30, 512, 8)
    assert many.buffer_iterations == 32 and SteerConfig(worlds=16384).buffer_iterations == steering.SHORTEST_BUFFER


def test_every_block_learns(trained):
    for before, after in ((trained.first, trained.warm), (trained.warm, trained.learnt)):
        assert changed(after.learner.actor, before.learner.actor)
        assert changed(after.learner.critics, before.learner.critics)
    assert np.isfinite([trained.learnt_figures[name] for name in ("critic_loss", "q_mean", "noise_saturation")]).all()


def test_in_warm_up_worlds_draw_noise_of_their_own_size(machine, trained):
    state = trained.first.replace(boldness=jnp.linspace(0.0, 1.0, 16))
    keys = jax.random.split(jax.random.key(0), 200)
    action, _ = jit(lambda keys: jax.lax.map(lambda key: machine.decide(state, key), keys))(keys)
    noise = CONFIG.noise_bound * action
    assert np.abs(noise).max() <= CONFIG.noise_bound + 1e-6
    np.testing.assert_allclose(noise[:, :4].std((0, 2)), CONFIG.warmup_sigma * np.linspace(0, 1, 16)[:4], atol=0.06)
    clipped = (np.abs(noise) > CONFIG.noise_bound - 1e-4).mean((0, 2))
    assert clipped[-1] == pytest.approx(0.453, abs=0.05), "of N(0, 4) beyond 1.5"


def test_half_of_the_worlds_explore_as_one_that_succeeded(programs, trained):
    dare = jax.vmap(steering.dare, (None, 0))
    keys = jax.random.split(jax.random.key(0), 500)
    anyhow = np.asarray(dare(jnp.full(16, jnp.nan), keys))
    np.testing.assert_allclose([anyhow.mean(), anyhow.std()], [1 / 2, 1 / np.sqrt(12)], atol=0.02)
    some = np.asarray(dare(jnp.full(16, jnp.nan).at[3].set(0.25), keys))
    assert (some == 0.25).mean() == pytest.approx(1 / 2 / 16, abs=0.01)
    proven = jnp.linspace(0.1, 0.2, 16)
    assert np.isin(dare(proven, keys), proven).mean() == pytest.approx(1 / 2, abs=0.02)
    state = trained.warm
    acted = programs.act(state)
    succeeded = np.asarray(acted.buffer.transitions.terminated[int(state.buffer.added)])
    np.testing.assert_array_equal(acted.proven, np.where(succeeded, state.boldness, state.proven))
    assert np.isfinite(trained.learnt.proven).any()


def test_the_actor_is_not_trained_in_warm_up(machine, programs, trained):
    learn = jit(lambda state: machine.learn(state)[0].learner)
    state = trained.warm
    warming = learn(state.replace(successes=jnp.int32(0), episodes=jnp.int32(0)))
    assert not changed(warming.actor, state.learner.actor) and not changed(warming.averaged, state.learner.averaged)
    assert changed(warming.critics, state.learner.critics)
    assert changed(learn(state.replace(successes=jnp.int32(CONFIG.warmup_successes))).actor, state.learner.actor)


@pytest.mark.parametrize("count", ["successes", "episodes"])
def test_warm_up_ends_with_so_many_successes_or_episodes(machine, trained, count):
    state = trained.first
    decide = jit(machine.decide)
    enough = jnp.int32(getattr(CONFIG, f"warmup_{count}"))
    random, _ = decide(state.replace(**{count: enough - 1}), jax.random.key(1))
    acted, _ = decide(state.replace(**{count: enough}, boldness=jnp.zeros(16)), jax.random.key(1))
    seen = td3.normalize(state.normalizer, steering.full_obs(state.seen, state.worlds))
    own = machine.learner.act(state.learner.actor, seen[:, :3])
    np.testing.assert_allclose(acted, own, atol=1e-6)
    assert np.abs(random - own).max() > 0.5
    over = trained.learnt.buffer.transitions.terminated.sum()
    assert int(trained.learnt.successes) == over > 0


def test_time_outs_are_truncated_with_their_own_final_observation(trained):
    past = history(trained.learnt)
    late = past.valid & (np.round(past.next_obs[..., 2] / CONTROL_DT) == HORIZON)
    np.testing.assert_array_equal(past.truncated, late & ~past.terminated)
    assert past.truncated.sum() > 20
    assert not past.reward[past.truncated].any()
    # the second chunk is cut in half, and what follows is a fresh start
    np.testing.assert_allclose(past.obs[past.truncated][:, 2], CHUNK * CONTROL_DT, atol=1e-6)
    np.testing.assert_array_equal(past.obs[1:][past.truncated[:-1]][:, 2], 0.0)
    goal_before, goal_after = (obs[..., 0] + obs[..., 1] for obs in (past.obs, past.next_obs))
    np.testing.assert_allclose(goal_after[past.valid], goal_before[past.valid], atol=1e-5)  # of the same episode


def test_success_terminates_with_reward_one_also_inside_a_chunk(trained):
    past = history(trained.learnt)
    assert past.terminated.sum() > 10
    np.testing.assert_array_equal(past.reward, past.terminated)
    assert not (past.terminated & past.truncated).any()
    # the final observation is the one that succeeded: near the goal, and no other is
    np.testing.assert_array_equal((np.abs(past.next_obs[..., 0]) < NEAR)[past.valid], past.terminated[past.valid])
    steps = np.round((past.next_obs[..., 2] - past.obs[..., 2]) / CONTROL_DT)
    assert len(set(steps[past.terminated])) > 2  # frozen where it succeeded


def test_stored_decisions_follow_each_other(trained):
    past = history(trained.learnt)
    over = (past.terminated | past.truncated | ~past.valid)[:-1]
    follows = past.valid[1:]
    np.testing.assert_array_equal(past.next_obs[:-1][~over & follows], past.obs[1:][~over & follows])
    np.testing.assert_array_equal(past.obs[1:][over & follows][:, 2], 0.0)
    assert (past.next_obs[past.valid][:, 2] > 0).all()


def test_diverged_worlds_are_counted_and_not_stored(trained):
    state, past = trained.learnt, history(trained.learnt)
    assert 10 < int(state.diverged) == (~past.valid).sum() < past.valid.size / 2
    for stored in (past.obs, past.next_obs, past.action, past.reward, past.terminated, past.truncated):
        assert not stored[~past.valid].any()
    assert past.obs[past.valid][:, 1].min() > EDGE
    assert int(state.normalizer.count) == past.valid.sum()
    np.testing.assert_allclose(state.normalizer.mean, past.obs[past.valid].mean(0), atol=1e-4)
    assert all(
        jnp.isfinite(x).all()
        for x in jax.tree.leaves(state.replace(proven=None))
        if jnp.issubdtype(x.dtype, jnp.floating)
    )


def test_exploration_noise_is_redrawn_where_an_episode_ends(programs, trained):
    state = trained.learnt
    after = programs.act(state)
    newest = jax.tree.map(lambda x: x[int(state.buffer.added)], after.buffer.transitions)
    over = newest.terminated | newest.truncated | ~newest.valid
    assert 0 < over.sum() < 16
    np.testing.assert_array_equal(after.boldness != state.boldness, over)
    for boldness in (state.boldness, after.boldness):
        assert 0 <= boldness.min() < boldness.max() <= 1


def test_the_expert_acts_as_steering_without_exploration(machine, programs, trained):
    state = trained.learnt
    state = state.replace(learner=state.learner.replace(actor=state.learner.averaged))  # the expert is the average
    policy, expert = steering.expert_policy(CHUNK, 3, CONFIG), machine.expert(state)
    assert expert.normalizer.mean.shape == (3,)  # what is privileged, the critics keep to themselves

    @jit
    def decide(worlds, keys):
        memories = jax.vmap(policy.init)(keys)
        chunks = jax.vmap(lambda m, w, k: policy.act((PRIOR, expert), m, w, k)[1])(memories, worlds, keys)
        return jax.vmap(lambda w, c: episode.advance(machine.env, w, c)[0].obs)(worlds, chunks)

    acted = programs.act(state.replace(boldness=jnp.zeros(16)))
    newest = jax.tree.map(lambda x: x[int(state.buffer.added)], acted.buffer.transitions)
    obs = decide(state.worlds, jax.random.split(jax.random.key(0), 16))
    np.testing.assert_allclose(obs[newest.valid], newest.next_obs[newest.valid, :3], atol=1e-5)
    explored = programs.act(state)
    assert jnp.abs(explored.buffer.transitions.next_obs - acted.buffer.transitions.next_obs).max() > 1e-3


def test_actor_and_critics_see_what_was_observed_before(machine):
    config = dataclasses.replace(CONFIG, history=3, warmup_episodes=0)
    machine = machine.replace(config=config)
    state = jit(machine.init)(jax.random.key(0))
    act = jit(machine.act)
    policy, expert = steering.expert_policy(CHUNK, 3, config), machine.expert(state)
    assert expert.normalizer.mean.shape == (9,)
    chunk = jit(jax.vmap(lambda m, w, k: policy.act((PRIOR, expert), m, w, k)))
    keys = jax.random.split(jax.random.key(1), 16)
    memory = jax.vmap(policy.init)(keys)
    for _ in range(5):
        memory, _ = chunk(memory, state.worlds, keys)
        np.testing.assert_array_equal(memory, state.seen)
        state = act(state)
    past = history(state)
    begun = past.obs[..., 2] == 0
    assert begun[1:].any() and not begun.all()
    now, last, before = (past.obs[..., i : i + 3] for i in (0, 3, 6))
    follows = past.valid[1:] & past.valid[:-1] & ~begun[1:]
    np.testing.assert_array_equal(last[begun & past.valid], now[begun & past.valid])
    np.testing.assert_array_equal(before[begun & past.valid], now[begun & past.valid])
    np.testing.assert_array_equal(last[1:][follows], now[:-1][follows])
    np.testing.assert_array_equal(before[1:][follows], last[:-1][follows])
    np.testing.assert_array_equal(past.next_obs[past.valid][:, 3:9], past.obs[past.valid][:, :6])


def test_the_prior_is_left_bit_identical(machine, programs):
    obs, noise = jnp.array([0.1, 0.2, 0.0]), jax.random.normal(jax.random.key(3), PRIOR.noise_shape)
    before = jax.tree.map(lambda x: np.array(x, copy=True), (PRIOR, diffusion.sample(PRIOR, obs, noise)))
    result = run(programs, 3)
    assert changed(result.learnt.learner, result.first.learner)
    assert_same((machine.prior, diffusion.sample(machine.prior, obs, noise)), before)


def test_the_same_key_gives_the_same_training_to_the_bit(programs, trained):
    assert_same(run(programs, 1), trained)
    assert changed(run(programs, 0).learnt.learner, trained.learnt.learner)


@pytest.mark.slow
def test_seeds_side_by_side_are_seeds_one_by_one(machine, programs):
    keys = jax.random.split(jax.random.key(6))
    both = jit(jax.vmap(lambda key: machine.block(machine.init(key))))(keys)
    alone = [programs.block(programs.init(key)) for key in keys]
    for i, theirs in enumerate(alone):
        ours = jax.tree.map(lambda x, i=i: x[i], both)
        for name in ("episodes", "env_steps", "iteration", "diverged"):
            np.testing.assert_array_equal(getattr(ours[0], name), getattr(theirs[0], name))
        for part in (lambda s: s.buffer.transitions, lambda s: s.learner, lambda s: s.normalizer, lambda s: s.boldness):
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-3), part(ours[0]), part(theirs[0]))
        np.testing.assert_allclose(ours[1]["critic_loss"], theirs[1]["critic_loss"], rtol=1e-3)
    difference = alone[0][0].buffer.transitions.obs - alone[1][0].buffer.transitions.obs
    assert jnp.abs(difference).max() > 0.1


@pytest.mark.parametrize(("mode", "size"), [("chunk", 8), ("row", 2), ("scalar", 1)])
def test_noise_modes(machine, mode, size):
    config = dataclasses.replace(CONFIG, noise_mode=mode, noise_bound=2.5)
    assert steering.noise_size(PRIOR, mode) == size
    action = jnp.linspace(-1.0, 1.0, size)
    noise = steering.spread(action, PRIOR, config)
    expected = {
        "chunk": 2.5 * np.linspace(-1, 1, 8).reshape(4, 2),  # step by step
        "row": np.tile([[-2.5, 2.5]], (4, 1)),
        "scalar": np.full((4, 2), -2.5),
    }[mode]
    assert noise.shape == PRIOR.noise_shape
    assert jnp.abs(noise).max() == 2.5
    np.testing.assert_allclose(noise, expected, rtol=1e-6)
    # and the whole loop fits
    other = Steering(machine.env, PRIOR, config)
    state, _ = jax.eval_shape(lambda key: other.block(other.init(key)), jax.random.key(0))
    assert state.buffer.transitions.action.shape == (16, 16, size)


def test_the_prior_policy_draws_its_own_noise(machine):
    policy = steering.prior_policy(CHUNK)
    obs = jnp.array([0.1, 0.2, 0.0])
    world = jax.eval_shape(lambda key: episode.reset(machine.env, key), jax.random.key(0)).replace(obs=obs)
    once, again, other = (policy.act(PRIOR, (), world, jax.random.key(seed))[1] for seed in (0, 0, 1))
    np.testing.assert_array_equal(once, again)
    assert jnp.abs(other - once).max() > 0.1
    noise = jax.random.normal(jax.random.key(0), PRIOR.noise_shape)
    np.testing.assert_allclose(once, diffusion.sample(PRIOR, obs, noise), atol=1e-6)
