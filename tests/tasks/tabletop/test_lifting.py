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
    around = np.full(2, 0.02)
    cases = {
        "lifted": (True, up + 0.02, around, [0, 0, up + 0.01], 0.0),
        "still on its way up": (False, up + 0.02, around, [0, 0, up + 0.01], 0.1),
        "not high enough": (False, up, around, [0, 0, up - 0.005], 0.0),
        "on the table": (False, thing.grasp, around, [0, 0, thing.height], 0.0),
        "on the backs of the pads": (False, up - 0.02, CLOSED, [0, 0, up + 0.03], 0.0),
        "in mid-air in an open gripper": (False, up, OPEN, [0, 0, up + 0.01], 0.0),
        "in the air beside the hand": (False, up, OPEN, [0.1, 0, up + 0.05], 0.0),
        "thrown above the hand": (False, up, OPEN, [0, 0, up + 0.15], 0.0),
        "below the table": (False, 0.1, around, [0, 0, -0.2], 0.0),
    }
    poses = {
        what: (want, np.concatenate([hand_at([0, 0, height], fingers), place, UPRIGHT]), speed)
        for what, (want, height, fingers, place, speed) in cases.items()
    }
    told = {what: OPEN if (fingers == OPEN).all() else CLOSED for what, (_, _, fingers, *_) in cases.items()}
    assert_judged_on_table(envs(name, "native"), poses, told)


@pytest.mark.parametrize("name", THINGS)
def test_starts_cover_the_table(envs, name):
    env = envs(name, "native")
    qpos = np.asarray(jax.jit(jax.vmap(env.task.reset))(jax.random.split(jax.random.key(1), 500)).qpos)
    assert np.abs(qpos[:, 8:10]).max() <= 0.15 and (np.abs(qpos[:, 8:10]).max(0) > 0.14).all()
    yaw = np.arctan2(qpos[:, 14], qpos[:, 11]) * 2 % (2 * np.pi)
    assert np.histogram(yaw, 8, (0, 2 * np.pi))[0].min() > 30
    np.testing.assert_allclose(np.linalg.norm(qpos[:, 11:], axis=1), 1.0, atol=1e-6)
