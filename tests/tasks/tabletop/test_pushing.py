"""A pear is on the mark where it rests there; marks lie within reach."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from poses import OPEN, assert_judged_on_table, hand_at

from expertgen_jax import scenes
from expertgen_jax.sim import physics

UPRIGHT = [1.0, 0, 0, 0]
R = scenes.PEAR_RADIUS


def test_a_pear_is_on_the_mark_where_it_rests_there(envs):
    mark = np.array([0.1, -0.05, 0.0])
    cases = {
        "rests there": (True, [0.010, 0.015, R], 0.0),
        "rolls over it": (False, [0.010, 0.015, R], 0.05),
        "beside it": (False, [0.016, 0.016, R], 0.0),
        "carried over it": (False, [0.0, 0.0, R + 0.02], 0.0),
        "under the table": (False, [0.0, 0.0, -R], 0.0),
    }
    poses = {
        what: (want, np.concatenate([hand_at([0, 0, 0.2], OPEN), mark + place, UPRIGHT]), speed)
        for what, (want, place, speed) in cases.items()
    }
    pear = mark + np.array([0.0, 0.0, R])
    poses["gripped on it"] = (False, np.concatenate([hand_at(pear, np.full(2, 0.012)), pear, UPRIGHT]), 0.0)
    poses["pushed onto it"] = (
        True,
        np.concatenate([hand_at(pear - [0, 0.045, 0], np.full(2, 0.021)), pear, UPRIGHT]),
        0.0,
    )
    assert_judged_on_table(envs("push_pear", "native"), poses, mocap_pos=mark)


def test_marks_lie_100_to_250_mm_away(envs):
    starts = jax.jit(jax.vmap(envs("push_pear", "native").task.reset))(jax.random.split(jax.random.key(1), 500))
    pear, mark = np.asarray(starts.qpos)[:, 8:10], np.asarray(starts.mocap_pos)[:, 0, :2]
    assert np.abs(pear).max() <= 0.15 and (np.abs(pear).max(0) > 0.14).all()
    far = np.linalg.norm(pear - mark, axis=1)
    assert 0.1 <= far.min() < 0.105 and 0.245 < far.max() <= 0.25
    assert np.abs(mark).max() < 0.22


@pytest.mark.parametrize("backend", ["native", "mjx"])
def test_a_rolling_pear_soon_rests_on_the_table(envs, backend):
    env = envs("push_pear", backend)

    def roll(speed):
        qpos = jnp.float32(np.concatenate([hand_at([0, 0, 0.2], OPEN), [0, 0, R], UPRIGHT]))
        data = physics.init(env.model, qpos, ctrl=qpos[:8])
        data = data.replace(qvel=data.qvel.at[9].set(speed))
        data = jax.lax.fori_loop(0, 300, lambda i, data: physics.step(env.model, data, qpos[:8], 1), data)
        return data.qpos[8:11], jnp.linalg.norm(data.qvel[8:11])

    places, speeds = jax.jit(jax.vmap(roll))(jnp.float32([0.0, 0.2]))
    np.testing.assert_allclose(places[:, 2], R, atol=1e-3)
    assert speeds.max() < 0.01
    assert np.linalg.norm(places[0, :2]) < 0.002, "it lies where it lay"
    assert 0.01 < np.linalg.norm(places[1, :2]) < 0.15
