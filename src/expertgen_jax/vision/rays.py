"""Where rays meet shapes, and what their surface looks towards there: analytic, elementwise, in the shape's own frame.

A vector is three components, arrays that broadcast (numbers or whole pictures); a shape's size is as in MuJoCo's
`geom_size`. Each function of `MEET` takes where rays begin, along what they go, and the shape's size, and returns where
along the ray its surface is first met from outside: in lengths of the ray's vector, inf where it is not.

No branch of a `where` divides: LLVM would make it a jump, and then no loop of vectors (ten times slower on a CPU).
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

Vector = Any
Kind = mujoco.mjtGeom

_EPS = 1e-9
_EDGE = 5e-4  # edges are rounded off by this much (m), where light is concerned


def dot(a: Vector, b: Vector) -> jax.Array:
    """The scalar product of vectors given by components."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def cross(a: Vector, b: Vector) -> Vector:
    """The vector product of vectors given by components."""
    return [a[i] * b[j] - a[j] * b[i] for i, j in ((1, 2), (2, 0), (0, 1))]


def plane(o: Vector, d: Vector, size: jax.Array) -> jax.Array:
    """The plane z = 0, from above; bounded by half lengths where these are not 0."""
    t = -o[2] * (1 / _nonzero(d[2]))
    inside = [(size[k] <= 0) | (jnp.abs(o[k] + t * d[k]) <= size[k]) for k in range(2)]
    return jnp.where(inside[0] & inside[1] & (t > 0) & (o[2] > 0), t, jnp.inf)


def box(o: Vector, d: Vector, size: jax.Array) -> jax.Array:
    """A box, of half lengths."""
    inverse = [1 / _nonzero(x) for x in d]
    span = [jnp.abs(inverse[k]) * size[k] for k in range(3)]
    enters = [-o[k] * inverse[k] - span[k] for k in range(3)]
    leaves = [-o[k] * inverse[k] + span[k] for k in range(3)]
    enter = _larger(_larger(*enters[:2]), enters[2])
    leave = _smaller(_smaller(*leaves[:2]), leaves[2])
    return jnp.where((enter <= leave) & (enter > 0), enter, jnp.inf)


def sphere(o: Vector, d: Vector, size: jax.Array) -> jax.Array:
    """A sphere, of radius `size[0]`."""
    return _quadratic(dot(d, d), dot(o, d), dot(o, o) - size[0] ** 2)


def capsule(o: Vector, d: Vector, size: jax.Array) -> jax.Array:
    """A capsule along z: radius `size[0]`, half length of the cylinder `size[1]`."""
    ends = [sphere((o[0], o[1], o[2] + side * size[1]), d, size) for side in (1, -1)]
    return _smaller(_mantle(o, d, size), _smaller(*ends))


def cylinder(o: Vector, d: Vector, size: jax.Array) -> jax.Array:
    """A cylinder along z: radius `size[0]`, half length `size[1]`."""
    t = (jnp.sign(o[2]) * size[1] - o[2]) * (1 / _nonzero(d[2]))
    on_cap = (o[0] + t * d[0]) ** 2 + (o[1] + t * d[1]) ** 2 <= size[0] ** 2
    cap = jnp.where(on_cap & (t > 0) & (jnp.abs(o[2]) > size[1]), t, jnp.inf)
    return _smaller(_mantle(o, d, size), cap)


def _mantle(o: Vector, d: Vector, size: jax.Array) -> jax.Array:
    t = _quadratic(d[0] ** 2 + d[1] ** 2, o[0] * d[0] + o[1] * d[1], o[0] ** 2 + o[1] ** 2 - size[0] ** 2)
    return jnp.where(jnp.abs(o[2] + t * d[2]) <= size[1], t, jnp.inf)


def _quadratic(a: jax.Array, b: jax.Array, c: jax.Array) -> jax.Array:
    """The smaller root of a t^2 + 2 b t + c, if positive; else inf."""
    inner = b * b - a * c
    t = (-b - jnp.sqrt(_larger(inner, 0.0))) * (1 / _larger(a, _EPS))
    return jnp.where((inner >= 0) & (t > 0), t, jnp.inf)


def _larger(a: Any, b: Any) -> jax.Array:  # `jnp.maximum` minds NaN, which takes longer
    return jnp.where(a > b, a, b)


def _smaller(a: Any, b: Any) -> jax.Array:
    return jnp.where(a < b, a, b)


def _nonzero(x: jax.Array) -> jax.Array:
    return jnp.where(jnp.abs(x) < _EPS, _EPS, x)


MEET: dict[int, Callable[[Vector, Vector, jax.Array], jax.Array]] = {
    Kind.mjGEOM_PLANE.value: plane,
    Kind.mjGEOM_SPHERE.value: sphere,
    Kind.mjGEOM_CAPSULE.value: capsule,
    Kind.mjGEOM_CYLINDER.value: cylinder,
    Kind.mjGEOM_BOX.value: box,
}
"""By MuJoCo's type."""


def cores(types: tuple[int, ...], size: jax.Array) -> jax.Array:
    """What lies just beneath the surface of shapes `[n]`, for `normal`, `[n, 5]`: half lengths along the axes, a radius
    about z, and how far below the origin."""
    zero, kinds = jnp.zeros(len(types)), np.array(types)[:, None]
    less, far = jnp.maximum(size - _EDGE, 0.0), zero + jnp.inf
    of = {
        Kind.mjGEOM_PLANE.value: [far, far, zero, zero, zero + 1.0],
        Kind.mjGEOM_SPHERE.value: [zero, zero, zero, zero, zero],
        Kind.mjGEOM_CAPSULE.value: [zero, zero, size[:, 1], zero, zero],
        Kind.mjGEOM_CYLINDER.value: [zero, zero, less[:, 1], less[:, 0], zero],
        Kind.mjGEOM_BOX.value: [less[:, 0], less[:, 1], less[:, 2], zero, zero],
    }
    return jnp.asarray(sum(jnp.where(kinds == kind, jnp.stack(core, axis=1), 0.0) for kind, core in of.items()))


def normal(p: Vector, core: Vector) -> Vector:
    """Normals at points of a surface, of any length: away from the nearest point of the shape's core, see `cores`."""
    p = p[0], p[1], p[2] + core[4]
    out = [p[k] - _larger(_smaller(p[k], core[k]), -core[k]) for k in range(3)]
    beyond = _larger(1 - core[3] * jax.lax.rsqrt(p[0] ** 2 + p[1] ** 2 + _EPS), 0.0)
    return [out[0] * beyond, out[1] * beyond, out[2]]
