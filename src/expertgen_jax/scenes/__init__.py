"""MJCF building blocks: functions that add a hand, a socket, a table to a `mujoco.MjSpec`."""

from expertgen_jax.scenes.base import DRY_FRICTION_SEARCH, empty_scene
from expertgen_jax.scenes.bowl import BOWL_RADIUS, BOWL_RIM, add_bowl
from expertgen_jax.scenes.fittings import Fitting, add_fitting
from expertgen_jax.scenes.furniture import DRAWER_FLOOR, DRAWER_INSIDE, HANDLE, add_cabinet, add_mark
from expertgen_jax.scenes.gears import add_gears
from expertgen_jax.scenes.gripper import FINGER_JOINTS, OPENING, add_gripper
from expertgen_jax.scenes.hand import GRIP, HAND_JOINTS, HELD_JOINTS, STIFFNESS, add_force_torque_sensor, add_hand, hold
from expertgen_jax.scenes.panda import PANDA_JOINTS, add_panda
from expertgen_jax.scenes.sockets import add_square_hole
from expertgen_jax.scenes.things import (
    BANANA_LINE,
    BANANA_RADIUS,
    BLOCK,
    BRICK,
    CAN_HEIGHT,
    CAN_RADIUS,
    PEACH_RADIUS,
    PEAR_RADIUS,
    STRAWBERRY_RADIUS,
    add_banana,
    add_block,
    add_brick,
    add_can,
    add_peach,
    add_pear,
    add_strawberry,
)

__all__ = [
    "BANANA_LINE",
    "BANANA_RADIUS",
    "BLOCK",
    "BOWL_RADIUS",
    "BOWL_RIM",
    "BRICK",
    "CAN_HEIGHT",
    "CAN_RADIUS",
    "DRAWER_FLOOR",
    "DRAWER_INSIDE",
    "DRY_FRICTION_SEARCH",
    "FINGER_JOINTS",
    "GRIP",
    "HANDLE",
    "HAND_JOINTS",
    "HELD_JOINTS",
    "OPENING",
    "PANDA_JOINTS",
    "PEACH_RADIUS",
    "PEAR_RADIUS",
    "STIFFNESS",
    "STRAWBERRY_RADIUS",
    "Fitting",
    "add_banana",
    "add_block",
    "add_bowl",
    "add_brick",
    "add_cabinet",
    "add_can",
    "add_fitting",
    "add_force_torque_sensor",
    "add_gears",
    "add_gripper",
    "add_hand",
    "add_mark",
    "add_panda",
    "add_peach",
    "add_pear",
    "add_square_hole",
    "add_strawberry",
    "empty_scene",
    "hold",
]
