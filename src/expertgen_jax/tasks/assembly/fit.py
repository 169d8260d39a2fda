"""How a plug fits its socket: what the rules, the starts and the demonstrators of an insertion know of it."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from expertgen_jax.scenes import Fitting

CLEARANCE_ABOVE = 0.010
"""Height of the plug at the start above the place where it is free (m)."""
LATERAL_LIMIT = 0.0025
"""Largest lateral error of strict success (m), however loose the fitting."""
SLACK = 1.1
"""Strict success allows for soft contact: so many times the clearance."""
_KINDS = ("pin", "collar", "fork", "rail")


class Fit(NamedTuple):
    """What rules and scripts know of a fitting (m, rad); in `Task.parameters` with a leading axis of variants.

    Attributes:
      play: clearance on each side.
      depth: travel over which plug and socket embrace each other.
      lift: height of the tip above its assembled place at which the plug is free.
      lateral_tolerance: `[2]`, of strict success along the socket's axes.
      yaw_tolerance: of strict success.
      misjudged: standard deviation of the imperfect demonstrator's belief about the socket, constant over an episode.
      shape: `[n]`, what an observation tells of the fitting.
    """

    play: Any
    depth: Any
    lift: Any
    lateral_tolerance: Any
    yaw_tolerance: Any
    misjudged: Any
    shape: Any


def of_fitting(fitting: Fitting, misjudged: float) -> Fit:
    """The fit of a fitting; `shape` tells its kind and its sizes in mm."""
    inside = lateral_tolerance(fitting.play)
    kind = [float(fitting.kind == kind) for kind in _KINDS]
    sizes = [fitting.width, fitting.play, fitting.depth, fitting.height, fitting.length]
    return Fit(
        play=fitting.play,
        depth=fitting.depth,
        lift=fitting.lift,
        # Nothing holds a fork along its bar.
        lateral_tolerance=np.array([inside, LATERAL_LIMIT if fitting.kind == "fork" else inside]),
        yaw_tolerance=SLACK * fitting.yaw_play,
        misjudged=misjudged,
        shape=np.array([*kind, *(1000 * size for size in sizes)]),
    )


def lateral_tolerance(play: float) -> float:
    """Of strict success (m), where the socket holds the plug with this play: inside the clearance."""
    return min(SLACK * play, LATERAL_LIMIT)


def widened(fit: Fit, factor: jax.Array) -> Fit:
    """The same fitting with its play multiplied."""
    free = fit.lateral_tolerance >= LATERAL_LIMIT
    lateral = jnp.where(free, LATERAL_LIMIT, jnp.minimum(fit.lateral_tolerance * factor, LATERAL_LIMIT))
    return fit._replace(play=fit.play * factor, lateral_tolerance=lateral, yaw_tolerance=fit.yaw_tolerance * factor)


@dataclasses.dataclass(frozen=True)
class Starts:
    """Ranges of an episode's start (m, rad).

    Attributes:
      socket: it stands within this distance of the origin, along x and y.
      socket_height: the table, and it on that, stand up to so high.
      socket_yaw: it is turned by 0 to this.
      above: the plug starts so far above the place where it is free.
      lateral: it starts within this distance of the socket's axis, along x and y.
      yaw: it starts turned from the socket about the vertical by up to this; angle: tilted about the other axes.
      socket_error: the socket is seen off by up to this along x and y, constant over an episode.
      yaw_error: it is seen turned by up to this, constant over an episode.
    """

    socket: float = 0.050
    socket_height: float = 0.0
    socket_yaw: float = 0.0
    above: float = CLEARANCE_ABOVE
    lateral: float = 0.020
    yaw: float = float(np.deg2rad(5.0))
    angle: float = float(np.deg2rad(5.0))
    socket_error: float = 0.002
    yaw_error: float = 0.0

    @property
    def turns(self) -> np.ndarray:
        """Of yaw, pitch and roll."""
        return np.array([self.yaw, self.angle, self.angle], np.float32)


class SensorErrors(NamedTuple):
    """What sensors report beside the truth.

    Attributes:
      place: `[2]`, of the socket, at this control step (m); yaw: the same (rad).
      wrench: `[6]`, of force and torque, at this control step; bias: the same, constant over an episode (N, N m).
    """

    place: jax.Array
    yaw: jax.Array
    wrench: jax.Array
    bias: jax.Array


class Context(NamedTuple):
    """An episode.

    Attributes:
      fit: the fitting.
      socket_error: how far off the socket is seen along x, y, z, constant over an episode (m).
      yaw_error: the same of its yaw (rad).
      drawn: `[n]`, what randomisation drew, each in [-1, 1]; critics see it.
      errors: of the sensors, where randomisation has some.
    """

    fit: Fit
    socket_error: jax.Array
    yaw_error: jax.Array
    drawn: jax.Array
    errors: SensorErrors | None = None
