"""Visual randomisation: nothing where it is off, within its ranges where it is on."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from expertgen_jax.vision import appearance, camera
from expertgen_jax.vision.appearance import VISUAL_RANDOMIZATIONS, VisualRandomization

SIZE = 24
OFF, DEFAULT, STRONG = (VISUAL_RANDOMIZATIONS[name] for name in ("off", "default", "strong"))


@pytest.fixture(scope="module")
def env(envs):
    return envs("peg", "native")


@pytest.fixture(scope="module")
def see(env, world):
    """`(ranges, appearance's key, picture's key) -> Image`."""

    @functools.partial(jax.jit, static_argnums=0)
    def see(ranges, look_key, key):
        look = appearance.draw(ranges, env.task, env.model.mj, jax.random.key(look_key))
        return appearance.see(ranges, env.task, env.model.mj, world, look, SIZE, jax.random.key(key))

    return see


@pytest.mark.slow
def test_off_is_what_the_cameras_see(env, world, see):
    image = see(OFF, 0, 0)
    geoms = camera.visible(env.model.mj, world.data, world.fields)
    for i, view in enumerate(env.task.cameras.values()):
        plain = camera.render(geoms, camera.of_view(env.model.mj, world.data, view), SIZE, SIZE)
        np.testing.assert_allclose(image.depth[i], plain.depth, atol=1e-5)
        np.testing.assert_allclose(image.rgb[i], plain.rgb, atol=1.01 / 255)
        np.testing.assert_allclose(image.points[i], plain.points, atol=1e-5)
        assert len(np.unique(image.segmentation[i])) >= 3, "the view shows the scene"
    for a, b in zip(image, see(OFF, 1, 1), strict=True):
        np.testing.assert_array_equal(a, b)


def test_every_camera_sees_plug_and_socket(env, see):
    body = np.asarray(env.model.mj.geom_bodyid)[np.asarray(see(OFF, 0, 0).segmentation)]
    for seen in body:
        for name in ("plug", "socket"):
            assert (seen == env.model.mj.body(name).id).sum() > 5, name


@pytest.mark.slow
def test_an_appearance_stays_for_the_episode_and_differs_between_episodes(see):
    still = dataclasses.replace(DEFAULT, noise=0.0, holes=0.0, edges=0.0, grain=0.0, stale=0.0)
    one, same, other = see(still, 0, 0), see(still, 0, 1), see(still, 1, 0)
    np.testing.assert_array_equal(one.depth, same.depth)
    assert (np.abs(one.rgb - other.rgb) > 0.02).mean() > 0.5
    assert (one.depth != other.depth).mean() > 0.3


@pytest.mark.slow
def test_draws_stay_in_their_ranges(env):
    draw = jax.jit(jax.vmap(lambda key: appearance.draw(STRONG, env.task, env.model.mj, key)))
    looks = draw(jax.random.split(jax.random.key(0), 500))
    for values, bound in ((looks.moved, STRONG.moved), (looks.turned, STRONG.turned), (looks.zoom - 1, STRONG.zoomed)):
        assert 0.95 * bound < np.abs(values).max() <= bound * 1.001
        assert np.abs(values.mean(0)).max() < 0.15 * bound
    for rgb in (looks.paint.rgb, looks.paint.other, looks.background):
        assert rgb.min() >= 0 and rgb.max() <= 1 and rgb.std(0).min() > 0.05
    along = np.asarray(looks.paint.cycles)
    assert 0.55 < (along > 0).mean() < 0.75 and along[along > 0].min() >= 4.99 and along.max() <= 100.1
    assert (looks.light.direction[:, 2] < 0).all(), "the lamp is above"
    assert np.abs(np.log(looks.exposure)).max() <= STRONG.exposed
    place, size = looks.distractors.pos, looks.distractors.size
    assert place.shape == (500, STRONG.distractors, 3)
    away = np.linalg.norm(place[..., :2], axis=-1)
    assert away.min() >= 0.12 and away.max() <= 0.25
    height = np.where(np.arange(STRONG.distractors) % 2, size[..., 0], size[..., 2])  # boxes and balls in turn
    np.testing.assert_array_equal(place[..., 2], height, err_msg="they stand on the ground")


@pytest.mark.slow
def test_distractors_are_seen_and_hide_nothing_but_what_is_behind(see):
    clear, cluttered = see(OFF, 0, 0), see(VisualRandomization(distractors=6), 0, 0)
    new = np.asarray(cluttered.segmentation == -2)
    assert 0.002 < new.mean() < 0.5
    assert (cluttered.depth[new] < clear.depth[new]).all()
    np.testing.assert_array_equal(cluttered.depth[~new], clear.depth[~new])


def test_a_distractor_is_out_of_sight_while_something_that_moves_is_near(env):
    look = appearance.draw(DEFAULT, env.task, env.model.mj, jax.random.key(0))
    place = look.distractors.pos
    things = jnp.array([place[0] + jnp.array([0.0, 0.0, 0.079]), place[1] + jnp.array([0.0, 0.0, 0.081])])
    moved = np.asarray(appearance._aside(look.distractors, things).pos)
    assert moved[0, 2] < -10, "below the ground"
    np.testing.assert_array_equal(moved[1], place[1])


@pytest.mark.slow
def test_depth_is_measured_with_noise_in_steps_and_with_holes(see):
    true = np.asarray(see(OFF, 0, 0).depth)
    near = true < 5
    noisy = np.asarray(see(VisualRandomization(noise=0.002), 0, 0).depth)
    assert (noisy - true)[near].std() == pytest.approx(0.002, rel=0.1) and abs((noisy - true)[near].mean()) < 2e-4
    disparity = 1 / np.asarray(see(VisualRandomization(quantum=0.004), 0, 0).depth)
    assert np.abs(disparity - 1 / true)[near].max() <= 0.00201
    np.testing.assert_allclose(disparity[near] / 0.004, np.round(disparity[near] / 0.004), atol=1e-2)
    image = see(VisualRandomization(holes=0.5), 0, 7)
    holes = np.asarray(image.depth == 0)
    assert 0 < holes.mean() <= 0.55
    assert np.isinf(np.asarray(image.points)[holes]).all(), "and belong to no point"
    np.testing.assert_array_equal(image.depth[~holes], true[~holes])
    torn = np.asarray(see(VisualRandomization(edges=1.0), 0, 7).depth == 0)
    leaps = np.asarray(jax.vmap(appearance._leaps)(true))
    assert 0 < leaps.mean() < 0.3 and torn.any() and not torn[~leaps].any(), "where depth leaps"


@pytest.mark.slow
def test_colours_are_a_cameras(see):
    plain = np.asarray(see(OFF, 0, 0).rgb)
    grainy = np.asarray(see(VisualRandomization(grain=0.02), 0, 0).rgb)
    inside = (plain > 0.1) & (plain < 0.9)
    assert (grainy - plain)[inside].std() == pytest.approx(0.02, rel=0.1)
    assert abs((grainy - plain)[inside].mean()) < 1e-3
    soft = np.asarray(see(VisualRandomization(blurred=1.0), 0, 0).rgb)
    steps = [np.abs(np.diff(rgb, axis=1)).sum() for rgb in (plain, soft)]
    assert steps[1] < 0.95 * steps[0] and abs(soft.mean() - plain.mean()) < 5e-3
    darker = [np.asarray(see(VisualRandomization(shadows=on), 0, 0).rgb) for on in (False, True)]
    assert (darker[1] <= darker[0] + 1e-6).all() and (darker[1] < darker[0] - 0.05).mean() > 0.005


def test_points_are_where_a_camera_in_its_place_would_have_seen_them(env, world, see):
    """A camera that is moved without anybody's knowing shifts its cloud."""
    true, shifted = see(OFF, 0, 0), see(VisualRandomization(moved=0.01), 0, 0)
    top = np.asarray(true.segmentation[0] == shifted.segmentation[0]) & (np.asarray(true.depth[0]) < 1)
    off = np.linalg.norm(shifted.points[0] - true.points[0], axis=-1)[top]
    assert 0.0005 < np.median(off) < 0.03


def test_turning_and_moving_a_camera():
    plain = camera.look_at([0.0, -1.0, 1.0], [0.0, 0.0, 0.0])
    moved = camera.moved(plain, jnp.array([0.1, 0.0, 0.0]), jnp.zeros(3), jnp.float32(1.1))
    np.testing.assert_allclose(moved.pos, [0.1, -1.0, 1.0], atol=1e-6)
    np.testing.assert_allclose(moved.mat, plain.mat, atol=1e-6)
    assert moved.fovy == pytest.approx(1.1 * plain.fovy)
    turned = camera.moved(plain, jnp.zeros(3), jnp.array([0.0, 0.02, 0.0]), jnp.float32(1.0))
    forward = -np.asarray(plain.mat)[:, 2]
    np.testing.assert_allclose(np.arccos(-np.asarray(turned.mat)[:, 2] @ forward), 0.02, rtol=0.02)
    np.testing.assert_allclose(turned.mat.T @ turned.mat, np.eye(3), atol=1e-6)


@pytest.mark.parametrize("height, width", [(5, 7), (1, 3), (4, 1)])
def test_neighbours_are_those_of_a_picture_with_its_edges_repeated(height, width):
    image = np.random.default_rng(0).random((3, height, width), np.float32)
    padded = np.pad(image, ((0, 0), (1, 1), (1, 1)), mode="edge")
    around = padded[:, :-2, 1:-1], padded[:, 2:, 1:-1], padded[:, 1:-1, :-2], padded[:, 1:-1, 2:]
    np.testing.assert_array_equal(jax.jit(appearance.neighbours)(image), around)


def test_bits_a_pixel_are_random_in_every_place_and_from_pixel_to_pixel_and_picture_to_picture():
    pictures = jax.vmap(lambda key: appearance.bits_a_pixel(key, 64, 48))(jax.random.split(jax.random.key(5), 32))
    bits = (np.asarray(pictures)[..., None] >> np.arange(32)) & 1  # [pictures, height, width, 32]
    signs = 2.0 * bits - 1
    five_sigma = 5 / np.sqrt(signs[..., 0].size)
    assert np.abs(signs.mean((0, 1, 2))).max() < five_sigma
    for one, other in [
        (signs[:, 1:], signs[:, :-1]),
        (signs[:, :, 1:], signs[:, :, :-1]),
        (signs[1:], signs[:-1]),
        (signs[..., 1:], signs[..., :-1]),
    ]:
        assert np.abs((one * other).mean((0, 1, 2))).max() < 1.05 * five_sigma
    assert len(np.unique(pictures)) > 0.9999 * pictures.size
