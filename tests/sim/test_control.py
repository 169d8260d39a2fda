"""The impedance target."""

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from expertgen_jax.sim import control

STEPS = np.float32([0.004, 0.004, 0.06])
LEADS = np.float32([0.010, 0.010, 0.12])
HAND = slice(1, 4)


def world(pose, target):
    """Three hand joints between a joint before and one behind them."""
    pad = lambda x: jnp.array([7.0, *x, 8.0])  # noqa: E731
    return SimpleNamespace(qpos=pad(pose), ctrl=pad(target))


def move(data, action):
    return control.move_target(data, jnp.asarray(action), STEPS, LEADS, HAND)


def test_target_integrates_actions():
    data = world([0.0, 0.0, 0.0], [0.001, 0.0, 0.0])
    ctrl = move(data, [1.0, -0.5, 0.25])
    np.testing.assert_allclose(ctrl, [7.0, 0.005, -0.002, 0.015, 8.0], rtol=1e-6)
    ctrl = move(SimpleNamespace(qpos=data.qpos, ctrl=ctrl), [1.0, 0.0, 0.0])
    np.testing.assert_allclose(ctrl[HAND], [0.009, -0.002, 0.015], rtol=1e-6)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_actions_are_clipped(sign):
    data = world([0.0] * 3, [0.0] * 3)
    np.testing.assert_array_equal(move(data, [50.0 * sign] * 3), move(data, [sign] * 3))


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_target_stays_close_to_the_hand(sign):
    pose = np.float32([0.3, -0.2, 1.0])
    data = world(pose, pose)
    for _ in range(10):
        data.ctrl = move(data, [sign] * 3)
    np.testing.assert_allclose(data.ctrl, [7.0, *(pose + sign * LEADS), 8.0], rtol=1e-6)
    data.qpos = data.qpos.at[HAND].add(-sign)  # the hand was pushed away: the target follows at once
    np.testing.assert_allclose(move(data, [0.0] * 3)[HAND], pose - sign + sign * LEADS, rtol=1e-6)


def test_action_towards_inverts_move_target():
    data = world([0.1, 0.1, 0.1], [0.102, 0.1, 0.08])
    goal = jnp.array([0.104, 0.097, 0.11])
    action = control.action_towards(data, goal, STEPS, HAND)
    assert jnp.abs(action).max() < 1.0
    np.testing.assert_allclose(move(data, action)[HAND], goal, rtol=1e-6)


def test_action_towards_saturates():
    data = world([0.0] * 3, [0.0] * 3)
    np.testing.assert_array_equal(control.action_towards(data, jnp.array([1.0, -1.0, 0.0]), STEPS, HAND), [1, -1, 0])
