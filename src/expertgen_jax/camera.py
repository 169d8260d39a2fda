"""Cameras on the device: depth, segmentation, colour and point clouds by analytic rays.

Pure functions of a model, a world and a `Camera`, under `jit` and `vmap`, the same on every device and back end. Rays
meet boxes, spheres, capsules, cylinders and planes; a mesh is not seen. A pixel's ray is `(x, y, -1)` in the camera's
frame, so that its parameter at the hit is the depth as renderers give it: along the optical axis.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from jax.typing import ArrayLike

from expertgen_jax.physics import Model

FAR = 10.0
"""Depth of what no ray meets (m)."""
AMBIENT = 0.4
"""Share of the light that comes from everywhere."""
LIGHT = np.array([-0.4, 0.4, -0.8])
"""Direction in which the other light travels."""
_EPS = 1e-9
_TYPES = {
    name: int(getattr(mujoco.mjtGeom, f"mjGEOM_{name.upper()}"))
    for name in ("plane", "sphere", "capsule", "cylinder", "box")
}


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


class Geoms(NamedTuple):
    """Shapes in the world, `[n, ...]`.

    Attributes:
      pos: `[n, 3]`; mat: `[n, 3, 3]`; size: `[n, 3]`, as MuJoCo's `geom_size`.
      rgb: `[n, 3]` in [0, 1].
      ids: `[n]`, MuJoCo's numbers of the geoms; static.
      types: `[n]`, MuJoCo's types; static.
    """

    pos: jax.Array
    mat: jax.Array
    size: jax.Array
    rgb: jax.Array
    ids: np.ndarray
    types: np.ndarray


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
    """A camera at `eye: [3]` that looks at `target: [3]` (m), upright."""
    eye = jnp.asarray(eye, jnp.float32)
    back = eye - jnp.asarray(target, jnp.float32)
    back /= jnp.linalg.norm(back)
    right = jnp.cross(jnp.array([0.0, 0.0, 1.0]), back)
    right /= jnp.linalg.norm(right)
    return Camera(eye, jnp.stack([right, jnp.cross(back, right), back], axis=1), jnp.asarray(fovy, jnp.float32))


def on_body(data: Any, body: int, camera: Camera) -> Camera:
    """A camera whose pose is given in the frame of a body, such as a wrist's."""
    pos, mat = data.xpos[body], data.xmat[body]
    return Camera(pos + mat @ camera.pos, mat @ camera.mat, camera.fovy)


def geom_rgba(mj: mujoco.MjModel) -> np.ndarray:
    """Colours of the geoms `[ngeom, 4]`, their materials' where they have one."""
    return np.where(mj.geom_matid[:, None] >= 0, mj.mat_rgba[mj.geom_matid] if mj.nmat else 0.0, mj.geom_rgba)


def visible(model: Model, data: Any, fields: Mapping[str, jax.Array]) -> Geoms:
    """The geoms that a camera sees: opaque, of groups 0 to 2, and of a type that rays can meet.

    Args:
      model: the model.
      data: the world.
      fields: model fields of this world, see `physics.Model.fields`.
    """
    mj = model.mj
    rgba = geom_rgba(mj)
    seen = (mj.geom_group < 3) & (rgba[:, 3] > 0) & np.isin(mj.geom_type, list(_TYPES.values()))
    ids = np.flatnonzero(seen)
    given = {**model.fields, **fields}

    def field(name: str) -> jax.Array:
        return jnp.asarray(given.get(name, getattr(mj, name)), jnp.float32)[ids]

    body = mj.geom_bodyid[ids]
    xpos, xmat = data.xpos[body], data.xmat[body]
    return Geoms(
        pos=xpos + jnp.einsum("nij,nj->ni", xmat, field("geom_pos")),
        mat=xmat @ jax.vmap(_matrix)(field("geom_quat")),
        size=field("geom_size"),
        rgb=jnp.asarray(rgba[ids, :3], jnp.float32),
        ids=ids,
        types=mj.geom_type[ids],
    )


def render(geoms: Geoms, camera: Camera, width: int, height: int, light: ArrayLike = LIGHT) -> Image:
    """Casts one ray through the middle of each pixel.

    Args:
      geoms: see `visible`.
      camera: see `Camera`.
      width: of the image.
      height: of the image.
      light: `[3]`, the direction in which light travels.
    """
    rays = _rays(camera, width, height)  # [pixels, 3], in the world
    hits, order = [], []
    for name, number in _TYPES.items():
        chosen = np.flatnonzero(geoms.types == number)
        if not len(chosen):
            continue
        pos, mat, size = geoms.pos[chosen], geoms.mat[chosen], geoms.size[chosen]
        origin = jnp.einsum("nji,nj->ni", mat, camera.pos - pos)
        direction = jnp.einsum("nji,pj->npi", mat, rays)
        hits.append(jax.vmap(_HIT[name])(origin, direction, size))
        order.append(chosen)
    depths = jnp.concatenate(hits)  # [n, pixels]
    nearest = depths.argmin(0)
    depth = jnp.minimum(jnp.take_along_axis(depths, nearest[None], axis=0)[0], FAR)
    hit = depth < FAR
    which = jnp.asarray(np.concatenate(order))[nearest]
    points = camera.pos + depth[:, None] * rays
    local = jnp.einsum("pji,pj->pi", geoms.mat[which], points - geoms.pos[which])
    normal = jnp.einsum(
        "pij,pj->pi", geoms.mat[which], _normal(jnp.asarray(geoms.types)[which], local, geoms.size[which])
    )
    towards = -jnp.asarray(light, jnp.float32)
    towards /= jnp.linalg.norm(towards)
    shade = AMBIENT + (1 - AMBIENT) * jnp.maximum(normal @ towards, 0.0)
    rgb = jnp.where(hit[:, None], geoms.rgb[which] * shade[:, None], 1.0)
    segmentation = jnp.where(hit, jnp.asarray(geoms.ids, jnp.int32)[which], -1)
    shape = (height, width)
    return Image(depth.reshape(shape), segmentation.reshape(shape), rgb.reshape(*shape, 3), points.reshape(*shape, 3))


def point_cloud(image: Image, low: ArrayLike, high: ArrayLike, count: int, key: jax.Array) -> jax.Array:
    """`[count, 3]` points (m) of the image within a box, drawn at random; some repeat where there are too few.

    Args:
      image: see `render`.
      low: `[3]`, corner of the box (m).
      high: `[3]`, the opposite corner.
      count: of points.
      key: of the draw.

    Returns:
      The points; the box's middle where none is inside.
    """
    low, high = jnp.asarray(low, jnp.float32), jnp.asarray(high, jnp.float32)
    points = image.points.reshape(-1, 3)
    inside = ((points > low) & (points < high)).all(-1) & (image.depth.reshape(-1) < FAR)
    # Random places of the cumulated count: a draw with replacement, without sorting.
    total = jnp.cumsum(inside)
    wanted = jax.random.randint(key, (count,), 1, jnp.maximum(total[-1], 1) + 1)
    chosen = points[jnp.searchsorted(total, wanted)]
    return jnp.where(total[-1] > 0, chosen, (low + high) / 2)


def _rays(camera: Camera, width: int, height: int) -> jax.Array:
    half = jnp.tan(camera.fovy / 2)
    x = (2 * (jnp.arange(width) + 0.5) / width - 1) * half * width / height
    y = (1 - 2 * (jnp.arange(height) + 0.5) / height) * half
    grid = jnp.stack(jnp.meshgrid(x, y), axis=-1).reshape(-1, 2)
    rays = jnp.concatenate([grid, -jnp.ones((len(grid), 1))], axis=1)
    return rays @ camera.mat.T


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


# Where rays from an origin `o: [3]` along `d: [pixels, 3]` meet a shape around zero, `[pixels]`; inf where they do not.


def _plane(o: jax.Array, d: jax.Array, size: jax.Array) -> jax.Array:
    t = -o[2] / jnp.where(jnp.abs(d[:, 2]) < _EPS, _EPS, d[:, 2])
    place = jnp.abs(o[:2] + t[:, None] * d[:, :2])
    inside = ((size[:2] <= 0) | (place <= size[:2])).all(-1)
    return jnp.where(inside & (t > 0) & (o[2] > 0), t, jnp.inf)


def _box(o: jax.Array, d: jax.Array, size: jax.Array) -> jax.Array:
    inverse = 1 / jnp.where(jnp.abs(d) < _EPS, _EPS, d)
    a, b = (-size - o) * inverse, (size - o) * inverse
    enter, leave = jnp.minimum(a, b).max(-1), jnp.maximum(a, b).min(-1)
    return jnp.where((enter <= leave) & (enter > 0), enter, jnp.inf)


def _quadratic(a: jax.Array, b: jax.Array, c: jax.Array) -> jax.Array:
    """The smaller root of a t^2 + 2 b t + c, if positive; else inf."""
    inner = b * b - a * c
    t = (-b - jnp.sqrt(jnp.maximum(inner, 0.0))) / jnp.maximum(a, _EPS)
    return jnp.where((inner >= 0) & (t > 0), t, jnp.inf)


def _ball(o: jax.Array, d: jax.Array, radius: jax.Array) -> jax.Array:
    return _quadratic((d * d).sum(-1), d @ o, o @ o - radius**2)


def _sphere(o: jax.Array, d: jax.Array, size: jax.Array) -> jax.Array:
    return _ball(o, d, size[0])


def _side(o: jax.Array, d: jax.Array, size: jax.Array) -> jax.Array:
    """The mantle of a cylinder along z: radius `size[0]`, half length `size[1]`."""
    t = _quadratic((d[:, :2] ** 2).sum(-1), d[:, :2] @ o[:2], o[:2] @ o[:2] - size[0] ** 2)
    return jnp.where(jnp.abs(o[2] + t * d[:, 2]) <= size[1], t, jnp.inf)


def _capsule(o: jax.Array, d: jax.Array, size: jax.Array) -> jax.Array:
    end = jnp.array([0.0, 0.0, 1.0]) * size[1]
    balls = jnp.minimum(_ball(o - end, d, size[0]), _ball(o + end, d, size[0]))
    return jnp.minimum(_side(o, d, size), balls)


def _cylinder(o: jax.Array, d: jax.Array, size: jax.Array) -> jax.Array:
    t = (jnp.sign(o[2]) * size[1] - o[2]) / jnp.where(jnp.abs(d[:, 2]) < _EPS, _EPS, d[:, 2])
    on_cap = ((o[:2] + t[:, None] * d[:, :2]) ** 2).sum(-1) <= size[0] ** 2
    return jnp.minimum(_side(o, d, size), jnp.where(on_cap & (t > 0) & (jnp.abs(o[2]) > size[1]), t, jnp.inf))


_HIT = {"plane": _plane, "sphere": _sphere, "capsule": _capsule, "cylinder": _cylinder, "box": _box}


def _normal(types: jax.Array, local: jax.Array, size: jax.Array) -> jax.Array:
    """Outward normals `[pixels, 3]` at points on shapes of the given types, in the shapes' frames."""
    up = jnp.array([0.0, 0.0, 1.0])
    share = local / jnp.maximum(size, _EPS)
    box = jnp.sign(local) * (jnp.abs(share) >= jnp.abs(share).max(-1, keepdims=True))
    half = jnp.where(types == _TYPES["sphere"], 0.0, size[:, 1])
    round_ = local.at[:, 2].add(-jnp.clip(local[:, 2], -half, half))
    cap = (types == _TYPES["cylinder"]) & (jnp.abs(local[:, 2]) > size[:, 1] - 1e-6)
    normal = jnp.where(cap[:, None], jnp.sign(local) * up, round_)
    normal = jnp.where((types == _TYPES["box"])[:, None], box, normal)
    normal = jnp.where((types == _TYPES["plane"])[:, None], up, normal)
    return normal / jnp.maximum(jnp.linalg.norm(normal, axis=-1, keepdims=True), _EPS)
