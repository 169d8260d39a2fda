"""The gripper holds, slips and drops."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from poses import CLOSED, OPEN, hand_at

from expertgen_jax.sim import physics
from expertgen_jax.tasks.tabletop.lifting import THINGS

GRAVITY = 9.81
SUBSTEP = 0.005


@pytest.fixture(scope="module")
def squeeze(envs):
    """`(back end, name) -> qpos, qvel [mass factors, substeps, ...]`: closed for 0.5 s, lifted by 60 mm in 0.5 s, held
    for 3 s, dropped."""

    @functools.cache
    def paths(backend, name):
        env, thing = envs(name, backend), THINGS[name]
        mj, body = env.model.mj, env.model.mj.body("object").id
        heights = np.concatenate([np.full(100, 0.0), np.linspace(0, 0.06, 100), np.full(700, 0.06)])
        ctrl = np.stack([hand_at([0, 0, thing.grasp + h], OPEN if i >= 800 else CLOSED) for i, h in enumerate(heights)])
        yaw = np.pi / 2 if thing.symmetry else 0.0  # the pads close along its y axis
        start = np.concatenate(
            [hand_at([0, 0, thing.grasp], OPEN), [0, 0, thing.height, np.cos(yaw / 2), 0, 0, np.sin(yaw / 2)]]
        )

        def play(factor):
            mass = jnp.asarray(mj.body_mass).at[body].multiply(factor)
            model = physics.with_fields(env.model, {"body_mass": mass})

            def substep(data, command):
                data = physics.step(model, data, command, 1)
                return data, (data.qpos, data.qvel)

            data = physics.init(model, jnp.float32(start), ctrl=jnp.float32(ctrl[0]))
            return jax.lax.scan(substep, data, jnp.float32(ctrl))[1]

        return jax.device_get(jax.jit(jax.vmap(play))(jnp.array([1.0, 1.5, 30.0])))

    return paths


# MJX takes a minute to compile each; the box, of the most contacts, stands for the others there.
CASES = [(name, "native") for name in THINGS] + [("lift_brick", "mjx")]


@pytest.mark.parametrize(("name", "backend"), CASES)
def test_gripper_holds_half_as_much_again_and_slips_above_the_friction_limit(squeeze, name, backend):
    qpos, _ = squeeze(backend, name)
    height = qpos[:, :, 10] - qpos[:, :1, 10]
    assert height[1, 200] > 0.04, "lifted"
    assert height[1, 200] - height[1, 799] < 0.005, "and held for 3 s"
    assert (np.abs(qpos[1, 300:800, 6] - qpos[1, 300:800, 7]) < 0.002).all(), "between fingers that move together"
    assert height[2, 799] < 0.012, "30 N of friction do not carry 36 N and more"


@pytest.mark.parametrize(("name", "backend"), CASES)
def test_no_energy_comes_from_nothing(squeeze, name, backend):
    qpos, qvel = squeeze(backend, name)
    held = np.linalg.norm(qvel[0, 400:800, 8:11], axis=-1)
    assert np.quantile(held, 0.95) < 0.005, "what is held is still"
    fall, drop = qpos[0, 800, 10] - qpos[0, 800:, 10], np.abs(qvel[0, 800:, 10])
    assert drop.max() ** 2 / 2 <= GRAVITY * max(fall.max(), 0) + 0.02, "it falls no faster than gravity makes it"
    assert fall.max() > 0.03, "and it does fall"


@pytest.mark.slow
def test_the_back_ends_agree(squeeze):
    native, mjx = squeeze("native", "lift_brick"), squeeze("mjx", "lift_brick")
    np.testing.assert_allclose(native[0][:2, :800, 10], mjx[0][:2, :800, 10], atol=0.003)
