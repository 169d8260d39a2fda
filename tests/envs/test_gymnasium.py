"""Tasks in Gymnasium: its own checker passes, episodes end as ours do."""

from pathlib import Path

import gymnasium
import jax
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from toy import BLOW_UP, EPS, HOLD, HORIZON, TOY

import expertgen_jax.envs.gymnasium as ours
from expertgen_jax.errors import UserError
from expertgen_jax.sim import episode
from expertgen_jax.tasks.registry import TASKS


@pytest.fixture(scope="module")
def toy() -> episode.Env:
    return episode.make_env(TOY, "native")


def test_every_task_is_registered():
    assert {f"expertgen/{name}" for name in TASKS} <= gymnasium.registry.keys()


@pytest.mark.filterwarnings("ignore:.*probably too (low|high)")  # observations have no bounds
def test_gymnasiums_checker_passes():
    env = gymnasium.make("expertgen/peg", physics="native", randomization="default", render_mode="rgb_array")
    check_env(env.unwrapped)
    assert env.unwrapped.render().shape == (480, 640, 3)


def towards(obs: np.ndarray) -> np.ndarray:
    """The action that leads the bead of each row `x, goal` to its goal."""
    x, goal = np.split(obs, 2, axis=1)
    return np.clip((goal - x) / 0.1, -0.5, 0.5)


def test_success_ends_an_episode_with_a_reward(toy):
    env = ours.TaskEnv(toy)
    obs, info = env.reset(seed=3)
    assert env.observation_space.contains(obs) and info == {}
    rewards = []
    for _ in range(HORIZON):
        obs, reward, terminated, truncated, info = env.step(towards(obs[None])[0])
        rewards.append(reward)
        if terminated or truncated:
            break
    assert terminated and not truncated and info["is_success"]
    assert rewards == [0.0] * (len(rewards) - 1) + [1.0] and len(rewards) >= HOLD
    assert abs(np.diff(obs)[0]) < EPS


def test_the_horizon_truncates_and_divergence_terminates(toy):
    envs = ours.TaskVectorEnv(toy, 3)
    envs.reset(seed=0)
    for step in range(HORIZON):
        actions = np.array([[0.0], [BLOW_UP if step == 2 else 0.0], [0.0]])
        _, rewards, terminated, truncated, told = envs.step(actions)
        if step == 2:
            assert terminated.tolist() == [False, True, False] and not truncated.any()
    assert truncated.tolist() == [True, False, True] and not terminated.any()
    assert not rewards.any() and not told["is_success"].any()


def test_the_step_after_an_end_begins_another_episode(toy):
    """As `AutoresetMode.NEXT_STEP` says: the action does nothing, the reward is 0, others go on."""
    envs = ours.TaskVectorEnv(toy, 2)
    assert envs.metadata["autoreset_mode"] == AutoresetMode.NEXT_STEP
    envs.reset(seed=0)
    envs.step(np.array([[BLOW_UP], [0.0]]))
    envs.step(np.array([[0.9], [0.0]]))
    assert np.asarray(envs._worlds.steps).tolist() == [0, 2]
    _, _, terminated, truncated, _ = envs.step(np.zeros((2, 1)))
    assert not terminated.any() and not truncated.any()
    assert np.asarray(envs._worlds.steps).tolist() == [1, 3]


def test_seeds_repeat_episodes_and_worlds_differ(toy):
    envs = ours.TaskVectorEnv(toy, 4)
    first, again = envs.reset(seed=5)[0], envs.reset(seed=5)[0]
    np.testing.assert_array_equal(first, again)
    assert len(np.unique(first[:, 0])) == 4
    assert not np.array_equal(envs.reset()[0], again)
    single = ours.TaskEnv(toy)
    np.testing.assert_array_equal(single.reset(seed=5)[0], single.reset(seed=5)[0])


def test_worlds_are_those_of_the_package(toy):
    """What a vector environment steps is what `advance` does, action by action."""
    envs = ours.TaskVectorEnv(toy, 2)
    envs.reset(seed=1)
    worlds, actions = envs._worlds, np.random.default_rng(0).uniform(-0.4, 0.4, (3, 2, 1)).astype(np.float32)
    seen = [envs.step(action)[0] for action in actions]
    for action, obs in zip(actions, seen, strict=True):
        worlds = jax.vmap(lambda w, a: episode.advance(toy, w, a[None])[0])(worlds, action)
        np.testing.assert_allclose(worlds.obs, obs, atol=1e-6)


def test_make_vec_and_a_task_of_ones_own(tmp_path):
    envs = gymnasium.make_vec("expertgen/peg", num_envs=3, physics="native")
    obs, _ = envs.reset(seed=0)
    assert isinstance(envs.unwrapped, ours.TaskVectorEnv) and envs.observation_space.contains(obs)
    assert envs.step(envs.action_space.sample())[1].shape == (3,)
    mine = ours.make(str(Path(__file__).parents[2] / "examples" / "push_puck.py"), physics="native")
    assert mine.observation_space.contains(mine.reset(seed=0)[0])
    with pytest.raises(UserError, match=r"nothing\.py"):
        ours.make(str(tmp_path / "nothing.py"))
    with pytest.raises(UserError, match="render_mode 'human'"):
        ours.make("peg", render_mode="human")
