"""Videos without a display: frames by MuJoCo's own ray caster on all CPU cores, captions, files.

No OpenGL, no GPU. Two rays a pixel, one to the eye and one to the key light, which stands to the upper left of the
camera; planes get a 2 cm checker pattern, so that motion and scale can be seen.
"""

import functools
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import imageio.v2 as imageio
import imageio_ffmpeg
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
    worlds = mujoco_batch.Batch(mj, nsim=count, nthread=1)
    for name, values in (("qpos", qpos), ("mocap_pos", mocap_pos), ("mocap_quat", mocap_quat)):
        state = worlds.bind(name)
        if np.shape(values) != state.shape:
            raise ValueError(f"{name} has shape {np.shape(values)}, expected {state.shape}")
        state[...] = values
    for name, values in (fields or {}).items():
        worlds.expand(name)[...] = values
    eye, rays, to_key = _rays(spectator, width, height)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        frames = list(pool.map(lambda i: _shade(worlds, i, eye, rays, to_key), range(count)))
    return np.stack(frames).reshape(count, height, width, 3)


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


def _shade(worlds: mujoco_batch.Batch, i: int, eye: np.ndarray, rays: np.ndarray, to_key: np.ndarray) -> np.ndarray:
    """Colours `[rays, 3] uint8` of a world."""
    mj = worlds.model
    distance, geom, normal = (x[0] for x in worlds.ray(eye, rays, geomgroup=_VISIBLE, ids=[i], normal=True))
    point = distance[:, None] * rays
    point += eye
    point += _OFF_SURFACE * normal
    blocked = worlds.ray(point, to_key, geomgroup=_VISIBLE, ids=[i])[0][0]

    # From here on only what was hit, in single precision.
    hit = np.flatnonzero(geom >= 0)
    geom, point, normal = geom[hit], point[hit].astype(np.float32), normal[hit].astype(np.float32)
    lit = (blocked[hit] < 0) & ((facing_key := normal @ to_key.astype(np.float32)) > 0)
    facing = np.abs(_dot(normal, rays.astype(np.float32)[hit]))
    between = _unit(to_key - rays).astype(np.float32)[hit]
    light = _AMBIENT + _HEADLIGHT * facing + _KEY * np.where(lit, facing_key, 0)
    gloss = _GLOSS * np.where(lit, np.maximum(_dot(normal, between), 0) ** 40, 0)

    colour = geom_rgba(mj)[:, :3].astype(np.float32)[geom]
    floor = np.flatnonzero(mj.geom_type[geom] == mujoco.mjtGeom.mjGEOM_PLANE.value)
    dark = np.floor(point[floor] * (1 / _CHECKER)).sum(-1) % 2 == 1
    colour[floor[dark]] *= _CHECKER_DIM

    sky = _HORIZON + np.clip(rays[:, 2:] + 0.5, 0.0, 1.0) * (_ZENITH - _HORIZON)
    frame = _bytes(sky)
    frame[hit] = _bytes(colour * light[:, None] + gloss[:, None])
    return frame


def _bytes(colour: np.ndarray) -> np.ndarray:
    return (255 * np.clip(colour, 0, 1) + 0.5).astype(np.uint8)


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.einsum("nk,nk->n", a, b)


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


def write(path: str | os.PathLike[str], frames: Iterable[np.ndarray], fps: float) -> None:
    """Writes `frames`, each `[H, W, 3] uint8`, as an H.264 .mp4 or an animated .webp, whole or not at all.

    Raises:
      ValueError: the path ends otherwise.
      OSError: there is no ffmpeg, or the file cannot be written.
    """
    path = Path(path)
    if path.suffix not in (".mp4", ".webp"):
        raise ValueError(f"{path}: videos are .mp4 or .webp")
    with atomic(path) as temporary:
        if path.suffix == ".webp":
            first, *others = map(Image.fromarray, frames)
            animation: dict[str, Any] = dict(append_images=others, duration=round(1000 / fps), loop=0)
            first.save(temporary, "WEBP", save_all=True, quality=60, method=4, **animation)
            return
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)  # ffmpeg execs at once and never runs JAX
            options: dict[str, Any] = dict(fps=fps, codec="libx264", quality=8, macro_block_size=2)
            try:
                writer: Any = imageio.get_writer(temporary, format="FFMPEG", **options)
                with writer:
                    for frame in frames:
                        writer.append_data(frame)
                imageio_ffmpeg.count_frames_and_secs(str(temporary))  # it ends in silence where the disk is full
            except (RuntimeError, ImportError) as error:
                raise OSError(f"{path}: ffmpeg cannot make it") from error
