"""MJCF building blocks: functions that add a hand, a socket, a table to a `mujoco.MjSpec`."""

from expertgen_jax.scenes.base import empty_scene
from expertgen_jax.scenes.gears import add_gears
from expertgen_jax.scenes.hand import HAND_JOINTS, add_force_torque_sensor, add_hand
from expertgen_jax.scenes.joints import Joint, add_joint
from expertgen_jax.scenes.sockets import add_square_hole

__all__ = [
    "HAND_JOINTS",
    "Joint",
    "add_force_torque_sensor",
    "add_gears",
    "add_hand",
    "add_joint",
    "add_square_hole",
    "empty_scene",
]
