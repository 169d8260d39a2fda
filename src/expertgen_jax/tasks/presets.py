"""Settings of steering that tasks of several families share."""

from typing import Any

STEER: dict[str, Any] = {"noise_mode": "row", "updates": 16, "learner": {"batch_size": 256}}
"""On 256 selection episodes of `block_on_rail` after 8 k episodes, seed 0: without the force-torque sensor and with 4
updates of 512 the whole chunk 11 %, one row 47 %; 8 updates of 512 77 %. With the sensor 8 updates of 512 78 %, 16 of
256, at the same cost, 98 %. On those of `lift_brick` after 2.7 k episodes: the whole chunk and 4 updates of 512 80 %,
these 99.6 %, together with an observation of the yaw that a grasp lacks."""
