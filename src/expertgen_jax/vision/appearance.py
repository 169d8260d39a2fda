"""Visual domain randomisation: how the world looks differs from episode to episode, and from picture to picture."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import mujoco

from expertgen_jax.task import CLUTTER, Level, Task
from expertgen_jax.vision import camera
from expertgen_jax.vision.camera import Camera, Geoms, Image, Light, Paint, Render

_DISTRACTOR = -2  # in segmentations
ASIDE = 0.08
"""A distractor is not seen while something that moves is nearer (m)."""
_DISTRACTOR_TYPES = (mujoco.mjtGeom.mjGEOM_BOX.value, mujoco.mjtGeom.mjGEOM_SPHERE.value)


@dataclasses.dataclass(frozen=True)
class VisualRandomization:
    """Ranges. Cameras, colours, light and clutter are drawn for an episode, the rest for each picture.

    Attributes:
      moved: how far cameras stand beside their place along each axis, up to (m).
      turned: how far they are turned about each axis, up to (rad).
      zoomed: by what share their field of view differs, up to.
      recoloured: how much of each geom's colour, and of the background's, is a random one, up to (share).
      patterned: how much of the other colour of each geom's pattern is a random one, up to (share).
      light: how far the lamp is turned towards a random direction, up to (share), and how much of the brightness of
        lamp, headlight and gloss is random.
      shadows: things stand in each other's light.
      exposed: logarithm of how much too bright or too dark pictures are, up to.
      blurred: how much of each pixel is its neighbours', up to (share).
      grain: standard deviation of colours.
      distractors: boxes and balls that lie about, where `Senses.clutter` says.
      noise: standard deviation of depth (m).
      holes: share of pixels without a depth, up to; they read 0.
      edges: share of pixels without a depth, up to, where depth leaps.
      quantum: step of disparity, the inverse of depth, in which that comes (1/m): a step of depth grows with its
        square; 0 for any.
      stale: how often a picture is late, and the one of the decision before is seen again (share).
    """

    moved: float = 0.0
    turned: float = 0.0
    zoomed: float = 0.0
    recoloured: float = 0.0
    patterned: float = 0.0
    light: float = 0.0
    shadows: bool = False
    exposed: float = 0.0
    blurred: float = 0.0
    grain: float = 0.0
    distractors: int = 0
    noise: float = 0.0
    holes: float = 0.0
    edges: float = 0.0
    quantum: float = 0.0
    stale: float = 0.0


VISUAL_RANDOMIZATIONS: dict[Level, VisualRandomization] = {
    "off": VisualRandomization(),
    "default": VisualRandomization(
        moved=0.003,
        turned=0.01,
        zoomed=0.02,
        recoloured=0.5,
        patterned=0.5,
        light=0.5,
        shadows=True,
        exposed=0.2,
        blurred=0.3,
        grain=0.01,
        distractors=3,
        noise=0.0005,
        holes=0.01,
        edges=0.3,
        quantum=0.002,
        stale=0.02,
    ),
    "strong": VisualRandomization(
        moved=0.010,
        turned=0.03,
        zoomed=0.05,
        recoloured=1.0,
        patterned=1.0,
        light=1.0,
        shadows=True,
        exposed=0.4,
        blurred=0.6,
        grain=0.03,
        distractors=6,
        noise=0.0015,
        holes=0.05,
        edges=0.8,
        quantum=0.005,
        stale=0.10,
    ),
}


class Appearance(NamedTuple):
    """What an episode looks like; views and geoms in the model's order.

    Attributes:
      moved: `[views, 3]`; turned: `[views, 3]`; zoom: `[views]`; see `camera.moved`.
      paint: `[geoms, 3]` each, of what is visible; background: `[3]`.
      light: of the scene.
      exposure: factor of all colours.
      distractors: shapes on the ground around the scene.
    """

    moved: jax.Array
    turned: jax.Array
    zoom: jax.Array
    paint: Paint
    background: jax.Array
    light: Light
    exposure: jax.Array
    distractors: Geoms


def draw(ranges: VisualRandomization, task: Task, mj: mujoco.MjModel, key: jax.Array) -> Appearance:
    """The appearance of an episode."""
    views, keys = len(task.cameras), jax.random.split(key, 8)
    ids = camera.visible_ids(mj)

    def within(key: jax.Array, bound: float, *shape: int) -> jax.Array:
        return bound * jax.random.uniform(key, shape, minval=-1.0)

    nominal = jnp.concatenate([jnp.asarray(camera.geom_rgba(mj)[ids, :3], jnp.float32), jnp.ones((1, 3))])
    paint = _painted(ranges, Paint.plain(nominal), keys[3])
    clutter = CLUTTER if task.senses is None else task.senses.clutter
    return Appearance(
        moved=within(keys[0], ranges.moved, views, 3),
        turned=within(keys[1], ranges.turned, views, 3),
        zoom=1 + within(keys[2], ranges.zoomed, views),
        paint=jax.tree.map(lambda x: x[:-1], paint),
        background=paint.rgb[-1],
        light=_lit(ranges.light, keys[4]),
        exposure=jnp.exp(within(keys[5], ranges.exposed)),
        distractors=_distractors(ranges, clutter, keys[6]),
    )


def _painted(ranges: VisualRandomization, paint: Paint, key: jax.Array) -> Paint:
    """Other colours, and patterns of 1 to 20 cm, a third of whose axes they do not change along."""
    keys = jax.random.split(key, 7)
    shape = paint.rgb.shape

    def mixed(rgb: jax.Array, most: float, share_key: jax.Array, colour_key: jax.Array) -> jax.Array:
        share = most * jax.random.uniform(share_key, (shape[0], 1))
        return (1 - share) * rgb + share * jax.random.uniform(colour_key, shape)

    rgb = mixed(paint.rgb, ranges.recoloured, keys[0], keys[1])
    cycles = jnp.exp(jax.random.uniform(keys[2], shape, minval=jnp.log(5.0), maxval=jnp.log(100.0)))
    along = jax.random.bernoulli(keys[3], 2 / 3, shape)
    other = mixed(rgb, ranges.patterned, keys[4], keys[5])
    return Paint(rgb, other, jnp.where(along, cycles, 0.0), jax.random.uniform(keys[6], shape))


def _lit(most: float, key: jax.Array) -> Light:
    """A lamp somewhere above, brighter or darker, with a headlight and gloss."""
    share_key, way_key, bright_key = jax.random.split(key, 3)
    nominal = jnp.asarray(camera.LIGHT.direction, jnp.float32)
    share = most * jax.random.uniform(share_key)
    sideways = jax.random.normal(way_key, (3,)) * jnp.array([0.5, 0.5, 0.0])
    bright = most * jax.random.uniform(bright_key, (4,))
    return Light(
        direction=(1 - share) * nominal / jnp.linalg.norm(nominal) + share * (sideways - jnp.array([0.0, 0.0, 0.3])),
        ambient=camera.LIGHT.ambient * (1 - 0.5 * bright[0]),
        head=0.4 * bright[1],
        lamp=camera.LIGHT.lamp * (1 - 0.5 * bright[2]),
        gloss=0.4 * bright[3],
    )


def _distractors(ranges: VisualRandomization, clutter: tuple[float, float], key: jax.Array) -> Geoms:
    """Boxes and balls of 1 to 3 cm on the ground, as far from the origin as `clutter` says (m)."""
    count, keys = ranges.distractors, jax.random.split(key, 5)
    around = jax.random.uniform(keys[0], (count,), maxval=2 * jnp.pi)
    away = jax.random.uniform(keys[1], (count,), minval=clutter[0], maxval=clutter[1])
    size = jax.random.uniform(keys[2], (count, 3), minval=0.01, maxval=0.03)
    size = size.at[1::2, 2].set(size[1::2, 0])  # of a ball its radius
    zero, one = jnp.zeros(count), jnp.ones(count)
    cos, sin = jnp.cos(around), jnp.sin(around)
    return Geoms(
        pos=jnp.stack([away * cos, away * sin, size[:, 2]], axis=1),
        mat=jnp.stack([cos, -sin, zero, sin, cos, zero, zero, zero, one], axis=1).reshape(count, 3, 3),
        size=size,
        paint=_painted(ranges, Paint.plain(jax.random.uniform(keys[3], (count, 3))), keys[4]),
        ids=(_DISTRACTOR,) * count,
        types=tuple(_DISTRACTOR_TYPES[i % 2] for i in range(count)),
    )


def _aside(distractors: Geoms, things: jax.Array) -> Geoms:
    """The distractors, those nearer than `ASIDE` to one of `things: [n, 3]` out of sight, since they would stand before
    what matters."""
    away = jnp.linalg.norm(distractors.pos[:, None] - things[None], axis=-1)
    hides = (away < ASIDE).any(axis=1, keepdims=True)
    return distractors.replace(pos=jnp.where(hides, jnp.array([0.0, 0.0, -100.0]), distractors.pos))


def see(
    ranges: VisualRandomization,
    task: Task,
    mj: mujoco.MjModel,
    world: Any,
    look: Appearance,
    size: int,
    key: jax.Array,
    render: Render = camera.render,
) -> Image:
    """What the task's cameras see of an `episode.World`, `[views, size, size, ...]`.

    Depth is as a sensor measures it; points are where they would be if the cameras stood in their place, and infinitely
    far where there is no depth.

    Args:
      ranges: of what differs from picture to picture.
      task: whose cameras.
      mj: the compiled model.
      world: as it is now.
      look: what this episode looks like.
      size: of the pictures (pixels).
      key: of what differs from picture to picture.
      render: what draws them.
    """
    geoms = camera.visible(mj, world.data, world.fields).replace(paint=look.paint)
    moving = mj.body_weldid[mj.geom_bodyid[camera.visible_ids(mj)]] != 0
    geoms = camera.joined(geoms, _aside(look.distractors, geoms.pos[moving]))
    nominal = [camera.of_view(mj, world.data, view) for view in task.cameras.values()]
    nominal = jax.tree.map(lambda *views: jnp.stack(views), *nominal)

    def take(nominal: Camera, moved: jax.Array, turned: jax.Array, zoom: jax.Array, key: jax.Array) -> Image:
        actual = camera.moved(nominal, moved, turned, zoom)
        image = render(geoms, actual, size, size, look.light, look.background, shadows=ranges.shadows)
        depth_key, colour_key = jax.random.split(key)
        depth = _measured(ranges, image.depth, depth_key)
        points = jnp.where(depth[..., None] > 0, camera.unproject(depth, nominal), jnp.inf)
        rgb = _photographed(ranges, image.rgb * look.exposure, colour_key)
        return image._replace(depth=depth, points=points, rgb=rgb)

    keys = jax.random.split(key, len(task.cameras))
    return jax.vmap(take)(nominal, look.moved, look.turned, look.zoom, keys)


def see_plainly(env: Any, world: Any, size: int, render: Render = camera.render) -> Image:
    """What the cameras of an `episode.Env` see of a world as it is, without randomisation; see `see`."""
    off, mj, key = VISUAL_RANDOMIZATIONS["off"], env.model.mj, jax.random.key(0)
    return see(off, env.task, mj, world, draw(off, env.task, mj, key), size, key, render)


def _measured(ranges: VisualRandomization, depth: jax.Array, key: jax.Array) -> jax.Array:
    """Depth as a sensor gives it."""
    share_key, pixel_key = jax.random.split(key)
    chance = bits_a_pixel(pixel_key, *depth.shape)  # one number a pixel: half of it for noise, half for holes
    holes, edges = jnp.array([ranges.holes, ranges.edges]) * jax.random.uniform(share_key, (2,))
    missing = (chance >> 16) < 2**16 * (jnp.where(_leaps(depth), edges, holes) if ranges.edges else holes)
    if ranges.noise:
        depth = depth + _uniform(ranges.noise, chance & 0xFFFF, 2**16)
    if ranges.quantum:
        depth = 1 / (ranges.quantum * jnp.maximum(jnp.round(1 / (ranges.quantum * depth)), 1.0))
    return jnp.where(missing, 0.0, depth) if ranges.holes or ranges.edges else depth


def _uniform(std: float, chance: jax.Array, below: int) -> jax.Array:
    """A random number of mean 0, for a random integer."""
    return (12**0.5 * std) * (chance.astype(jnp.int32).astype(jnp.float32) / below - 0.5)


def _leaps(depth: jax.Array) -> jax.Array:
    """Whether each pixel of `[height, width]` is 10 mm off the middle between its neighbours, across or along."""
    above, below, left, right = neighbours(depth[None])
    return (jnp.abs(depth - (left + right) / 2) > 0.01)[0] | (jnp.abs(depth - (above + below) / 2) > 0.01)[0]


def _photographed(ranges: VisualRandomization, rgb: jax.Array, key: jax.Array) -> jax.Array:
    """Colours `[height, width, 3]` as a camera gives them, in [0, 1]."""
    share_key, pixel_key = jax.random.split(key)
    rgb = jnp.moveaxis(rgb, -1, 0)  # a CPU's vectors go along the rows
    if ranges.blurred:
        rgb += ranges.blurred * jax.random.uniform(share_key) * (sum(neighbours(rgb)) / 4 - rgb)
    if ranges.grain:
        chance = bits_a_pixel(pixel_key, *rgb.shape[1:])  # one number a pixel, ten bits for a colour
        rgb += _uniform(ranges.grain, chance >> jnp.array([0, 10, 20], jnp.uint32)[:, None, None] & 1023, 1024)
    return jnp.moveaxis(jnp.clip(rgb, 0.0, 1.0), 0, -1)


def neighbours(image: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """What lies above, below, left and right of each pixel of `[n, height, width]`; at an edge the pixel itself."""
    count, height, width = image.shape
    rows = camera.apart(lambda: jnp.concatenate([image[:, :1], image, image[:, -1:]], axis=1).reshape(count, -1))

    def moved(by: int) -> jax.Array:
        return rows[:, width + by : width + by + height * width].reshape(image.shape)

    column = jnp.arange(width)
    left, right = jnp.where(column > 0, moved(-1), image), jnp.where(column < width - 1, moved(1), image)
    return moved(-width), moved(width), left, right


def bits_a_pixel(key: jax.Array, height: int, width: int) -> jax.Array:
    """A random uint32 a pixel, by a hash of its number (Wellons' `lowbias32`), several times faster on a CPU than
    `jax.random.bits`, whose rounds each go through memory."""
    one, other = jax.random.bits(key, (2,))
    at = jnp.arange(width, dtype=jnp.uint32) + width * jnp.arange(height, dtype=jnp.uint32)[:, None]
    at = (at + one) * jnp.uint32(0x9E3779B9) ^ other
    at = (at ^ at >> 16) * jnp.uint32(0x7FEB352D)
    at = (at ^ at >> 15) * jnp.uint32(0x846CA68B)
    return at ^ at >> 16
