"""Cameras on the device: depth, segmentation, colour and point clouds by analytic rays.

Pure functions of a model, a world and a `Camera`, under `jit` and `vmap`, the same on every device and back end. Rays
meet boxes, spheres, capsules, cylinders and planes; a mesh is not seen. A pixel's ray is `(x, y, -1)` in the camera's
frame, so that its parameter at the hit is the depth as renderers give it: along the optical axis.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from flax import struct
from jax.typing import ArrayLike

from expertgen_jax.task import View
from expertgen_jax.vision.rays import MEET, cores, cross, dot, normal

FAR = 10.0
"""Depth of what no ray meets (m)."""
_EPS = 1e-9
_OFF_SURFACE = 1e-3  # shadow rays start by this share of the depth before what is seen
_CONTRAST = 6.0  # how sharp patterns are: colours blend over a sixth of their range


class Camera(NamedTuple):
    """A pinhole camera; arrays, so that each world can have its own.

    Attributes:
      pos: `[3]` (m).
      mat: `[3, 3]`, columns right, up and back, as in MuJoCo: it looks along its -z.
      fovy: vertical field of view (rad).
    """

    pos: jax.Array
    mat: jax.Array
    fovy: jax.Array


class Light(NamedTuple):
    """How a scene is lit.

    Attributes:
      direction: `[3]`, in which the light of the lamp travels, which is far away.
      ambient: brightness from everywhere; head: from beside the camera; lamp: of the lamp; gloss: of its reflection.
    """

    direction: Any = (-0.4, 0.4, -0.8)
    ambient: ArrayLike = 0.4
    head: ArrayLike = 0.0
    lamp: ArrayLike = 0.6
    gloss: ArrayLike = 0.0


LIGHT = Light()


class Paint(NamedTuple):
    """Colours of geoms, `[n, 3]` each: two, in a pattern that is fixed to the geom.

    Attributes:
      rgb: in [0, 1]; other: likewise.
      cycles: of the pattern along each of the geom's axes (1/m); phase: where it begins (cycles).
    """

    rgb: jax.Array
    other: jax.Array
    cycles: jax.Array
    phase: jax.Array

    @classmethod
    def plain(cls, rgb: jax.Array) -> "Paint":
        """One colour each."""
        return cls(rgb, rgb, jnp.zeros_like(rgb), jnp.zeros_like(rgb))


class Geoms(struct.PyTreeNode):
    """Shapes in the world, `[n, ...]`.

    Attributes:
      pos: `[n, 3]`; mat: `[n, 3, 3]`; size: `[n, 3]`, as MuJoCo's `geom_size`.
      paint: their colours.
      ids: MuJoCo's numbers of the geoms; types: MuJoCo's types.
    """

    pos: jax.Array
    mat: jax.Array
    size: jax.Array
    paint: Paint
    ids: tuple[int, ...] = struct.field(pytree_node=False)
    types: tuple[int, ...] = struct.field(pytree_node=False)


class Image(NamedTuple):
    """What a camera sees, `[height, width, ...]`.

    Attributes:
      depth: (m) along the optical axis; `FAR` where nothing is.
      segmentation: int32, MuJoCo's number of the geom; -1 where nothing is.
      rgb: `[height, width, 3]` in [0, 1].
      points: `[height, width, 3]` (m), in the world.
    """

    depth: jax.Array
    segmentation: jax.Array
    rgb: jax.Array
    points: jax.Array


def look_at(eye: ArrayLike, target: ArrayLike, fovy: ArrayLike = np.pi / 4) -> Camera:
    """A camera at `eye: [3]` that looks at `target: [3]` (m), upright; straight down, with y upwards in the picture."""
    eye = jnp.asarray(eye, jnp.float32)
    back = _unit(eye - jnp.asarray(target, jnp.float32))
    sideways = jnp.array([-back[1], back[0], 0.0])  # z x back
    right = jnp.where(jnp.abs(back[2]) > 1 - 1e-6, jnp.array([1.0, 0.0, 0.0]), _unit(sideways))
    return Camera(eye, jnp.stack([right, jnp.cross(back, right), back], axis=1), jnp.asarray(fovy, jnp.float32))


def frame(mj: mujoco.MjModel, data: Any, body: str) -> tuple[jax.Array, jax.Array]:
    """Origin `[3]` and axes `[3, 3]` (columns) of a body's frame; the world's if `body` is ""."""
    number = mj.body(body or "world").id
    return data.xpos[number], data.xmat[number]


def of_view(mj: mujoco.MjModel, data: Any, view: View) -> Camera:
    """Where a task's camera is now."""
    camera = look_at(jnp.array(view.eye), jnp.array(view.target), view.fovy)
    pos, mat = frame(mj, data, view.body)
    return Camera(pos + mat @ camera.pos, mat @ camera.mat, camera.fovy)


def moved(camera: Camera, by: jax.Array, turn: jax.Array, zoom: jax.Array) -> Camera:
    """A camera moved by `by: [3]` (m) and turned by small angles `turn: [3]` (rad) in its own frame, zoomed out."""
    x, y, z = turn / 2
    turned = camera.mat @ _matrix(_unit(jnp.array([1.0, x, y, z])))
    return Camera(camera.pos + camera.mat @ by, turned, camera.fovy * zoom)


def geom_rgba(mj: mujoco.MjModel) -> np.ndarray:
    """Colours of the geoms `[ngeom, 4]`, their materials' where they have one."""
    return np.where(mj.geom_matid[:, None] >= 0, mj.mat_rgba[mj.geom_matid] if mj.nmat else 0.0, mj.geom_rgba)


def visible_ids(mj: mujoco.MjModel) -> np.ndarray:
    """Numbers of the geoms that `visible` returns."""
    return np.flatnonzero((mj.geom_group < 3) & (geom_rgba(mj)[:, 3] > 0) & np.isin(mj.geom_type, list(MEET)))


def visible(mj: mujoco.MjModel, data: Any, fields: Mapping[str, jax.Array]) -> Geoms:
    """The geoms that a camera sees: opaque, of groups 0 to 2, and of a type that rays can meet.

    Args:
      mj: the compiled model.
      data: the world.
      fields: model fields of this world, see `physics.Model.fields`.
    """
    ids = visible_ids(mj)

    def field(name: str) -> jax.Array:
        return jnp.asarray(fields.get(name, getattr(mj, name)), jnp.float32)[ids]

    body = mj.geom_bodyid[ids]
    xpos, xmat = data.xpos[body], data.xmat[body]
    return Geoms(
        pos=xpos + jnp.einsum("nij,nj->ni", xmat, field("geom_pos")),
        mat=xmat @ jax.vmap(_matrix)(field("geom_quat")),
        size=field("geom_size"),
        paint=Paint.plain(jnp.asarray(geom_rgba(mj)[ids, :3], jnp.float32)),
        ids=tuple(ids.tolist()),
        types=tuple(mj.geom_type[ids].tolist()),
    )


def joined(one: Geoms, other: Geoms) -> Geoms:
    """All shapes of both."""

    shapes = jax.tree.map(
        lambda a, b: jnp.concatenate([a, b]), one.replace(ids=(), types=()), other.replace(ids=(), types=())
    )
    return shapes.replace(ids=one.ids + other.ids, types=one.types + other.types)


@functools.partial(jax.jit, static_argnames=("width", "height", "shadows"))
def render(
    geoms: Geoms,
    camera: Camera,
    width: int,
    height: int,
    light: Light = LIGHT,
    background: ArrayLike = 1.0,
    *,
    shadows: bool = False,
) -> Image:
    """Casts one ray through the middle of each pixel, and, for shadows, one from there to the lamp.

    Elementwise operations on whole pictures, in three passes that give one number a pixel each: what is nearest,
    whether the lamp shines on it, and its colour. A compiler makes one loop of each (see `apart`); what is not used of
    the result is not computed.

    Args:
      geoms: see `visible`.
      camera: see `Camera`.
      width: of the image.
      height: of the image.
      light: see `Light`.
      background: colour where nothing is, `[3]` or grey.
      shadows: things stand in each other's light.
    """
    x, y = _pixels(camera, width, height)
    lamp = -_unit(jnp.asarray(light.direction, jnp.float32))
    # Camera and lamp in each geom's frame.
    origin = jnp.einsum("nji,nj->ni", geoms.mat, camera.pos - geoms.pos)
    turn = jnp.einsum("nji,jk->nik", geoms.mat, camera.mat)
    to_lamp = geoms.mat.mT @ lamp
    nothing = len(geoms.types)  # its number
    numbers = (1 << nothing.bit_length()) - 1

    def rays(turn: Any) -> list[jax.Array]:
        return [turn[k][0] * x + (turn[k][1] * y - turn[k][2]) for k in range(3)]

    def nearest() -> jax.Array:
        """The bits of a depth, which as integers are ordered as depths are; the last ones are the geom's number."""
        far = jnp.float32(FAR).view(jnp.int32) & ~numbers | nothing
        hit = jnp.full((height, width), far)
        for i, kind in enumerate(geoms.types):
            depth = MEET[kind](origin[i], rays(turn[i]), geoms.size[i])
            hit = jnp.minimum(hit, jnp.where(depth < FAR, depth.view(jnp.int32) & ~numbers | i, far))
        return hit

    hit = apart(nearest)
    number = hit & numbers
    depth = jnp.where(number == nothing, FAR, (hit & ~numbers).view(jnp.float32))

    def lamp_shines() -> jax.Array:
        free, before = jnp.ones((height, width), bool), (1 - _OFF_SURFACE) * depth
        for i, kind in enumerate(geoms.types):
            surface = [origin[i][k] + before * along for k, along in enumerate(rays(turn[i]))]
            free &= MEET[kind](surface, to_lamp[i], geoms.size[i]) == jnp.inf
        return free

    paint = geoms.paint
    pattern_of = [paint.other - paint.rgb, paint.cycles, paint.phase]
    of_geoms = [paint.rgb, *pattern_of, origin, turn[:, :2], cores(geoms.types, geoms.size)]
    looks = jnp.concatenate([x.reshape(nothing, -1) for x in of_geoms], axis=1)
    lamp_at = lamp @ camera.mat
    ground = jnp.broadcast_to(jnp.asarray(background, jnp.float32), 3)
    looks = jnp.pad(looks, ((0, 1), (0, 0))).at[nothing, :3].set(ground)
    lit = apart(lamp_shines) if shadows else jnp.ones((height, width), bool)

    def colour() -> jax.Array:
        """Red, green and blue of 0 to 255, in one number."""

        def chosen(values: jax.Array) -> jax.Array:  # faster than by index
            at = values[nothing]
            for i in range(nothing):
                at = jnp.where(number == i, values[i], at)
            return at

        of = iter([chosen(values) for values in looks.T])

        def vector() -> list[jax.Array]:
            return [next(of) for _ in range(3)]

        rgb, change, cycles, phase = (vector() for _ in range(4))
        begins, across, along = (vector() for _ in range(3))
        turn = [across, along, cross(across, along)]  # two of its rows tell the third
        ahead, to_lamp = rays(turn), [dot(row, lamp_at) for row in turn]
        surface = [begins[k] + depth * ahead[k] for k in range(3)]
        upright = normal(surface, [next(of) for _ in range(5)])
        shorter = jax.lax.rsqrt(x**2 + y**2 + 1)
        # Not yet of unit length; what divides has one use each, or XLA:CPU makes many loops of this (twice as slow).
        square = dot(upright, upright) + _EPS**2
        cos_lamp, cos_eye = dot(upright, to_lamp), -dot(upright, ahead) * shorter
        shines, something = [jnp.where(x, 1.0, 0.0) for x in ((cos_lamp > 0) & lit, number != nothing)]
        lamps = (light.head * cos_eye + light.lamp * shines * cos_lamp) * jax.lax.rsqrt(square)
        shade = 1 + something * (light.ambient + lamps - 1)
        # The angle between the normal and the middle between lamp and eye, from those between each two of the three.
        between = (lamp_at[2] - lamp_at[0] * x - lamp_at[1] * y) * shorter
        towards = jnp.maximum(cos_lamp + cos_eye, 0.0)
        half_square = towards**2 / (square * jnp.maximum(2 + 2 * between, _EPS))
        gloss = light.gloss * shines * something * half_square**16
        places = [surface[k] * cycles[k] + phase[k] for k in range(3)]
        pattern = sum(jnp.abs(at - jnp.floor(at) - 0.5) for at in places)
        share = jnp.clip(_CONTRAST * (pattern - 0.75) + 0.5, 0.0, 1.0)
        there = [jnp.clip((rgb[k] + share * change[k]) * shade + gloss, 0.0, 1.0) for k in range(3)]
        red, green, blue = ((255 * part + 0.5).astype(jnp.int32) for part in there)
        return red | green << 8 | blue << 16

    rgb = (apart(colour) >> np.array([0, 8, 16])[:, None, None] & 255).astype(jnp.float32) / 255
    return Image(
        depth=depth,
        segmentation=jnp.array([*geoms.ids, -1], jnp.int32)[number],
        rgb=jnp.moveaxis(rgb, 0, -1),
        points=unproject(depth, camera),
    )


def apart(function: Callable[[], jax.Array]) -> jax.Array:
    """`function()` as a part of a program of its own: on a CPU, XLA would compute it anew, and in pieces, for each of
    its uses (three hundred times slower)."""

    part = jax.jit(function)

    def on_cpu() -> jax.Array:
        never = jax.eval_shape(part)
        known_late = jax.lax.optimization_barrier(jnp.bool_(True))
        return jax.lax.cond(known_late, part, lambda: jnp.zeros(never.shape, never.dtype))

    return jax.lax.platform_dependent(cpu=on_cpu, default=part)


Render = Callable[..., Image]
"""What draws pictures: called like `render`."""


def unproject(depth: jax.Array, camera: Camera) -> jax.Array:
    """Points `[height, width, 3]` in the world (m) at `depth: [height, width]` along the camera's rays."""
    x, y = _pixels(camera, depth.shape[1], depth.shape[0])
    rays = camera.mat[:, 0] * x[:, None] + camera.mat[:, 1] * y[..., None] - camera.mat[:, 2]
    return camera.pos + depth[..., None] * rays


def point_cloud(points: jax.Array, low: ArrayLike, high: ArrayLike, count: int, key: jax.Array) -> jax.Array:
    """`[count, 3]` of `points: [..., 3]` (m) within a box, drawn at random; some repeat where there are too few.

    Args:
      points: of one or more pictures, in the frame of the box.
      low: `[3]`, corner of the box (m).
      high: `[3]`, the opposite corner.
      count: of points.
      key: of the draw.

    Returns:
      The points; the box's middle where none is inside.
    """
    low, high = jnp.asarray(low, jnp.float32), jnp.asarray(high, jnp.float32)
    points = points.reshape(-1, 3)
    inside = ((points > low) & (points < high)).all(-1)
    # Random places of the cumulated count: a draw with replacement, without sorting.
    total = jnp.cumsum(inside)
    wanted = jax.random.randint(key, (count,), 1, jnp.maximum(total[-1], 1) + 1)
    chosen = points[jnp.searchsorted(total, wanted)]
    return jnp.where(total[-1] > 0, chosen, (low + high) / 2)


def _pixels(camera: Camera, width: int, height: int) -> tuple[jax.Array, jax.Array]:
    """Where rays through the middles of pixels meet the plane one metre ahead: x `[width]` and y `[height, 1]`."""
    half = jnp.tan(camera.fovy / 2)
    x = (2 * (jnp.arange(width) + 0.5) / width - 1) * half * width / height
    return x, ((1 - 2 * (jnp.arange(height) + 0.5) / height) * half)[:, None]


def _unit(x: jax.Array) -> jax.Array:
    return x / jnp.linalg.norm(x)


def _matrix(quat: jax.Array) -> jax.Array:
    """Rotation matrix of a unit quaternion w-x-y-z."""
    w, x, y, z = quat
    return jnp.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
