"""Environments of Playground as tasks. Runs where Playground is installed, as in CI."""

import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy import TOY

from expertgen_jax.errors import UserError
from expertgen_jax.sim import episode, rollout
from expertgen_jax.task import Task
from expertgen_jax.tasks.registry import load_task

with warnings.catch_warnings():  # of what Playground stands on
    warnings.simplefilter("ignore")
    from mujoco_playground import registry

    from expertgen_jax.envs import playground

pytestmark = pytest.mark.filterwarnings("ignore")


def load(name: str):
    return registry.load(name, config_overrides={"impl": "jax"})


@pytest.fixture(scope="module")
def finger() -> Task:
    return load_task("examples/finger_turn.py")


@pytest.fixture(scope="module")
def theirs():
    """The environment, and its compiled functions."""
    env = load("FingerTurnHard")
    return env, jax.jit(env.reset), jax.jit(env.step)


@pytest.mark.parametrize("backend", ["native", "mjx"])
def test_a_step_is_playgrounds(finger, theirs, backend):
    (playgrounds, reset, their_step), env = theirs, episode.make_env(finger, backend)
    action = jnp.array([0.7, -0.4])

    def step(world):
        return episode.advance(env, world, action[None])[0]

    world = jax.jit(lambda key: episode.reset(env, key))(jax.random.key(4))
    state = reset(jax.random.PRNGKey(0))
    state = state.replace(data=state.data.replace(qpos=world.data.qpos, mocap_pos=world.data.mocap_pos))
    np.testing.assert_allclose(world.obs, playgrounds._get_obs(world.data, state.info), atol=1e-5)
    for _ in range(5):
        world, state = jax.jit(step)(world), their_step(state, action)
    np.testing.assert_allclose(world.data.qpos, state.data.qpos, atol=2e-4)
    np.testing.assert_allclose(world.data.qvel, state.data.qvel, atol=2e-2)
    assert np.abs(state.data.qvel).max() > 1.0 and finger.control_dt == playgrounds.dt


def test_a_start_is_what_playground_draws_of_the_same_key(finger, theirs):
    drawn, start = theirs[1](jax.random.PRNGKey(4)).data, finger.start(jax.random.key(4))
    np.testing.assert_allclose(start.qpos, drawn.qpos, atol=1e-6)
    np.testing.assert_allclose(start.mocap_pos, drawn.mocap_pos, atol=1e-6)


def test_demonstrators_succeed_where_playground_rewards(finger, theirs):
    env = episode.make_env(finger, "native")
    worlds = jax.jit(lambda key: rollout.play(env, rollout.scripted_agent(finger), key, 64))(jax.random.key(0))
    assert 0.1 < worlds.success.mean() < 0.6, "an imperfect one"
    rewards = jax.vmap(lambda data: theirs[0]._get_reward(data, None, None, None))(worlds.data)
    assert (rewards[worlds.success] == 1).all()


def wrong(env, **given):
    given = {"horizon": 9, "observe": env._get_obs, "success": lambda data, info: data.qpos[0] > 0} | given
    return playground.as_task(env, "wrong", script=TOY.script, **given)


def test_what_cannot_be_a_task_is_refused():
    with pytest.raises(UserError, match=r"wrong: .* model is not that of its file \(.*dof_damping.*\): give `scene`"):
        wrong(load("FingerSpin"))
    cup = load("BallInCup")
    still = cup.reset
    cup.reset = lambda key: (lambda state: state.replace(data=state.data.replace(qvel=state.data.qvel + 1)))(still(key))
    with pytest.raises(UserError, match="wrong: its episodes start in motion"):
        wrong(cup)
    cup.mj_model.actuator_ctrllimited[:] = 0
    with pytest.raises(UserError, match="model is not that of its file"):
        wrong(cup)
    with pytest.raises(UserError, match="wrong: an actuator has no range: give `control`"):
        wrong(cup, scene=functools.partial(unlimited, cup))


def unlimited(env):
    spec = playground.file_scene(env)
    for actuator in spec.actuators:
        actuator.ctrllimited = 0
    return spec
