"""A plug held by friction: it stays where less pulls than friction bears, and slips where more does."""

import functools

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from pressing import BACKENDS, CONTROL_STEPS, press_program

from expertgen_jax import scenes
from expertgen_jax.sim import episode, physics
from expertgen_jax.tasks.assembly.shapes import PLUG_LENGTH, SHAPES
from expertgen_jax.tasks.registry import load_task

TURNING = 0.006 * scenes.GRIP  # N m


@functools.cache
def in_the_air():
    """The held pin's scene without contacts, and places of the joints by which it slips."""
    mj = load_task("pin_in_block", grasp="held").scene().compile()
    mj.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_CONTACT
    mj.dof_armature[:6] = 1e6  # the hand stands fast
    return mj, [mj.joint(name).qposadr[0] for name in scenes.HELD_JOINTS]


def slipped(force, torque, seconds=0.5):
    """How far it slips under a force on it at the pads (N) and a torque (N m)."""
    mj, places = in_the_air()
    data, plug, hand = mujoco.MjData(mj), mj.body("plug").id, mj.body("hand").id
    mujoco.mj_forward(mj, data)
    for _ in range(round(seconds / mj.opt.timestep)):
        data.xfrc_applied[plug, :3] = force
        data.xfrc_applied[plug, 3:] = torque + np.cross(data.xpos[hand] - data.xipos[plug], force)
        mujoco.mj_step(mj, data)
    return data.qpos[places]


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.9])
def test_it_stays_where_friction_bears_what_pulls(share):
    force = share * scenes.GRIP
    for way in ([0, force, 0], [0, 0, force], [0, 0, -force]):
        assert np.abs(slipped(np.array(way), np.zeros(3))[:2]).max() < 0.0003
    assert np.abs(slipped(np.zeros(3), np.array([share * TURNING, 0, 0]))[2]) < 0.002


def test_it_slips_along_the_pads_where_more_pulls():
    force = 1.2 * scenes.GRIP
    assert slipped(np.array([0, force, 0]), np.zeros(3))[0] > 0.009
    assert slipped(np.array([0, 0, -force]), np.zeros(3))[1] < -0.009
    assert slipped(np.zeros(3), np.array([1.2 * TURNING, 0, 0]))[2] > 0.3
    assert np.abs(slipped(np.array([force, 0, 0]), np.zeros(3))).max() < 1e-3, "never through the pads"


@pytest.mark.slow
def test_pressed_against_the_bore_it_turns_in_the_fingers_alike_on_both_engines():
    turned = []
    for backend in BACKENDS:
        env = episode.make_env(load_task("pin_in_block", grasp="held"), backend)
        entered = np.float32([0.0, 0.0, PLUG_LENGTH + 0.8 * SHAPES["pin_in_block"].depth, 0.0, 0.0, 0.0])
        targets = np.tile(entered + np.float32([0, 0.010, 0, 0, 0, 0]), (CONTROL_STEPS, 1))
        turned.append(press_program(env)(entered[None], targets[None]).qpos[0, -1, -1])
    assert 0.02 < abs(turned[0]) < 0.36
    np.testing.assert_allclose(turned[1], turned[0], rtol=0.1)


def test_critics_see_how_it_slipped_and_the_policy_does_not():
    task = load_task("pin_in_block", grasp="held")
    env = episode.make_env(task, "native")

    def look(key, slip):
        world = episode.reset(env, key)
        data = physics.init(env.model, world.data.qpos.at[-3:].set(slip), ctrl=world.data.ctrl)
        return task.known(data, world.context), task.observe(data, world.context)

    looks = jax.jit(jax.vmap(look, (None, 0)))(jax.random.key(1), jnp.float32([[0, 0, 0], [0.002, -0.001, 0.1]]))
    known, seen = looks
    assert np.abs(known[0] - known[1]).max() > 0.05
    for name, values in seen.items():
        if not name.startswith("contact"):
            np.testing.assert_allclose(values[0], values[1], atol=1e-6, err_msg=name)
