"""From a normalised action to actuator commands.

A hand is six joints (`scenes.add_hand`): three slides, then yaw, pitch and roll hinges. Position actuators turn
`ctrl` (the target pose in joint coordinates) into an impedance: a spring and a damper with a capped force, evaluated
by the engine at every substep. So the whole controller state is `data.ctrl`, and a controller is a pure function of
`data` and the action.
"""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float


def moved(
    target: Float[Array, "n"],
    pose: Float[Array, "n"],
    action: Float[Array, "n"],
    step_sizes: Float[ArrayLike, "n"],
    leads: Float[ArrayLike, "n"],
) -> Float[Array, "n"]:
    """A target moved by a scaled action, and kept within `leads` of a pose; see `move_target`."""
    leads = jnp.asarray(leads)
    return jnp.clip(target + step_sizes * jnp.clip(action, -1.0, 1.0), pose - leads, pose + leads)


def move_target(
    data: Any,
    action: Float[Array, "n"],
    step_sizes: Float[ArrayLike, "n"],
    leads: Float[ArrayLike, "n"],
    joints: slice = slice(0, 6),
) -> Float[Array, "nu"]:
    """Moves the impedance target by a scaled action and keeps it close to the hand.

    The target integrates the actions (so that pushing builds up force) and never runs further than `leads` ahead of
    the hand, which bounds the contact force to stiffness times lead.

    Args:
      data: the world; `qpos[joints]` is the hand's pose and `ctrl[joints]` the present target (m, rad).
      action: `[n]` in [-1, 1].
      step_sizes: `[n]`, travel of the target for a full action (m, rad).
      leads: `[n]`, largest distance between target and hand (m, rad).
      joints: where the hand's `n` joints stand in `qpos` and `ctrl`.

    Returns:
      `ctrl: [nu]`.
    """
    return data.ctrl.at[joints].set(moved(data.ctrl[joints], data.qpos[joints], action, step_sizes, leads))


def action_towards(
    data: Any, goal: Float[Array, "n"], step_sizes: Float[ArrayLike, "n"], joints: slice = slice(0, 6)
) -> Float[Array, "n"]:
    """The action `[n]` in [-1, 1] that moves the target of `move_target` towards `goal: [n]` (m, rad)."""
    return jnp.clip((goal - data.ctrl[joints]) / step_sizes, -1.0, 1.0)
