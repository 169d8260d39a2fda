"""The script beside an exported policy sees what the student was taught to see."""

import runpy
from pathlib import Path

import jax
import mujoco
import numpy as np
import pytest

from expertgen_jax.sim import episode
from expertgen_jax.task import PORTABLE
from expertgen_jax.vision import appearance

DEPLOY = runpy.run_path(str(Path(__file__).parents[2] / "examples" / "deploy.py"))


def test_it_reads_the_state_that_tasks_may_read():
    assert set(DEPLOY["STATE"]) == set(PORTABLE)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["peg", "block_on_rail"])
def test_depth_pictures_are_those_of_the_cameras(envs, name):
    env, size = envs(name, "native"), 32
    world = jax.jit(lambda key: episode.reset(env, key))(jax.random.key(4))
    off, mj = appearance.VISUAL_RANDOMIZATIONS["off"], env.task.scene().compile()

    @jax.jit
    def see(world):
        look = appearance.draw(off, env.task, env.model.mj, jax.random.key(0))
        return appearance.see(off, env.task, env.model.mj, world, look, size, jax.random.key(0)).depth

    for field, values in world.fields.items():
        getattr(mj, field)[...] = values
    data = mujoco.MjData(mj)
    data.qpos, data.mocap_pos, data.mocap_quat = world.data.qpos, world.data.mocap_pos, world.data.mocap_quat
    mujoco.mj_forward(mj, data)
    cameras = {key: view._asdict() for key, view in env.task.cameras.items()}
    pictures = DEPLOY["depth_pictures"](mj, data, {"shape": [3, size, size, 1], "cameras": cameras})
    off_by = np.abs(pictures[..., 0] - np.minimum(see(world), 1.0))
    assert (off_by < 1e-4).mean() > 0.99
