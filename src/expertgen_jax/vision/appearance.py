"""Visual domain randomisation: how the world looks differs from episode to episode, and from picture to picture."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import mujoco

from expertgen_jax.task import Level, Task
from expertgen_jax.vision import camera
from expertgen_jax.vision.camera import Geoms, Image

_DISTRACTOR = -2  # in segmentations
_DISTRACTOR_TYPES = (mujoco.mjtGeom.mjGEOM_BOX.value, mujoco.mjtGeom.mjGEOM_SPHERE.value)


@dataclasses.dataclass(frozen=True)
class VisualRandomization:
    """Ranges. Cameras, colours, light and clutter are drawn for an episode, the rest for each picture.

    Attributes:
      moved: how far cameras stand beside their place along each axis, up to (m).
      turned: how far they are turned about each axis, up to (rad).
      zoomed: by what share their field of view differs, up to.
      recoloured: how much of each geom's colour, and of the background's, is a random one, up to (share).
      light: how far the light's direction is turned towards a random one, up to (share).
      distractors: boxes and balls that lie about.
      noise: standard deviation of depth (m).
      holes: share of pixels without a depth, up to; they read 0.
      quantum: depth comes in multiples of this (m); 0 for any.
      stale: how often a picture is late, and the one of the decision before is seen again (share).
    """

    moved: float = 0.0
    turned: float = 0.0
    zoomed: float = 0.0
    recoloured: float = 0.0
    light: float = 0.0
    distractors: int = 0
    noise: float = 0.0
    holes: float = 0.0
    quantum: float = 0.0
    stale: float = 0.0


VISUAL_RANDOMIZATIONS: dict[Level, VisualRandomization] = {
    "off": VisualRandomization(),
    "default": VisualRandomization(0.003, 0.01, 0.02, 0.5, 0.5, 3, 0.0005, 0.01, 0.0005, 0.02),
    "strong": VisualRandomization(0.010, 0.03, 0.05, 1.0, 1.0, 6, 0.0015, 0.05, 0.001, 0.10),
}


class Appearance(NamedTuple):
    """What an episode looks like; views and geoms in the model's order.

    Attributes:
      moved: `[views, 3]`; turned: `[views, 3]`; zoom: `[views]`; see `camera.moved`.
      rgb: `[geoms, 3]`, of what is visible; background: `[3]`.
      light: `[3]`.
      distractors: shapes on the ground around the scene.
    """

    moved: jax.Array
    turned: jax.Array
    zoom: jax.Array
    rgb: jax.Array
    background: jax.Array
    light: jax.Array
    distractors: Geoms


def draw(ranges: VisualRandomization, task: Task, mj: mujoco.MjModel, key: jax.Array) -> Appearance:
    """The appearance of an episode."""
    views, keys = len(task.cameras), jax.random.split(key, 10)
    ids = camera.visible_ids(mj)

    def within(key: jax.Array, bound: float, *shape: int) -> jax.Array:
        return bound * jax.random.uniform(key, shape, minval=-1.0)

    nominal = jnp.concatenate([jnp.asarray(camera.geom_rgba(mj)[ids, :3], jnp.float32), jnp.ones((1, 3))])
    share = ranges.recoloured * jax.random.uniform(keys[3], (len(nominal), 1))
    rgb = (1 - share) * nominal + share * jax.random.uniform(keys[4], nominal.shape)
    nominal_light = jnp.asarray(camera.LIGHT, jnp.float32) / jnp.linalg.norm(camera.LIGHT)
    share = ranges.light * jax.random.uniform(keys[5])
    light = (1 - share) * nominal_light + share * jax.random.normal(keys[6], (3,)) * jnp.array([0.5, 0.5, 0.0])
    return Appearance(
        moved=within(keys[0], ranges.moved, views, 3),
        turned=within(keys[1], ranges.turned, views, 3),
        zoom=1 + within(keys[2], ranges.zoomed, views),
        rgb=rgb[:-1],
        background=rgb[-1],
        light=light,
        distractors=_distractors(ranges.distractors, keys[7]),
    )


def _distractors(count: int, key: jax.Array) -> Geoms:
    """Boxes and balls of 1 to 3 cm on the ground, between 12 and 25 cm from the origin."""
    keys = jax.random.split(key, 4)
    around = jax.random.uniform(keys[0], (count,), maxval=2 * jnp.pi)
    away = jax.random.uniform(keys[1], (count,), minval=0.12, maxval=0.25)
    size = jax.random.uniform(keys[2], (count, 3), minval=0.01, maxval=0.03)
    size = size.at[1::2, 2].set(size[1::2, 0])  # of a ball its radius
    zero, one = jnp.zeros(count), jnp.ones(count)
    cos, sin = jnp.cos(around), jnp.sin(around)
    return Geoms(
        pos=jnp.stack([away * cos, away * sin, size[:, 2]], axis=1),
        mat=jnp.stack([cos, -sin, zero, sin, cos, zero, zero, zero, one], axis=1).reshape(count, 3, 3),
        size=size,
        rgb=jax.random.uniform(keys[3], (count, 3)),
        ids=(_DISTRACTOR,) * count,
        types=tuple(_DISTRACTOR_TYPES[i % 2] for i in range(count)),
    )


def see(
    ranges: VisualRandomization, task: Task, mj: mujoco.MjModel, world: Any, look: Appearance, size: int, key: jax.Array
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
    """
    geoms = camera.visible(mj, world.data, world.fields).replace(rgb=look.rgb)
    geoms = camera.joined(geoms, look.distractors)
    pictures = []
    for i, view in enumerate(task.cameras.values()):
        nominal = camera.of_view(mj, world.data, view)
        actual = camera.moved(nominal, look.moved[i], look.turned[i], look.zoom[i])
        image = camera.render(geoms, actual, size, size, look.light, look.background)
        depth = _measured(ranges, image.depth, jax.random.fold_in(key, i))
        points = jnp.where(depth[..., None] > 0, camera.unproject(depth, nominal), jnp.inf)
        pictures.append(image._replace(depth=depth, points=points))
    return jax.tree.map(lambda *views: jnp.stack(views), *pictures)


def see_plainly(env: Any, world: Any, size: int) -> Image:
    """What the cameras of an `episode.Env` see of a world as it is, without randomisation; see `see`."""
    off, mj, key = VISUAL_RANDOMIZATIONS["off"], env.model.mj, jax.random.key(0)
    return see(off, env.task, mj, world, draw(off, env.task, mj, key), size, key)


def _measured(ranges: VisualRandomization, depth: jax.Array, key: jax.Array) -> jax.Array:
    """Depth as a sensor gives it."""
    noise_key, share_key, hole_key = jax.random.split(key, 3)
    if ranges.noise:
        depth = depth + ranges.noise * jax.random.normal(noise_key, depth.shape)
    if ranges.quantum:
        depth = ranges.quantum * jnp.round(depth / ranges.quantum)
    if ranges.holes:
        share = ranges.holes * jax.random.uniform(share_key)
        depth = jnp.where(jax.random.uniform(hole_key, depth.shape) < share, 0.0, depth)
    return depth
