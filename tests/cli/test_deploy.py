"""The script beside an exported policy sees what the student was taught to see."""

import runpy
from pathlib import Path

import jax
import mujoco
import numpy as np
import pytest

from expertgen_jax.learning import student
from expertgen_jax.sim import episode
from expertgen_jax.task import PORTABLE
from expertgen_jax.vision import appearance, camera

DEPLOY = runpy.run_path(str(Path(__file__).parents[2] / "examples" / "deploy.py"))


def test_it_reads_the_state_that_tasks_may_read():
    assert set(DEPLOY["STATE"]) == set(PORTABLE)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["peg", "lift_banana"])
def test_pictures_are_those_that_students_see(envs, name):
    env, size = envs(name, "native"), 32
    world = jax.jit(lambda key: episode.reset(env, key))(jax.random.key(4))
    image, mj = jax.jit(lambda w: appearance.see_plainly(env, w, size))(world), env.task.scene().compile()
    for field, values in world.fields.items():
        getattr(mj, field)[...] = values
    data = mujoco.MjData(mj)
    data.qpos, data.mocap_pos, data.mocap_quat = world.data.qpos, world.data.mocap_pos, world.data.mocap_quat
    mujoco.mj_forward(mj, data)
    wanted = {
        "size": size,
        "points": 64,
        "workspace": env.task.senses.workspace._asdict(),
        "cameras": {key: view._asdict() for key, view in env.task.cameras.items()},
    }
    depth, rgb, points = (
        DEPLOY["pictures"](mj, data, wanted | {"kind": kind}, np.random.default_rng(0))
        for kind in ("depth", "rgb", "points")
    )
    assert (np.abs(depth - student.pictured("depth", image)) < 1e-4).mean() > 0.99
    unlike = np.abs(rgb - student.pictured("rgb", image)).max(-1) > 0.01  # colours have 8 bits there, boxes round edges
    assert unlike.mean() < 0.05
    origin, axes = camera.frame(mj, world.data, env.task.senses.workspace.body)
    seen = (image.points.reshape(-1, 3) - origin) @ axes
    assert np.linalg.norm(points[:, None] - seen, axis=-1).min(1).max() < 1e-4
