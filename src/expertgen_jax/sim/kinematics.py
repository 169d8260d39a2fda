"""Kinematics of a chain of hinges in plain `jnp`: where its tool is, how it moves, and which joint angles put it there.

Functions are unbatched. Orientations are rotation matrices; as three numbers they are yaw, pitch and roll, turned about
z, then the new y, then the new x (rad), or a rotation vector.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float


class Chain(NamedTuple):
    """A chain of hinges about their own z axes.

    Attributes:
      pos: `[joints + 1, 3]`, where each link is in the one before it at an angle of 0 (m); the last is the tool.
      mat: `[joints + 1, 3, 3]`, how it is turned there.
    """

    pos: np.ndarray
    mat: np.ndarray


class Frames(NamedTuple):
    """Poses in the world: pos `[..., 3]` (m), mat `[..., 3, 3]`."""

    pos: jax.Array
    mat: jax.Array


def forward(chain: Chain, angles: Float[ArrayLike, "joints"]) -> tuple[Frames, Frames]:
    """Where the links `[joints]` and the tool are at these angles (rad)."""

    def link(parent: Frames, at: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[Frames, Frames]:
        pos, mat, angle = at
        here = Frames(parent.pos + parent.mat @ pos, parent.mat @ mat @ about(2, angle))
        return here, here

    pos, mat = (jnp.asarray(x, jnp.float32) for x in chain)
    # A scan: unrolled, XLA's CPU back end computes the first links again for each of the later ones.
    last, links = jax.lax.scan(link, Frames(jnp.zeros(3), jnp.eye(3)), (pos[:-1], mat[:-1], jnp.asarray(angles)))
    return links, Frames(last.pos + last.mat @ pos[-1], last.mat @ mat[-1])


def jacobian(links: Frames, tool: Float[Array, "3"]) -> Float[Array, "6 joints"]:
    """How the tool at `tool: [3]` moves, and turns about the world's axes, with each joint's angle."""
    axes = links.mat[..., 2]
    return jnp.concatenate([jnp.cross(axes, tool - links.pos).T, axes.T])


def inverse(
    chain: Chain, tool: Frames, start: Float[ArrayLike, "joints"], steps: int = 8, damping: float = 1e-4
) -> Float[Array, "joints"]:
    """Joint angles (rad) that put the tool there, by damped least squares from `start`.

    Angles that the tool's pose leaves open stay near those of `start`. Poses within reach are met to a micrometre where
    the start is a posture for the same region.
    """

    def step(angles: jax.Array, _: None) -> tuple[jax.Array, None]:
        links, now = forward(chain, angles)
        error = jnp.concatenate([tool.pos - now.pos, logarithm(tool.mat @ now.mat.T)])
        moves = jacobian(links, now.pos)
        return angles + moves.T @ jnp.linalg.solve(moves @ moves.T + damping * jnp.eye(6), error), None

    return jax.lax.scan(step, jnp.asarray(start, jnp.float32), None, steps)[0]


def about(axis: int, angle: Float[ArrayLike, ""]) -> Float[Array, "3 3"]:
    """The rotation about one of the axes, 0 to 2, by an angle (rad)."""
    return exponential(jnp.asarray(angle) * jnp.eye(3)[axis])


def exponential(vector: Float[Array, "3"]) -> Float[Array, "3 3"]:
    """The rotation about a vector by its length (rad): Rodrigues' formula."""
    angle = jnp.sqrt(jnp.maximum(vector @ vector, 1e-24))
    x, y, z = vector / angle
    zero = jnp.zeros_like(x)
    across = jnp.stack([zero, -z, y, z, zero, -x, -y, x, zero]).reshape(3, 3)
    return jnp.eye(3) + jnp.sin(angle) * across + (1 - jnp.cos(angle)) * across @ across


def logarithm(mat: Float[Array, "3 3"]) -> Float[Array, "3"]:
    """The rotation vector (rad) of a rotation by less than half a turn."""
    twice = jnp.stack([mat[2, 1] - mat[1, 2], mat[0, 2] - mat[2, 0], mat[1, 0] - mat[0, 1]])
    sine = jnp.sqrt(jnp.maximum(twice @ twice, 1e-24)) / 2
    return twice / 2 * jnp.where(sine < 1e-6, 1.0, jnp.arctan2(sine, (jnp.trace(mat) - 1) / 2) / sine)


def turned(angles: Float[ArrayLike, "3"]) -> Float[Array, "3 3"]:
    """The rotation by yaw, pitch and roll (rad)."""
    yaw, pitch, roll = jnp.asarray(angles)
    return about(2, yaw) @ about(1, pitch) @ about(0, roll)


def yaw_pitch_roll(mat: Float[Array, "3 3"]) -> Float[Array, "3"]:
    """The inverse of `turned`, pitch within a quarter of a turn (rad)."""
    pitch = jnp.arctan2(-mat[2, 0], jnp.hypot(mat[2, 1], mat[2, 2]))
    return jnp.stack([jnp.arctan2(mat[1, 0], mat[0, 0]), pitch, jnp.arctan2(mat[2, 1], mat[2, 2])])


def rates(angles: Float[Array, "3"], spin: Float[Array, "3"]) -> Float[Array, "3"]:
    """How fast yaw, pitch and roll change (rad/s) at an angular velocity in the world (rad/s)."""
    yaw, pitch, _ = angles
    x, y, z = about(2, -yaw) @ spin
    roll = x / jnp.cos(pitch)
    return jnp.stack([z + roll * jnp.sin(pitch), y, roll])
