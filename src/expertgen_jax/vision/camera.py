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
from flax import struct
from jax.typing import ArrayLike

from expertgen_jax.task import View

FAR = 10.0
"""Depth of what no ray meets (m)."""
AMBIENT = 0.4
"""Share of the light that comes from everywhere."""
LIGHT = np.array([-0.4, 0.4, -0.8])
"""Direction in which the other light travels."""
_EPS = 1e-9


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


class Geoms(struct.PyTreeNode):
    """Shapes in the world, `[n, ...]`.

    Attributes:
      pos: `[n, 3]`; mat: `[n, 3, 3]`; size: `[n, 3]`, as MuJoCo's `geom_size`.
      rgb: `[n, 3]` in [0, 1].
      ids: MuJoCo's numbers of the geoms; types: MuJoCo's types.
    """

    pos: jax.Array
    mat: jax.Array
    size: jax.Array
    rgb: jax.Array
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
    return np.flatnonzero((mj.geom_group < 3) & (geom_rgba(mj)[:, 3] > 0) & np.isin(mj.geom_type, list(_HIT)))


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
        rgb=jnp.asarray(geom_rgba(mj)[ids, :3], jnp.float32),
        ids=tuple(ids.tolist()),
        types=tuple(mj.geom_type[ids].tolist()),
    )


def joined(one: Geoms, other: Geoms) -> Geoms:
    """All shapes of both."""

    def both(name: str) -> jax.Array:
        return jnp.concatenate([getattr(one, name), getattr(other, name)])

    return Geoms(both("pos"), both("mat"), both("size"), both("rgb"), one.ids + other.ids, one.types + other.types)


def render(
    geoms: Geoms, camera: Camera, width: int, height: int, light: ArrayLike = LIGHT, background: ArrayLike = 1.0
) -> Image:
    """Casts one ray through the middle of each pixel.

    One pass over the geoms, of elementwise operations on whole images only, which a compiler fuses; what is not used
    of the result is not computed.

    Args:
      geoms: see `visible`.
      camera: see `Camera`.
      width: of the image.
      height: of the image.
      light: `[3]`, the direction in which light travels.
      background: colour where nothing is, `[3]` or grey.
    """
    x, y = _pixels(camera, width, height)
    towards = -_unit(jnp.asarray(light, jnp.float32))
    # Camera and light in each geom's frame.
    origins = jnp.einsum("nji,nj->ni", geoms.mat, camera.pos - geoms.pos)
    turns = jnp.einsum("nji,jk->nik", geoms.mat, camera.mat)
    lights = geoms.mat.mT @ towards

    depth = jnp.full((height, width), FAR)
    nearest = jnp.full((height, width), -1)
    facing = jnp.zeros((height, width))
    for i, kind in enumerate(geoms.types):
        local = [turns[i, k, 0] * x + (turns[i, k, 1] * y - turns[i, k, 2]) for k in range(3)]
        hit, cosine = _HIT[kind](origins[i], local, geoms.size[i], lights[i])
        nearest = jnp.where(hit < depth, i, nearest)
        facing = jnp.where(hit < depth, cosine, facing)
        depth = jnp.minimum(hit, depth)

    shade = AMBIENT + (1 - AMBIENT) * jnp.maximum(facing, 0.0)
    return Image(
        depth=depth,
        segmentation=jnp.where(nearest < 0, -1, jnp.asarray(geoms.ids, jnp.int32)[nearest]),
        rgb=jnp.where(nearest[..., None] < 0, background, geoms.rgb[nearest] * shade[..., None]),
        points=unproject(depth, camera),
    )


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


# Where rays from an origin `o: [3]` along `d`, three arrays of components, first meet a shape around zero from outside
# (inf where they do not), and the cosine there between the surface's normal and the direction `towards: [3]`.

_Rays = list[jax.Array]


def _nonzero(x: jax.Array) -> jax.Array:
    return jnp.where(jnp.abs(x) < _EPS, _EPS, x)


def _plane(o: jax.Array, d: _Rays, size: jax.Array, towards: jax.Array) -> tuple[jax.Array, jax.Array]:
    t = -o[2] / _nonzero(d[2])
    inside = [(size[k] <= 0) | (jnp.abs(o[k] + t * d[k]) <= size[k]) for k in range(2)]
    return jnp.where(inside[0] & inside[1] & (t > 0) & (o[2] > 0), t, jnp.inf), towards[2]


def _box(o: jax.Array, d: _Rays, size: jax.Array, towards: jax.Array) -> tuple[jax.Array, jax.Array]:
    inverse = [1 / _nonzero(x) for x in d]
    span = [jnp.abs(inverse[k]) * size[k] for k in range(3)]
    enters = [-o[k] * inverse[k] - span[k] for k in range(3)]
    enter = jnp.maximum(jnp.maximum(*enters[:2]), enters[2])
    leaves = [-o[k] * inverse[k] + span[k] for k in range(3)]
    leave = jnp.minimum(jnp.minimum(*leaves[:2]), leaves[2])
    against = [-jnp.sign(d[k]) * towards[k] for k in range(3)]
    cosine = jnp.where(enter == enters[0], against[0], jnp.where(enter == enters[1], against[1], against[2]))
    return jnp.where((enter <= leave) & (enter > 0), enter, jnp.inf), cosine


def _quadratic(a: jax.Array, b: jax.Array, c: jax.Array) -> jax.Array:
    """The smaller root of a t^2 + 2 b t + c, if positive; else inf."""
    inner = b * b - a * c
    t = (-b - jnp.sqrt(jnp.maximum(inner, 0.0))) / jnp.maximum(a, _EPS)
    return jnp.where((inner >= 0) & (t > 0), t, jnp.inf)


def _ball(o: jax.Array, d: _Rays, radius: jax.Array, towards: jax.Array) -> tuple[jax.Array, jax.Array]:
    along, across = d[0] ** 2 + d[1] ** 2 + d[2] ** 2, o[0] * d[0] + o[1] * d[1] + o[2] * d[2]
    t = _quadratic(along, across, o @ o - radius**2)
    return t, (o @ towards + t * (d[0] * towards[0] + d[1] * towards[1] + d[2] * towards[2])) / radius


def _sphere(o: jax.Array, d: _Rays, size: jax.Array, towards: jax.Array) -> tuple[jax.Array, jax.Array]:
    return _ball(o, d, size[0], towards)


def _side(o: jax.Array, d: _Rays, size: jax.Array, towards: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The mantle of a cylinder along z: radius `size[0]`, half length `size[1]`."""
    t = _quadratic(d[0] ** 2 + d[1] ** 2, o[0] * d[0] + o[1] * d[1], o[:2] @ o[:2] - size[0] ** 2)
    cosine = (o[:2] @ towards[:2] + t * (d[0] * towards[0] + d[1] * towards[1])) / size[0]
    return jnp.where(jnp.abs(o[2] + t * d[2]) <= size[1], t, jnp.inf), cosine


def _capsule(o: jax.Array, d: _Rays, size: jax.Array, towards: jax.Array) -> tuple[jax.Array, jax.Array]:
    end = jnp.array([0.0, 0.0, 1.0]) * size[1]
    return _nearer(
        _side(o, d, size, towards), _nearer(_ball(o - end, d, size[0], towards), _ball(o + end, d, size[0], towards))
    )


def _cylinder(o: jax.Array, d: _Rays, size: jax.Array, towards: jax.Array) -> tuple[jax.Array, jax.Array]:
    t = (jnp.sign(o[2]) * size[1] - o[2]) / _nonzero(d[2])
    on_cap = (o[0] + t * d[0]) ** 2 + (o[1] + t * d[1]) ** 2 <= size[0] ** 2
    cap = jnp.where(on_cap & (t > 0) & (jnp.abs(o[2]) > size[1]), t, jnp.inf)
    return _nearer(_side(o, d, size, towards), (cap, jnp.sign(o[2]) * towards[2]))


def _nearer(a: tuple[jax.Array, jax.Array], b: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
    return jnp.minimum(a[0], b[0]), jnp.where(a[0] < b[0], a[1], b[1])


_HIT = {
    mujoco.mjtGeom.mjGEOM_PLANE.value: _plane,
    mujoco.mjtGeom.mjGEOM_SPHERE.value: _sphere,
    mujoco.mjtGeom.mjGEOM_CAPSULE.value: _capsule,
    mujoco.mjtGeom.mjGEOM_CYLINDER.value: _cylinder,
    mujoco.mjtGeom.mjGEOM_BOX.value: _box,
}
"""By MuJoCo's type."""
