"""Frames, captions and files."""

import gc
import resource
import subprocess

import imageio_ffmpeg
import mujoco
import numpy as np
import pytest
from PIL import Image

from expertgen_jax.task import Spectator
from expertgen_jax.tasks.assembly import pegs
from expertgen_jax.vision import video

WIDTH, HEIGHT = 96, 64
CAMERA = Spectator((0.1, 0.2, 0.3), 1.0, 135.0, -30.0)


def right_of(camera: Spectator) -> np.ndarray:
    azimuth = np.deg2rad(camera[2])
    return np.array([np.sin(azimuth), -np.cos(azimuth), 0.0])


def ball_scene(radius: float = 0.05, group: int = 0) -> mujoco.MjModel:
    """A red mocap ball in empty space."""
    spec = mujoco.MjSpec()
    ball = spec.worldbody.add_body(name="ball", mocap=True)
    ball.add_geom(type=mujoco.mjtGeom.mjGEOM_SPHERE, size=[radius, 0, 0], rgba=[1, 0, 0, 1], group=group)
    return spec.compile()


def draw_ball(positions: np.ndarray, camera: Spectator = CAMERA, **scene: float) -> np.ndarray:
    """Where the ball is seen, `[T, HEIGHT, WIDTH] bool`."""
    count = len(positions)
    quat = np.tile([1.0, 0, 0, 0], (count, 1, 1))
    frames = video.render(
        ball_scene(**scene),
        np.zeros((count, 0)),
        np.asarray(positions)[:, None],
        quat,
        camera,
        width=WIDTH,
        height=HEIGHT,
    )
    assert frames.shape == (count, HEIGHT, WIDTH, 3) and frames.dtype == np.uint8
    return frames[..., 0] > 2.0 * frames[..., 2]


def centre(mask: np.ndarray) -> np.ndarray:
    """Centre of the pixels of a mask, (x, y), in half-heights from the image's centre, y upwards."""
    y, x = np.nonzero(mask)
    return np.array([x.mean() + 0.5 - WIDTH / 2, HEIGHT / 2 - y.mean() - 0.5]) / (HEIGHT / 2)


@pytest.mark.parametrize("azimuth", [0.0, 90.0, 135.0, -70.0])
@pytest.mark.parametrize("elevation", [-89.0, -30.0, 20.0])
def test_look_at_point_is_the_centre_of_the_picture(azimuth: float, elevation: float) -> None:
    camera = Spectator(CAMERA.lookat, 1.0, azimuth, elevation)
    mask = draw_ball(np.array([CAMERA[0]]), camera, radius=0.2)[0]
    np.testing.assert_allclose(centre(mask), 0.0, atol=1e-6)
    angle = np.arcsin(0.2)  # half the angle under which it is seen
    expected = np.pi * (np.tan(angle) / np.tan(np.pi / 8) * HEIGHT / 2) ** 2
    assert mask.sum() == pytest.approx(expected, rel=0.02)


def test_projection_of_displaced_points() -> None:
    offset, focal = 0.15, 1 / np.tan(np.pi / 8)
    right, elevation = right_of(CAMERA), np.deg2rad(CAMERA[3])
    points = np.array(CAMERA[0]) + offset * np.stack([right, -right, [0, 0, 1.0]])
    right_mask, left_mask, up_mask = draw_ball(points, radius=0.02)
    np.testing.assert_allclose(centre(right_mask), [offset * focal, 0.0], atol=0.01)
    np.testing.assert_allclose(centre(left_mask), [-offset * focal, 0.0], atol=0.01)
    nearer = 1.0 + offset * np.sin(elevation)
    np.testing.assert_allclose(centre(up_mask), [0.0, offset * focal * np.cos(elevation) / nearer], atol=0.01)


def test_agrees_with_mujocos_free_camera() -> None:
    mj = ball_scene()
    data, scene, view = mujoco.MjData(mj), mujoco.MjvScene(mj, maxgeom=10), mujoco.MjvCamera()
    view.lookat[:], view.distance, view.azimuth, view.elevation = CAMERA
    mujoco.mjv_updateScene(mj, data, mujoco.MjvOption(), None, view, mujoco.mjtCatBit.mjCAT_ALL.value, scene)
    eye, rays, _ = video._rays(CAMERA, 3, 3)
    left, right = scene.camera
    np.testing.assert_allclose(eye, (np.array(left.pos) + right.pos) / 2, atol=1e-6)
    np.testing.assert_allclose(rays[4], left.forward, atol=1e-6)
    assert rays[1] @ left.up > 0 and abs(rays[1] @ np.cross(left.forward, left.up)) < 1e-6


def test_hidden_groups_are_not_drawn() -> None:
    assert not draw_ball(np.array([CAMERA[0]]), group=3).any()


def test_each_frame_shows_its_own_state() -> None:
    positions = np.array(CAMERA[0]) + np.linspace(-0.3, 0.3, 5)[:, None] * right_of(CAMERA)
    assert np.all(np.diff([centre(mask)[0] for mask in draw_ball(positions)]) > 0.1)


def test_the_peg_task_shows_plug_hand_table_and_shadow() -> None:
    task = pegs.peg("peg")
    mj = task.scene().compile()
    qpos = np.zeros((2, mj.nq))
    qpos[:, 2] = [0.075, 0.04]
    sockets = np.zeros((2, 1, 3)), np.tile([1.0, 0, 0, 0], (2, 1, 1))
    above, inserted = video.render(mj, qpos, *sockets, task.spectator, width=320, height=240)

    def orange(frame: np.ndarray) -> int:
        return int((frame[..., 0] > 2.0 * frame[..., 2].astype(int)).sum())

    assert orange(above) > 1.5 * orange(inserted) > 100  # half of the plug is in the hole
    assert len(np.unique(above[-1], axis=0)) > 1  # the checker pattern
    assert len(np.unique(above[-60:].reshape(-1, 3) // 8, axis=0)) > 4


def test_render_names_the_array_that_does_not_fit() -> None:
    with pytest.raises(ValueError, match=r"mocap_pos has shape \(3, 1, 3\), expected \(2, 1, 3\)"):
        video.render(ball_scene(), np.zeros((2, 0)), np.zeros((3, 1, 3)), np.zeros((2, 1, 4)), CAMERA)


def test_side_by_side_pads_with_the_last_frame() -> None:
    rng = np.random.default_rng(0)
    short = rng.integers(0, 100, (2, 60, 80, 3), dtype=np.uint8)
    long = rng.integers(0, 100, (5, 60, 80, 3), dtype=np.uint8)
    kept = short.copy()
    joined = video.side_by_side([short, long])
    assert joined.shape == (5, 60, 160, 3) and joined.dtype == np.uint8
    np.testing.assert_array_equal(joined[..., :80, :], short[[0, 1, 1, 1, 1]])
    np.testing.assert_array_equal(joined[..., 80:, :], long)
    np.testing.assert_array_equal(short, kept)


@pytest.mark.parametrize("text", ["success", "a line that is much wider than the picture"])
def test_text_stands_in_its_corner(text) -> None:
    for corner in ("top left", "top right", "bottom left"):
        frame = np.full((60, 80, 3), 100, np.uint8)
        video.write_text(frame, text, corner, (0, 255, 0))
        changed = (frame != 100).any(-1)
        assert frame[..., 1].max() > 200 and frame[..., 0].max() <= 100, "in its colour"
        assert not changed[30:].any() if corner.startswith("top") else not changed[:30].any()
        assert changed[:, :40].any() if corner.endswith("left") else changed[:, 40:].any()


def test_a_webp_moves(tmp_path) -> None:
    frames = np.zeros((3, 48, 64, 3), np.uint8)
    frames[1:, :, 32:, 0] = 200
    frames[2, :, :32, 1] = 200
    video.write(tmp_path / "a.webp", frames, fps=20.0)
    with Image.open(tmp_path / "a.webp") as picture:
        assert picture.n_frames == 3 and picture.size == (64, 48)
        picture.seek(2)
        picture.load()
        assert picture.info["duration"] == 50
        np.testing.assert_allclose(np.asarray(picture.convert("RGB")).astype(int), frames[2], atol=60)


def test_other_kinds_of_files_are_refused(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"a\.avi: videos are \.mp4 or \.webp"):
        video.write(tmp_path / "a.avi", np.zeros((1, 48, 64, 3), np.uint8), fps=20.0)


def test_write_makes_a_readable_file(tmp_path) -> None:
    frames = np.zeros((7, 48, 64, 3), np.uint8)
    frames[3:, :, 32:, 0] = 200
    path = tmp_path / "expert.mp4"
    path.write_bytes(b"old")
    video.write(path, frames, fps=20.0)
    gc.collect()  # an unclosed pipe would warn here
    assert imageio_ffmpeg.count_frames_and_secs(path) == (7, 0.35)
    # imageio's own reader leaves pipes open, and warnings are errors.
    decode = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", path, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    read = np.frombuffer(subprocess.run(decode, capture_output=True, check=True).stdout, np.uint8)
    np.testing.assert_allclose(read.reshape(frames.shape).astype(int), frames, atol=40)
    assert [p.name for p in tmp_path.iterdir()] == ["expert.mp4"]


def test_a_full_disk_is_noticed(tmp_path) -> None:
    frames = np.random.default_rng(0).integers(0, 255, (8, 48, 64, 3)).astype(np.uint8)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))  # ffmpeg inherits it
    try:
        with pytest.raises(OSError, match="ffmpeg cannot make it"):
            video.write(tmp_path / "expert.mp4", frames, fps=20.0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_old_file(tmp_path) -> None:
    path = tmp_path / "expert.mp4"
    path.write_bytes(b"old")
    with pytest.raises(ValueError):
        video.write(path, np.zeros((2, 48, 64, 9), np.uint8), fps=20.0)
    gc.collect()
    assert path.read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1
