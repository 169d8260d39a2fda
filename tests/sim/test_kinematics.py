"""Kinematics of a chain, against SciPy's rotations and MuJoCo."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from expertgen_jax import scenes
from expertgen_jax.scenes import panda
from expertgen_jax.sim import kinematics, robots
from expertgen_jax.sim.kinematics import Frames

RNG = np.random.default_rng(0)
VECTORS = np.float32([*RNG.normal(size=(50, 3)), [0, 0, 0], [1e-9, 0, 0], [0, 1e-4, 0], [0, 0, 3.0]])


def test_exponential_is_the_rotation_about_a_vector():
    got = jax.vmap(kinematics.exponential)(VECTORS)
    np.testing.assert_allclose(got, Rotation.from_rotvec(VECTORS).as_matrix(), atol=1e-6)


def test_logarithm_inverts_it():
    vectors = VECTORS[np.linalg.norm(VECTORS, axis=1) < 3.1]
    got = jax.vmap(lambda x: kinematics.logarithm(kinematics.exponential(x)))(vectors)
    np.testing.assert_allclose(got, vectors, atol=2e-5)
    assert np.isfinite(jax.vmap(jax.jacobian(kinematics.logarithm))(np.eye(3, dtype=np.float32)[None])).all()


def test_yaw_pitch_roll():
    angles = RNG.uniform([-3, -1.5, -3], [3, 1.5, 3], (50, 3)).astype(np.float32)
    mats = jax.vmap(kinematics.turned)(angles)
    np.testing.assert_allclose(mats, Rotation.from_euler("ZYX", angles).as_matrix(), atol=1e-6)
    np.testing.assert_allclose(jax.vmap(kinematics.yaw_pitch_roll)(mats), angles, atol=1e-4)


def test_rates_are_how_fast_they_change():
    angles, spin, dt = np.float64([0.7, 0.3, -0.2]), np.float64([0.4, -0.3, 0.9]), 1e-4
    after = (Rotation.from_rotvec(spin * dt) * Rotation.from_euler("ZYX", angles)).as_euler("ZYX")
    np.testing.assert_allclose(kinematics.rates(*map(jnp.float32, (angles, spin))), (after - angles) / dt, atol=1e-3)


def test_forward_and_jacobian_are_mujocos():
    spec = scenes.empty_scene()
    scenes.add_panda(spec)
    mj = spec.compile()
    data, hand = mujoco.MjData(mj), mj.body("hand").id
    for qpos in RNG.uniform(*panda.POSITION_LIMITS.T, (20, 7)):
        data.qpos[:] = qpos
        mujoco.mj_forward(mj, data)
        links, tool = kinematics.forward(robots.chain(), np.float32(qpos))
        np.testing.assert_allclose(tool.pos, data.xpos[hand], atol=1e-6)
        np.testing.assert_allclose(tool.mat.ravel(), data.xmat[hand], atol=1e-6)
        expected = np.zeros((6, mj.nv))
        mujoco.mj_jac(mj, data, expected[:3], expected[3:], data.xpos[hand], hand)
        np.testing.assert_allclose(kinematics.jacobian(links, tool.pos), expected, atol=1e-6)


@pytest.mark.parametrize("turn", [0.1, 1.0])
def test_inverse_reaches_where_tasks_take_place(turn):
    low, high = [-0.18, -0.18, 0.0, -turn * np.pi / 2, -0.1, -0.1], [0.18, 0.18, 0.3, turn * np.pi / 2, 0.1, 0.1]
    poses = RNG.uniform(low, high, (500, 6)).astype(np.float32)
    spec = scenes.empty_scene()
    scenes.add_panda(spec)
    robot = robots.of(spec.compile())
    qpos, ctrl = jax.jit(jax.vmap(robot.start))(poses)
    np.testing.assert_allclose(jax.vmap(robot.pose_at)(qpos), poses, atol=2e-6)
    low, high = panda.POSITION_LIMITS.T
    assert ((qpos > low + 0.05) & (qpos < high - 0.05)).all()
    np.testing.assert_array_equal(ctrl[:, :3], poses[:, :3])


def test_inverse_stays_where_it_is():
    start = jnp.asarray(robots.HOME)
    tool = kinematics.forward(robots.chain(), start)[1]
    np.testing.assert_allclose(kinematics.inverse(robots.chain(), Frames(*tool), start), start, atol=1e-5)
