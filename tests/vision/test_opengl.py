"""MuJoCo's renderer sees what the rays see."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from expertgen_jax.sim import episode
from expertgen_jax.vision import camera
from expertgen_jax.vision.opengl import OpenGL

SIZE = 64


@pytest.mark.parametrize("name", ["pin_in_block", "block_on_rail", "lift_banana"])
def test_it_sees_what_the_rays_see(envs, name):
    env, renderer = envs(name, "native"), OpenGL(SIZE)

    def see(key):
        world = episode.reset(env, key)
        geoms = camera.visible(env.model.mj, world.data, world.fields)
        views = [camera.of_view(env.model.mj, world.data, view) for view in env.task.cameras.values()]
        return [[draw(geoms, view, SIZE, SIZE) for view in views] for draw in (camera.render, renderer)]

    for rays, drawn in zip(*jax.jit(jax.vmap(see))(jax.random.split(jax.random.key(4), 2)), strict=True):
        assert (np.abs(rays.depth - drawn.depth) < 0.001).mean() >= 0.998
        assert np.isclose(rays.points, drawn.points, atol=0.002).mean() >= 0.998
        assert np.abs(rays.rgb - drawn.rgb).mean() < 0.25
        np.testing.assert_array_equal(drawn.rgb[rays.depth >= 9.99], 1.0)
    one = jax.jit(lambda k: see(k)[1][0])(jax.random.split(jax.random.key(4), 2)[1])
    again = jax.jit(jax.vmap(see))(jax.random.split(jax.random.key(4), 2))[1][0]
    np.testing.assert_array_equal(one.rgb, again.rgb[1])
    assert jnp.isfinite(one.depth).all()
