"""The gear goes on only where its teeth find gaps, rests on what it is pressed against, and nothing else succeeds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from poses import assert_judged
from pressing import BACKENDS, deepest

from expertgen_jax.sim import physics, rollout
from expertgen_jax.tasks.assembly import gears
from expertgen_jax.tasks.assembly.gears import HUB, RADIUS, TEETH, TOOTH
from expertgen_jax.tasks.assembly.shapes import PLUG_LENGTH

PITCH = 2 * np.pi / TEETH
SUBSTEPS, SETTLED = 200, 100


def pose(x=0.0, y=0.0, z=0.0, yaw=0.0, pitch=0.0):
    up = np.array([np.sin(pitch), 0.0, np.cos(pitch)])
    return np.array([*(np.array([x, y, z]) + PLUG_LENGTH * up), yaw, pitch, 0.0])


def sunk(path):
    return deepest(gears.gear_on_shaft().scene().compile(), path)


def test_teeth_fit_into_gaps_and_nowhere_else():
    # Two teeth stand in a gap's way if they come closer than two radii: from the circle's geometry.
    gap = np.array([2 * RADIUS - RADIUS * np.cos(PITCH / 2), RADIUS * np.sin(PITCH / 2)])
    yaws = np.linspace(-PITCH / 2, PITCH / 2, 61)
    tooth = RADIUS * np.stack([np.cos(yaws), np.sin(yaws)], axis=1)
    nearest = np.minimum(np.linalg.norm(tooth - gap, axis=1), np.linalg.norm(tooth - gap * [1, -1], axis=1))
    meets = sunk([pose(yaw=yaw) for yaw in yaws]) > 1e-6  # it stands on the table
    clear = np.abs(nearest - 2 * TOOTH) > 2e-5
    np.testing.assert_array_equal(meets[clear], (nearest < 2 * TOOTH)[clear])
    assert 0.05 < (~meets).mean() < 0.2
    assert (sunk([pose(yaw=yaw + PITCH) for yaw in yaws]) > 1e-6)[clear].tolist() == meets[clear].tolist()
    assert (sunk([pose(yaw=yaw, z=HUB.height + 0.0001) for yaw in yaws]) <= 0).all(), "above they pass"


@pytest.mark.parametrize("backend", BACKENDS)
def test_gear_pressed_on_shaft_and_teeth_rests(envs, backend):
    env = envs("gear_on_shaft", backend)
    seated, on_teeth = pose(z=0.004), pose(z=HUB.height + 0.0005, yaw=PITCH / 2)
    pushes = [
        (seated, [0.01, 0, 0, 0]),
        (seated, [0, -0.01, 0, 0]),
        (seated, [0, 0, 0, 0.06]),  # 80 N on a tooth; twice that, which the hand can do, bends it by 0.05 mm
        (on_teeth, [0, 0, -0.01, 0]),
    ]

    def play(qpos, ctrl):
        data = physics.init(env.model, qpos, ctrl=qpos, mocap_pos=jnp.zeros((1, 3)))

        def substep(data, _):
            data = physics.step(env.model, data, ctrl, 1)
            return data, data.qpos

        return jax.lax.scan(substep, data, None, length=SUBSTEPS)[1]

    starts = np.float32([start for start, _ in pushes])
    ctrl = starts + np.float32([[*push, 0, 0] for _, push in pushes])
    paths = np.asarray(jax.jit(jax.vmap(play))(starts, ctrl))
    for path in paths:
        depths = sunk(path)
        assert depths.max() < 0.0005, "the first impact may sink in for a substep"
        assert depths[-20:].max() > 0, "it must still be pressed on, or this proves nothing"
        assert depths[SETTLED:].max() < 0.1 * HUB.play
    assert paths[3, -1, 2] > PLUG_LENGTH + 0.9 * HUB.height - 2 * TOOTH, "teeth on teeth do not go down"


@pytest.mark.parametrize("backend", BACKENDS)
def test_success_is_the_seated_gear_and_no_other(envs, backend):
    env = envs("gear_on_shaft", backend)
    cases = {
        "seated": (True, True, pose()),
        "a tooth further": (True, True, pose(yaw=PITCH)),
        "at the play": (True, True, pose(x=-HUB.play)),
        "off the shaft": (False, None, pose(x=-0.001)),
        "on the teeth": (False, None, pose(z=HUB.height)),
        "too shallow": (False, None, pose(z=0.0015)),
        "through the table": (False, None, pose(z=-0.002)),
        "tilted": (False, None, pose(pitch=0.09)),
        "on the shaft's top": (False, False, pose(z=HUB.depth + 0.001)),
        "beside, on the table": (False, False, pose(x=-0.04)),
        "upside down": (False, False, pose(pitch=np.pi)),
    }

    assert_judged(env, cases)


@pytest.mark.slow
def test_script_is_imperfect(envs):
    env = envs("gear_on_shaft", "native")
    worlds = rollout.play(env, rollout.scripted_agent(env.task), jax.random.key(5), 256)
    assert 0.05 <= worlds.success.mean() <= 0.6
    assert not worlds.diverged.any()
