"""Videos without a display: frames by MuJoCo's own ray caster on all CPU cores, captions, files.

No OpenGL, no GPU. Two rays a pixel, one to the eye and one to the key light, which stands to the upper left of the
camera; planes get a 2 cm checker pattern, so that motion and scale can be seen.
"""

import functools
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import imageio.v3 as imageio
import mujoco
import numpy as np
from mujoco import batch as mujoco_batch
from numpy.typing import ArrayLike
from PIL import Image, ImageDraw, ImageFont

from expertgen_jax.files import atomic
from expertgen_jax.task import Spectator
from expertgen_jax.vision.camera import geom_rgba

FIELD_OF_VIEW = 45.0
"""Vertical, in degrees: MuJoCo's default."""

_RAYS_PER_BLOCK = 160_000  # 60 MB; more is slower
_VISIBLE = (1, 1, 1, 0, 0, 0)  # geom groups, as in MuJoCo's viewer: 3 and up hold collision shapes
_AMBIENT, _HEADLIGHT, _KEY, _GLOSS = 0.36, 0.26, 0.48, 0.12
_CHECKER, _CHECKER_DIM = 0.02, 0.93
_HORIZON, _ZENITH = np.array([[0.93, 0.94, 0.96], [0.52, 0.63, 0.76]], np.float32)
_OFF_SURFACE = 1e-4  # shadow rays start here (m), less than the clearance of any task


def render(
    mj: mujoco.MjModel,
    qpos: ArrayLike,
    mocap_pos: ArrayLike,
    mocap_quat: ArrayLike,
    spectator: Spectator,
    *,
    width: int = 640,
    height: int = 480,
    fields: Mapping[str, ArrayLike] | None = None,
) -> np.ndarray:
    """Draws the geoms of groups 0 to 2, one picture a state.

    Args:
      mj: the model.
      qpos, mocap_pos, mocap_quat: `[T, nq]`, `[T, nmocap, 3]` (m), `[T, nmocap, 4]`.
      spectator: where the camera stands; its vertical field of view is `FIELD_OF_VIEW`.
      width, height: of a frame (pixels).
      fields: model fields that replace the compiled ones, see `physics.Model.fields`.

    Returns:
      `[T, height, width, 3] uint8`.

    Raises:
      ValueError: a state array does not fit the model or the other arrays' T.
    """
    count = len(np.asarray(qpos))
    worlds = mujoco_batch.Batch(mj, nsim=count)
    for name, values in (("qpos", qpos), ("mocap_pos", mocap_pos), ("mocap_quat", mocap_quat)):
        state = worlds.bind(name)
        if np.shape(values) != state.shape:
            raise ValueError(f"{name} has shape {np.shape(values)}, expected {state.shape}")
        state[...] = values
    for name, values in (fields or {}).items():
        worlds.expand(name)[...] = values
    eye, rays, to_key = _rays(spectator, width, height)
    frames = np.empty((count, height * width, 3), np.uint8)
    block = max(1, _RAYS_PER_BLOCK // (height * width))
    for start in range(0, count, block):
        ids = np.arange(start, min(start + block, count))
        frames[ids] = _shade(worlds, ids, eye, rays, to_key)
    return frames.reshape(count, height, width, 3)


def _rays(spectator: Spectator, width: int, height: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The eye `[3]`, unit rays through the pixels `[height * width, 3]`, the direction of the key light `[3]`."""
    lookat, distance, *angles = spectator
    azimuth, elevation = np.deg2rad(angles)
    sin, cos = np.sin(azimuth), np.cos(azimuth)
    forward = np.array([np.cos(elevation) * cos, np.cos(elevation) * sin, np.sin(elevation)])
    right = np.array([sin, -cos, 0.0])
    up = np.cross(right, forward)
    scale = np.tan(np.deg2rad(FIELD_OF_VIEW) / 2) / height
    x = (2 * np.arange(width) + 1 - width) * scale
    y = (height - 1 - 2 * np.arange(height)) * scale
    rays = (forward + y[:, None, None] * up + x[None, :, None] * right).reshape(-1, 3)
    to_key = np.array([0.0, 0.0, 1.3]) - 0.6 * right - 0.5 * np.array([cos, sin, 0.0])
    return np.array(lookat) - distance * forward, _unit(rays), _unit(to_key)


def _shade(
    worlds: mujoco_batch.Batch, ids: np.ndarray, eye: np.ndarray, rays: np.ndarray, to_key: np.ndarray
) -> np.ndarray:
    """Colours `[len(ids), rays, 3] uint8` of the worlds `ids`."""
    mj = worlds.model
    distance, geom, normal = worlds.ray(eye, rays, geomgroup=_VISIBLE, ids=ids, normal=True)
    point = eye + distance[..., None] * rays + _OFF_SURFACE * normal
    blocked, _ = worlds.ray(point, to_key, geomgroup=_VISIBLE, ids=ids)

    colour = geom_rgba(mj)[:, :3].astype(np.float32)[geom]
    dark = np.floor(point / _CHECKER).sum(-1) % 2 == 1
    colour[dark & (mj.geom_type[geom] == mujoco.mjtGeom.mjGEOM_PLANE.value)] *= _CHECKER_DIM

    facing = np.abs(np.einsum("nrk,rk->nr", normal, rays))
    key = np.where(blocked < 0, np.maximum(normal @ to_key, 0.0), 0.0)
    gloss = np.where(key > 0, np.maximum(np.einsum("nrk,rk->nr", normal, _unit(to_key - rays)), 0.0) ** 40, 0.0)
    light = (_AMBIENT + _HEADLIGHT * facing + _KEY * key).astype(np.float32)
    colour = colour * light[..., None] + (_GLOSS * gloss).astype(np.float32)[..., None]

    sky = _HORIZON + np.clip(rays[:, 2:] + 0.5, 0.0, 1.0).astype(np.float32) * (_ZENITH - _HORIZON)
    colour = np.where(geom[..., None] >= 0, colour, sky)
    return (255 * np.clip(colour, 0.0, 1.0) + 0.5).astype(np.uint8)


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def side_by_side(clips: Sequence[np.ndarray]) -> np.ndarray:
    """Clips `[T_i, H, W, 3] uint8` next to each other; a shorter one waits on its last frame.

    Returns `[max T_i, H, W * len(clips), 3] uint8`.
    """
    length = max(len(clip) for clip in clips)
    return np.concatenate([clip[np.minimum(np.arange(length), len(clip) - 1)] for clip in clips], axis=2)


def inset(frames: np.ndarray, pictures: np.ndarray) -> np.ndarray:
    """`frames: [T, H, W, 3] uint8` with `pictures: [T, h, w, 3]` in [0, 1] in the bottom right corner, enlarged in
    whole steps as far as they fit."""
    scale = max(1, frames.shape[1] // max(1, pictures.shape[1]))
    large = (255 * pictures).astype(np.uint8).repeat(scale, axis=1).repeat(scale, axis=2)
    height, width = large.shape[1:3]
    result = frames.copy()
    result[:, frames.shape[1] - height :, frames.shape[2] - width :] = large
    return result


Corner = Literal["top left", "top right", "bottom left"]


def write_text(frame: np.ndarray, text: str, corner: Corner, colour: tuple[int, int, int] = (255, 255, 255)) -> None:
    """Writes a line on a dark strip into a corner of `frame: [H, W, 3] uint8`, in place."""
    mask = _text_mask(text, frame.shape[0])[: frame.shape[0], : frame.shape[1], None]
    rows = slice(-len(mask), None) if "bottom" in corner else slice(len(mask))
    columns = slice(-mask.shape[1], None) if "right" in corner else slice(mask.shape[1])
    frame[rows, columns] = 0.35 * frame[rows, columns] * (1 - mask) + np.asarray(colour) * mask


@functools.lru_cache(maxsize=1024)
def _text_mask(text: str, frame_height: int) -> np.ndarray:
    """`[height, width]` in [0, 1]: where the letters are."""
    margin, size = frame_height // 48, max(10, frame_height // 20)
    font = ImageFont.load_default(size)
    strip = Image.new("L", (round(font.getlength(text)) + 4 * margin, round(1.3 * size) + 2 * margin))
    ImageDraw.Draw(strip).text((2 * margin, margin), text, fill=255, font=font)
    return np.asarray(strip) / 255


def write(path: str | os.PathLike[str], frames: np.ndarray, fps: float) -> None:
    """Writes `frames: [T, H, W, 3] uint8` as an H.264 .mp4 or an animated .webp; the file appears whole or not at all.

    Raises:
      ValueError: the path ends otherwise.
      RuntimeError, OSError: there is no ffmpeg, or the file cannot be written.
    """
    path = Path(path)
    if path.suffix == ".webp":
        with atomic(path) as temporary:
            first, *others = map(Image.fromarray, frames)
            options = dict(save_all=True, append_images=others, duration=round(1000 / fps), loop=0)
            first.save(temporary, "WEBP", quality=60, method=4, **options)
        return
    if path.suffix != ".mp4":
        raise ValueError(f"{path}: videos are .mp4 or .webp")
    with atomic(path) as temporary, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)  # ffmpeg execs at once and never runs JAX
        imageio.imwrite(temporary, frames, plugin="FFMPEG", fps=fps, codec="libx264", quality=8, macro_block_size=2)
