"""Rays against MuJoCo's own: depth, segmentation and normals, of every shape and in the peg's scene."""

import copy
import os

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from expertgen_jax.sim import episode, physics
from expertgen_jax.task import View
from expertgen_jax.vision import camera
from expertgen_jax.vision.camera import FAR, LIGHT, Light

WIDTH, HEIGHT = 48, 36
TO_LAMP = -np.array(LIGHT.direction) / np.linalg.norm(LIGHT.direction)
SIZES = {
    "box": [0.05, 0.03, 0.08],
    "sphere": [0.06, 0, 0],
    "capsule": [0.03, 0.06, 0],
    "cylinder": [0.05, 0.04, 0],
    "plane": [0.1, 0.15, 0.01],
}


def shapes(names, seed, floor=False):
    """A scene of shapes around the origin, anyhow turned, on bodies of their own; perhaps over a floor."""
    rng, spec = np.random.default_rng(seed), mujoco.MjSpec()
    if floor:
        spec.worldbody.add_geom(type=mujoco.mjtGeom.mjGEOM_PLANE, size=[0.6, 0.6, 0.01], pos=[0, 0, -0.25])
    for i, name in enumerate(names):
        quat = rng.normal(size=4)
        body = spec.worldbody.add_body(pos=rng.uniform(-0.15, 0.15, 3), quat=quat / np.linalg.norm(quat))
        body.add_geom(
            type=getattr(mujoco.mjtGeom, f"mjGEOM_{name.upper()}"),
            size=SIZES[name],
            pos=rng.uniform(-0.02, 0.02, 3),
            quat=rng.normal(size=4),
            rgba=[*rng.uniform(0.2, 1, 3), 1],
            group=i % 3,
        )
    hidden = spec.worldbody.add_body(pos=[0, 0, 0.3])
    hidden.add_geom(type=mujoco.mjtGeom.mjGEOM_BOX, size=[0.3, 0.3, 0.01], group=3)
    return spec.compile()


def look(model, data, fields, view, width=WIDTH, height=HEIGHT):
    return camera.render(camera.visible(model.mj, data, fields), view, width, height)


def by_mujoco(mj, data, view, width=WIDTH, height=HEIGHT):
    """Depth, geom and normal of each pixel `[height, width, ...]` by `mj_multiRay`."""
    half = np.tan(float(view.fovy) / 2)
    x = (2 * (np.arange(width) + 0.5) / width - 1) * half * width / height
    y = (1 - 2 * (np.arange(height) + 0.5) / height) * half
    rays = np.stack([*np.meshgrid(x, y), -np.ones((height, width))], axis=-1).reshape(-1, 3) @ np.float64(view.mat).T
    length = np.linalg.norm(rays, axis=1)
    n = len(rays)
    geom, distance, normal = np.zeros(n, np.int32), np.zeros(n), np.zeros(3 * n)
    groups = np.array([1, 1, 1, 0, 0, 0], np.uint8)
    unit = (rays / length[:, None]).ravel()
    mujoco.mj_multiRay(mj, data, np.float64(view.pos), unit, groups, 1, -1, geom, distance, normal, n, 100.0)
    depth = np.where(geom >= 0, distance / length, FAR)
    return depth.reshape(height, width), geom.reshape(height, width), normal.reshape(height, width, 3)


def inner(geom):
    """Pixels whose neighbours show the same geom."""
    same = np.zeros(geom.shape, bool)
    neighbours = [geom[2:, 1:-1], geom[:-2, 1:-1], geom[1:-1, 2:], geom[1:-1, :-2]]
    same[1:-1, 1:-1] = np.all([geom[1:-1, 1:-1] == other for other in neighbours], axis=0)
    return same


@pytest.mark.parametrize("names", [[name] for name in SIZES] + [list(SIZES) * 3], ids=[*SIZES, "all"])
def test_rays_meet_what_mujocos_meet(names):
    compared = edges = 0
    for seed in range(4):
        mj = shapes(names, seed)
        data = mujoco.MjData(mj)
        mujoco.mj_kinematics(mj, data)
        eye = np.random.default_rng(seed + 100).normal(size=3)
        view = camera.look_at(0.6 * eye / np.linalg.norm(eye), [0.0, 0.0, 0.0], 0.9)
        model = physics.load(mj, "native")
        image = jax.device_get(look(model, physics.init(model, jnp.zeros(0)), {}, view))
        depth, geom, normal = by_mujoco(mj, data, view)
        is_plane = (geom >= 0) & (mj.geom_type[geom] == mujoco.mjtGeom.mjGEOM_PLANE)
        front = ~is_plane | (image.segmentation == geom)  # MuJoCo's rays meet planes from behind too
        agree = (image.segmentation == geom)[front]
        assert agree.all(where=inner(geom)[front]) and agree.mean() > 0.99
        same = (image.segmentation == geom) & (geom >= 0) & inner(geom)
        compared += same.sum()
        np.testing.assert_allclose(image.depth[same], depth[same], atol=2e-5)
        shade = LIGHT.ambient + LIGHT.lamp * np.maximum(normal @ TO_LAMP, 0)
        off = np.abs(image.rgb - mj.geom_rgba[geom][..., :3] * shade[..., None]).max(-1)[same]
        edges += (off > 0.01).sum()
        assert (image.rgb[image.segmentation < 0] == 1).all() and (image.depth[image.segmentation < 0] == FAR).all()
    assert compared > 50
    assert edges <= 0.02 * compared, "shades agree but for the edges within a geom"


def test_what_stands_in_the_light_casts_a_shadow():
    shaded = 0
    for seed in range(4):
        mj = shapes(["box", "sphere", "capsule", "cylinder"], seed, floor=True)
        data = mujoco.MjData(mj)
        mujoco.mj_kinematics(mj, data)
        view = camera.look_at([-0.3, -0.4, 0.7], [0.0, 0.0, -0.1], 0.9)
        model = physics.load(mj, "native")
        geoms = camera.visible(model.mj, physics.init(model, jnp.zeros(0)), {})
        lamp = Light(ambient=0.0, lamp=1.0)
        bright, dark = (camera.render(geoms, view, WIDTH, HEIGHT, lamp, shadows=on) for on in (False, True))
        _, geom, normal = by_mujoco(mj, data, view)
        facing = (geom >= 0) & inner(geom) & (image_geom(bright) == geom) & (normal @ TO_LAMP > 0.05)
        points = np.asarray(bright.points, float)
        expected = np.array([blocked(mj, data, points[*at] + 1e-3 * normal[*at]) for at in np.argwhere(facing)])
        seen = (np.asarray(dark.rgb).max(-1) < 0.5 * np.asarray(bright.rgb).max(-1))[facing]
        assert (seen == expected).mean() > 0.97
        shaded += expected.sum()
        np.testing.assert_allclose(dark.rgb[facing][~seen], bright.rgb[facing][~seen], atol=1e-6)
    assert shaded > 50


def image_geom(image):
    return np.asarray(image.segmentation)


def blocked(mj, data, point):
    """Whether MuJoCo's ray from a point to the lamp meets something."""
    groups, met = np.array([1, 1, 1, 0, 0, 0], np.uint8), np.zeros(1, np.int32)
    return mujoco.mj_ray(mj, data, point, TO_LAMP, groups, 1, -1, met) >= 0


@pytest.mark.slow
def test_the_scene_of_a_task(envs):
    """The assembly scene, whose sizes are data, from a fixed camera and from the hand."""
    env = envs("assembly", "native")
    wrist = View((0.06, 0.0, 0.02), (0.0, 0.0, -0.05), 1.2, "hand")

    def see(key):
        world = episode.reset(env, key)
        geoms = camera.visible(env.model.mj, world.data, world.fields)
        socket = world.data.mocap_pos[0]
        front = camera.look_at(socket + jnp.array([0.08, -0.05, 0.06]), socket + jnp.array([0.0, 0.0, 0.01]), 0.6)
        views = front, camera.of_view(env.model.mj, world.data, wrist)
        return world, views, [camera.render(geoms, view, WIDTH, HEIGHT) for view in views]

    world, views, images = jax.device_get(jax.jit(see)(jax.random.key(1)))
    mj = copy.deepcopy(env.model.mj)
    for name, values in world.fields.items():
        getattr(mj, name)[...] = values
    data = mujoco.MjData(mj)
    data.qpos, data.mocap_pos, data.mocap_quat = world.data.qpos, world.data.mocap_pos, world.data.mocap_quat
    mujoco.mj_kinematics(mj, data)
    for view, image, body in zip(views, images, ("socket", "plug"), strict=True):
        depth, geom, _ = by_mujoco(mj, data, view)
        assert (image.segmentation == geom).mean() > 0.995
        same = (image.segmentation == geom) & (geom >= 0) & inner(geom)
        assert (np.abs(image.depth - depth)[same] < 1e-4).all()
        assert mj.body(body).id in mj.geom_bodyid[geom[(image.segmentation == geom) & (geom >= 0)]]


@pytest.mark.parametrize("name", ["peg", "block_on_rail"])
def test_pixels_agree_with_mujocos_renderer(envs, name):
    env, size = envs(name, "native"), 64
    world = jax.jit(lambda key: episode.reset(env, key))(jax.random.key(4))
    spec = env.task.scene()
    for camera_name, view in env.task.cameras.items():
        mat = np.float64(camera.look_at(view.eye, view.target).mat)
        body = spec.body(view.body) if view.body else spec.worldbody
        body.add_camera(name=camera_name, pos=view.eye, xyaxes=[*mat[:, 0], *mat[:, 1]], fovy=np.rad2deg(view.fovy))
    mj = spec.compile()
    for field, values in world.fields.items():
        getattr(mj, field)[...] = values
    data = mujoco.MjData(mj)
    data.qpos, data.mocap_pos, data.mocap_quat = world.data.qpos, world.data.mocap_pos, world.data.mocap_quat
    mujoco.mj_forward(mj, data)
    try:
        renderer = mujoco.Renderer(mj, size, size)
    except Exception as error:
        if "CI" in os.environ:
            raise
        pytest.skip(f"this machine cannot render: {error}")
    geoms = camera.visible(env.model.mj, world.data, world.fields)
    for camera_name, view in env.task.cameras.items():
        image = camera.render(geoms, camera.of_view(env.model.mj, world.data, view), size, size)
        renderer.update_scene(data, camera=camera_name)
        renderer.enable_depth_rendering()
        depth = renderer.render().copy()
        renderer.disable_depth_rendering()
        renderer.enable_segmentation_rendering()
        geom = renderer.render()[..., 0].copy()
        renderer.disable_segmentation_rendering()
        body = np.where(geom < 0, -1, mj.geom_bodyid[geom])  # boxes of a body share faces: either may be in front
        seen = np.where(image.segmentation < 0, -1, mj.geom_bodyid[image.segmentation])
        assert (body == seen).mean() >= 0.99, camera_name
        away = inner(body) & (geom >= 0)
        assert (np.abs(depth - image.depth)[away] < 0.001).mean() >= 0.99, camera_name
    renderer.close()


@pytest.mark.parametrize("height", [1.0, -1.0])
def test_a_camera_may_look_straight_down_or_up(height):
    mat = camera.look_at([0.0, 0.0, height], [0.0, 0.0, 0.0]).mat
    np.testing.assert_allclose(mat.T @ mat, np.eye(3), atol=1e-6)
    np.testing.assert_allclose(mat[:, 2], [0, 0, height], atol=1e-6)
    assert np.linalg.det(mat) == pytest.approx(1.0)


def test_points_lie_on_what_is_seen(envs):
    env = envs("peg", "native")
    world = jax.jit(lambda key: episode.reset(env, key))(jax.random.key(2))
    middle = world.data.mocap_pos[0]
    view = camera.look_at(middle + jnp.array([0.1, -0.1, 0.2]), middle, 0.8)
    image = look(env.model, world.data, {}, view)
    low, high = middle + jnp.array([-0.05, -0.05, 0.001]), middle + jnp.array([0.05, 0.05, 0.03])
    points = np.asarray(camera.point_cloud(image.points, low, high, 256, jax.random.key(0)))
    assert points.shape == (256, 3) and ((points > low) & (points < high)).all()
    block_top = np.abs(points[:, 2] - 0.020) < 1e-4
    side = np.isclose(np.abs(points[:, :2] - middle[:2]).max(1), 0.04, atol=1e-4)
    hole = np.isclose(np.abs(points[:, :2] - middle[:2]).max(1), 0.01025, atol=1e-4)
    assert (block_top | side | hole).all() and block_top.mean() > 0.3
    assert len(np.unique(points, axis=0)) > 100
    nothing = camera.point_cloud(image.points, low + 5, high + 5, 8, jax.random.key(0))
    np.testing.assert_allclose(nothing, np.tile((low + high) / 2 + 5, (8, 1)), rtol=1e-6)
