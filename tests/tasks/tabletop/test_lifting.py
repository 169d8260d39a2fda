"""Lifting succeeds by lifting only."""

import jax
import numpy as np
import pytest
from poses import CLOSED, OPEN, assert_judged_on_table, hand_at

from expertgen_jax.tasks.tabletop.lifting import LIFTED, THINGS

UPRIGHT = [1.0, 0, 0, 0]


@pytest.mark.parametrize("name", THINGS)
def test_success_is_lifted_in_the_gripper_and_nothing_else(envs, name):
    thing = THINGS[name]
    up = thing.height + LIFTED
    cases = {
        "lifted": (True, up + 0.02, CLOSED, [0, 0, up + 0.01]),
        "not high enough": (False, up, CLOSED, [0, 0, up - 0.005]),
        "on the table": (False, thing.grasp, CLOSED, [0, 0, thing.height]),
        "in the air beside the hand": (False, up, OPEN, [0.1, 0, up + 0.05]),
        "thrown above the hand": (False, up, OPEN, [0, 0, up + 0.15]),
        "below the table": (False, 0.1, CLOSED, [0, 0, -0.2]),
    }
    poses = {
        what: (want, np.concatenate([hand_at([0, 0, height], fingers), place, UPRIGHT]), 0.0)
        for what, (want, height, fingers, place) in cases.items()
    }
    assert_judged_on_table(envs(name, "native"), poses)


@pytest.mark.parametrize("name", THINGS)
def test_starts_cover_the_table(envs, name):
    env = envs(name, "native")
    qpos = np.asarray(jax.jit(jax.vmap(env.task.reset))(jax.random.split(jax.random.key(1), 500)).qpos)
    assert np.abs(qpos[:, 8:10]).max() <= 0.15 and (np.abs(qpos[:, 8:10]).max(0) > 0.14).all()
    yaw = np.arctan2(qpos[:, 14], qpos[:, 11]) * 2 % (2 * np.pi)
    assert np.histogram(yaw, 8, (0, 2 * np.pi))[0].min() > 30
    np.testing.assert_allclose(np.linalg.norm(qpos[:, 11:], axis=1), 1.0, atol=1e-6)
