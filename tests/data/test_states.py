"""Recordings become demonstrations: bit by bit where they are the task's own, else by following their states."""

import runpy
from pathlib import Path

import jax
import numpy as np
import pytest

from expertgen_jax import load_task, make_env
from expertgen_jax.data import conversion, diffusion_policy, lerobot, robomimic, states
from expertgen_jax.errors import UserError
from expertgen_jax.learning import demos
from expertgen_jax.sim.rollout import scripted_agent

KEY = jax.random.key(7)
BENCHMARK = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "recordings.py"))
at_rate, by_tool = BENCHMARK["at_rate"], BENCHMARK["by_tool"]


@pytest.fixture(scope="module")
def played(envs):
    """64 scripted episodes of the peg."""
    env = envs("peg", "native")
    return conversion.recorded(env, scripted_agent(env.task), KEY, 64)


@pytest.mark.parametrize("kind", [lerobot, robomimic, diffusion_policy])
def test_demonstrations_come_back_bit_by_bit_and_replay_to_the_same_ends(envs, played, kind, tmp_path):
    env, path = envs("peg", "native"), tmp_path / ("set.hdf5" if kind is robomimic else "set")
    if kind is lerobot:
        lerobot.write(path, played, "peg", {})
    elif kind is robomimic:
        robomimic.write(path, conversion.in_parts(env, played), "peg")
    else:
        diffusion_policy.write(path, played)
    found = conversion.imported(env, conversion.read(path), KEY)
    np.testing.assert_array_equal(found.demos.obs, played.arrays["obs"])
    np.testing.assert_array_equal(found.demos.actions, played.arrays["actions"])
    np.testing.assert_array_equal(found.demos.success, played.success)
    assert found.followed is None and found.open_loop is not None
    np.testing.assert_array_equal(found.open_loop.success, played.success)
    assert found.open_loop.apart.max() < 1e-4
    demos.save(tmp_path / "in.npz", found.demos)
    demos.load(tmp_path / "in.npz", played.arrays["obs"].shape[1], 6)


@pytest.mark.parametrize("name", ["peg", "lift_banana"])
def test_states_at_25_hz_are_followed_to_success(envs, played, name):
    env = envs(name, "native")
    if name != "peg":
        played = conversion.recorded(env, scripted_agent(env.task), KEY, 128)
    found = conversion.imported(env, at_rate(played, 25.0), KEY)
    assert found.followed is not None
    assert found.followed.success[played.success].mean() >= 0.95
    assert np.median(found.followed.apart) < 0.006 and found.followed.at_bound < 0.1
    assert np.abs(found.demos.actions).max() <= 1
    longest = played.lengths.max() + states.SETTLING
    assert found.demos.lengths.max() <= longest  # and short ones do not wait for the longest
    np.testing.assert_array_less(found.demos.lengths, played.lengths + states.SETTLING + 2)


@pytest.mark.parametrize(
    ("name", "robot", "least"), [("peg", "hand", 0.95), ("lift_banana", "hand", 0.95), ("lift_banana", "panda", 0.9)]
)
def test_poses_of_a_tool_are_followed_to_success(name, robot, least):
    env = make_env(load_task(name, robot=robot), "native")
    played = conversion.recorded(env, scripted_agent(env.task), KEY, 64)
    found = conversion.imported(env, by_tool(env, played), KEY)
    assert found.followed is not None
    assert found.followed.success[played.success].mean() >= least


def test_poses_of_a_tool_that_are_none_are_refused_in_a_line(envs):
    env = envs("lift_banana", "native")
    tool = by_tool(env, conversion.recorded(env, scripted_agent(env.task), KEY, 2))
    zeros = tool._replace(arrays=tool.arrays | {"tool_quat": 0 * tool.arrays["tool_quat"]})
    wide = tool._replace(arrays=tool.arrays | {"tool_pos": tool.arrays["tool_quat"]})
    with pytest.raises(UserError, match="no robot of which"):
        conversion.imported(make_env(load_task("examples/push_puck.py"), "native"), tool, KEY)
    for change, said in (
        (without(tool, "rest"), "'rest' has 0 numbers a row, expected 7"),
        (without(tool, "gripper"), "'gripper' has 0 numbers"),
        (without(tool, "tool_quat"), "'tool_quat' has 0 numbers"),
        (wide, "'tool_pos' has 4 numbers a row, expected 3"),
        (zeros, "no rotation"),
    ):
        with pytest.raises(UserError, match=said):
            conversion.imported(env, change, KEY)


def without(played, *names):
    return played._replace(arrays={name: x for name, x in played.arrays.items() if name not in names})


def test_actions_of_another_robot_are_left_aside_where_there_are_states(envs, played):
    joints = played._replace(arrays=played.arrays | {"actions": np.zeros((len(played.arrays["obs"]), 8), np.float32)})
    found = conversion.imported(envs("peg", "native"), joints, KEY)
    assert found.open_loop is None and found.followed is not None and found.demos.actions.shape[1] == 6


def test_states_of_one_of_nine_shapes_are_refused(envs, played):
    with pytest.raises(UserError, match="which variant"):
        conversion.imported(envs("assembly", "native"), without(played, "obs"), KEY)


def test_what_is_not_the_tasks_own_is_refused_in_a_line(envs, played):
    env = envs("peg", "native")
    wide = {"qpos": np.zeros((len(played.arrays["qpos"]), 3), np.float32)}
    bold = {"actions": 2 * np.ones_like(played.arrays["actions"])}
    for change, said in (
        (without(played, "qpos", "actions"), "'actions' is missing"),
        (without(played, "qpos", "obs"), "'obs.tip_position' is missing"),
        (without(played, "qpos")._replace(rate=10.0), "10 rows a second, expected 20"),
        (without(played, "qpos")._replace(success=None), "does not tell"),
        (without(played, "obs")._replace(arrays=without(played, "obs").arrays | wide), "expected 6, of the joints"),
        (without(played, "qpos")._replace(arrays=without(played, "qpos").arrays | bold), "within 2, expected"),
        (played._replace(arrays=played.arrays | {"mocap_pos": wide["qpos"][:, :2]}), "'mocap_pos' has 2"),
        (without(played, "qpos")._replace(arrays=without(played, "qpos").arrays | {"actions": wide["qpos"]}), "has .3"),
        (without(played, "qpos")._replace(arrays=without(played, "qpos").arrays | {"obs": wide["qpos"]}), "'obs' has"),
    ):
        with pytest.raises(UserError, match=said) as error:
            conversion.imported(env, change, KEY)
        assert "\n" not in str(error.value)
