"""MJCF building blocks: functions that add a hand, a socket, a table to a `mujoco.MjSpec`."""

from expertgen_jax.scenes.base import empty_scene
from expertgen_jax.scenes.bowl import BOWL_RADIUS, BOWL_RIM, STRAWBERRY_RADIUS, add_bowl, add_strawberry
from expertgen_jax.scenes.fruit import BANANA_RADIUS, BRICK, PEACH_RADIUS, add_banana, add_brick, add_peach
from expertgen_jax.scenes.gears import add_gears
from expertgen_jax.scenes.gripper import OPENING, add_gripper
from expertgen_jax.scenes.hand import HAND_JOINTS, add_force_torque_sensor, add_hand
from expertgen_jax.scenes.joints import Joint, add_joint
from expertgen_jax.scenes.sockets import add_square_hole

__all__ = [
    "BANANA_RADIUS",
    "BOWL_RADIUS",
    "BOWL_RIM",
    "BRICK",
    "HAND_JOINTS",
    "OPENING",
    "PEACH_RADIUS",
    "STRAWBERRY_RADIUS",
    "Joint",
    "add_banana",
    "add_bowl",
    "add_brick",
    "add_force_torque_sensor",
    "add_gears",
    "add_gripper",
    "add_hand",
    "add_joint",
    "add_peach",
    "add_square_hole",
    "add_strawberry",
    "empty_scene",
]
