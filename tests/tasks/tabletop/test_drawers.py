"""A drawer is opened by pulling its handle; a block is in it where it lies in the shut drawer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from poses import CLOSED, OPEN, assert_judged_on_table, hand_at

from expertgen_jax import scenes
from expertgen_jax.scenes import HANDLE
from expertgen_jax.sim import physics
from expertgen_jax.tasks.tabletop.drawers import PULLED, SHUT, Cabinet, look_at

UPRIGHT = [1.0, 0, 0, 0]
FLOOR = scenes.DRAWER_FLOOR + scenes.BLOCK
TURN = 0.2
"""The cabinet's yaw (rad); beneath, where it stands and its axes in the world."""
PLACE, TURNED = np.array([0.02, 0.15, 0.0]), np.array([np.cos(TURN / 2), 0, 0, np.sin(TURN / 2)])
AXES = np.array([[np.cos(TURN), -np.sin(TURN), 0], [np.sin(TURN), np.cos(TURN), 0], [0, 0, 1]])


def test_a_drawer_is_open_when_it_is(envs):
    cases = {
        "shut": (False, 0.0, 0.0, 0.0),
        "nearly": (False, PULLED - 0.001, 0.0, 0.0),
        "open": (True, PULLED + 0.001, 0.0, 0.0),
        "still moving": (False, PULLED + 0.001, 0.0, 0.1),
        "pushed open, and the hand elsewhere": (False, PULLED + 0.001, 0.06, 0.0),
        "pushed through the cabinet": (False, -0.2, 0.0, 0.0),
    }
    poses = {
        what: (want, np.append(hand_at(np.array(HANDLE) - [beside, opening, 0], OPEN), opening), speed)
        for what, (want, opening, beside, speed) in cases.items()
    }
    nowhere = np.zeros(3)
    assert_judged_on_table(envs("open_drawer", "native"), poses, mocap_pos=nowhere, mocap_quat=UPRIGHT)


def test_a_block_is_in_the_drawer_where_it_lies_in_it_and_it_is_shut(envs):
    cases = {
        "in it": (True, [0.02, 0.03, FLOOR], SHUT - 0.001, 0.0),
        "in it, and it is open": (False, [0.02, 0.03 - SHUT, FLOOR], SHUT + 0.002, 0.0),
        "slides in it": (False, [0.02, 0.03, FLOOR], 0.01, 0.05),
        "above it": (False, [0.02, 0.03, 0.12], 0.0, 0.0),
        "under it": (False, [0.02, 0.03, 0.0], 0.0, 0.0),
        "beside it": (False, [0.15, 0.03, 0.02], 0.0, 0.0),
        "before it": (False, [0.02, -0.15, 0.02], 0.0, 0.0),
        "behind it": (False, [0.02, 0.15, 0.02], 0.0, 0.0),
    }
    poses = {
        what: (
            want,
            np.concatenate([hand_at([0, 0, 0.2], OPEN), PLACE + AXES @ place, UPRIGHT, [opening]]),
            speed,
        )
        for what, (want, place, opening, speed) in cases.items()
    }
    place = PLACE + AXES @ [0.02, 0.03, FLOOR]
    clenched = np.concatenate([hand_at(place + np.array([0, 0, 0.02]), np.full(2, 0.022)), place, UPRIGHT, [0.0]])
    poses["in it, and the gripper still clenched on it"] = (False, clenched, 0.0)
    assert_judged_on_table(envs("put_in_drawer", "native"), poses, mocap_pos=PLACE, mocap_quat=TURNED)


def test_a_demonstrator_that_tries_again_knows_where_the_handle_is_when_the_drawer_is_shut(envs):
    env = envs("open_drawer", "native")
    look = look_at(Cabinet(env.task.scene().compile()), lambda data: jnp.zeros(0))

    def seen(opening):
        start = jnp.float32(np.append(hand_at([0, 0, 0.3], OPEN), opening))
        return look(physics.init(env.model, start, ctrl=start[:8], mocap_pos=PLACE[None], mocap_quat=TURNED[None]))

    for shut, opened in zip(jax.tree.leaves(seen(0.0)), jax.tree.leaves(seen(0.12)), strict=True):
        np.testing.assert_allclose(shut, opened, atol=1e-5)


@pytest.mark.parametrize("backend", ["native", "mjx"])
def test_a_gripped_handle_pulls_the_drawer_and_a_push_shuts_it(envs, backend):
    env = envs("open_drawer", backend)

    def at(out, fingers):
        return hand_at(PLACE + AXES @ (np.array(HANDLE) - [0, out, 0]), fingers, TURN)

    pull = np.concatenate([np.zeros(20), np.linspace(0, 0.18, 40), np.full(10, 0.18), np.linspace(0.18, -0.01, 40)])
    path = np.float32([at(out, CLOSED) for out in pull])
    start = jnp.float32(np.append(at(0.0, OPEN), 0.0))

    def step(data, command):
        data = physics.step(env.model, data, command, 10)
        return data, (data.qpos[8], data.qpos[:3])

    @jax.jit
    def play(start, commands):
        data = physics.init(env.model, start, ctrl=start[:8], mocap_pos=PLACE[None], mocap_quat=TURNED[None])
        return jax.lax.scan(step, data, commands)[1]

    opening, hand = play(start, path)
    assert opening[19] < 0.003, "gripping does not open it"
    assert opening[69] > PULLED, "pulling does"
    out = HANDLE[1] - (AXES.T @ (hand[69] - PLACE))[1]
    np.testing.assert_allclose(out, opening[69], atol=0.015, err_msg="by the handle")
    assert opening[-1] < 0.005, "and back"


def test_an_open_drawer_carries_a_block_in(envs):
    env = envs("put_in_drawer", "native")
    out = 0.15
    start = np.concatenate([hand_at([0, 0.1, 0.3], OPEN), [0, -out, FLOOR + 0.02], UPRIGHT, [out]])

    def step(data, push):
        qvel = data.qvel.at[14].set(jnp.where(push, -0.1, data.qvel[14]))
        return physics.step(env.model, data.replace(qvel=qvel), data.ctrl, 1), None

    @jax.jit
    def play(start):
        data = physics.init(env.model, start, ctrl=start[:8], mocap_pos=jnp.zeros((1, 3)))
        push = (jnp.arange(600) >= 100) & (jnp.arange(600) < 420)
        return jax.lax.scan(step, data, push)[0]

    data = play(jnp.float32(start))
    assert env.task.success(data, ())
