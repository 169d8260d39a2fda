"""A strawberry is in the bowl where it lies there, let go; a banana on the can where it rests there, let go."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from poses import CLOSED, OPEN, assert_judged_on_table, hand_at

from expertgen_jax import scenes
from expertgen_jax.sim import physics

UPRIGHT = [1.0, 0, 0, 0]
HIGH = [0, 0, 0.2]


def test_a_strawberry_is_in_the_bowl_where_it_lies_there_let_go(envs):
    bowl = np.array([0.05, -0.08, 0.0])
    cases = {
        "lies there": (True, OPEN, [0.01, -0.01, 0.02], 0.0),
        "still held": (False, CLOSED, [0.01, -0.01, 0.02], 0.0),
        "half let go": (False, np.full(2, 0.01), [0.01, -0.01, 0.02], 0.0),
        "rolls": (False, OPEN, [0.01, -0.01, 0.02], 0.05),
        "beside the bowl": (False, OPEN, [0.09, 0.0, 0.015], 0.0),
        "on the rim": (False, OPEN, [0.06, 0.0, scenes.BOWL_RIM + 0.01], 0.0),
        "above it": (False, OPEN, [0.0, 0.0, 0.1], 0.0),
        "under the table": (False, OPEN, [0.0, 0.0, -0.02], 0.0),
    }
    poses = {
        what: (want, np.concatenate([hand_at(HIGH, fingers), bowl + place, UPRIGHT]), speed)
        for what, (want, fingers, place, speed) in cases.items()
    }
    assert_judged_on_table(envs("strawberry_in_bowl", "native"), poses, mocap_pos=bowl)


@pytest.mark.parametrize("backend", ["native", "mjx"])
def test_a_strawberry_dropped_over_the_bowl_stays_in_it(envs, backend):
    env = envs("strawberry_in_bowl", backend)

    def drop(place):
        qpos = jnp.concatenate([jnp.float32(hand_at(HIGH, OPEN)), place, jnp.float32(UPRIGHT)])
        data = physics.init(env.model, qpos, ctrl=qpos[:8], mocap_pos=jnp.zeros((1, 3)))
        data = jax.lax.fori_loop(0, 400, lambda i, data: physics.step(env.model, data, qpos[:8], 1), data)
        return data.qpos[8:11], env.task.success(data, ())

    over, beside = [0.02, -0.03, 0.08], [0.0, 0.11, 0.05]
    places, success = jax.jit(jax.vmap(drop))(jnp.float32([over, beside]))
    assert success.tolist() == [True, False]
    np.testing.assert_allclose(places[:, 2], [0.019, 0.015], atol=5e-4, err_msg="on the base, on the table")


def test_the_strawberry_starts_clear_of_the_bowl(envs):
    starts = jax.jit(jax.vmap(envs("strawberry_in_bowl", "native").task.reset))(
        jax.random.split(jax.random.key(1), 500)
    )
    berry, bowl = np.asarray(starts.qpos)[:, 8:10], np.asarray(starts.mocap_pos)[:, 0, :2]
    for places in (berry, bowl):
        assert np.abs(places).max() <= 0.12 and (np.abs(places).max(0) > 0.11).all()
    assert np.linalg.norm(berry - bowl, axis=1).min() > 0.11


def test_the_banana_starts_clear_of_the_can(envs):
    starts = jax.jit(jax.vmap(envs("stack_banana", "native").task.reset))(jax.random.split(jax.random.key(1), 500))
    qpos = np.asarray(starts.qpos)
    banana, can = qpos[:, 8:10], qpos[:, 15:17]
    for places in (banana, can):
        assert np.abs(places).max() <= 0.12 + 1e-6 and (np.abs(places).max(0) > 0.11).all()
    assert np.linalg.norm(banana - can, axis=1).min() > 0.16


def test_a_banana_is_on_the_can_where_it_rests_there_let_go(envs):
    env = envs("stack_banana", "native")
    top = scenes.CAN_HEIGHT + scenes.BANANA_RADIUS
    middle = env.model.mj.body("object").ipos
    standing, fallen = [0.1, 0, 0.05, *UPRIGHT], [0.1, 0, 0.035, 0.7071, 0.7071, 0, 0]
    away, near = [0.1, 0, top + 0.08], [0.1, 0, top + 0.05]
    cases = {
        "rests there": (True, away, [0.1, 0.01, top], standing, 0.0),
        "the gripper is near": (False, near, [0.1, 0.01, top], standing, 0.0),
        "moves": (False, away, [0.1, 0.01, top], standing, 0.02),
        "its middle is beside the top": (False, away, [0.1, 0.04, top], standing, 0.0),
        "above": (False, [0, 0, 0.3], [0.1, 0.01, top + 0.02], standing, 0.0),
        "leans on the can": (False, away, [0.1, 0.02, top - 0.03], standing, 0.0),
        "on a can that has fallen": (False, away, [0.1, 0.01, 0.087], fallen, 0.0),
        "on a can in the air": (False, [0, 0, 0.4], [0.1, 0.01, top + 0.1], [0.1, 0, 0.15, *UPRIGHT], 0.0),
        "on the table": (False, away, [-0.1, 0, 0.017], standing, 0.0),
    }
    poses = {
        what: (want, np.concatenate([hand_at(hand, OPEN), place - middle, UPRIGHT, can]), speed)
        for what, (want, hand, place, can, speed) in cases.items()
    }
    end = np.array([0.1, 0.01, top]) - middle + scenes.BANANA_LINE[0]
    pose = [0.1, 0.01, top] - middle
    poses["clenched on its end"] = (
        False,
        np.concatenate([hand_at(end, np.full(2, 0.025)), pose, UPRIGHT, standing]),
        0.0,
    )
    poses["open around its end"] = (False, np.concatenate([hand_at(end, OPEN), pose, UPRIGHT, standing]), 0.0)
    assert_judged_on_table(env, poses)
