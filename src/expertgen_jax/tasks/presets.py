"""Settings of steering that tasks of several families share."""

from collections.abc import Mapping
from typing import Any

STEER: dict[str, Any] = {"noise_mode": "row", "updates": 16, "learner": {"batch_size": 256}}
"""On 256 selection episodes of `block_on_rail` after 8 k episodes, seed 0: without the force-torque sensor and with 4
updates of 512 the whole chunk 11 %, one row 47 %; 8 updates of 512 77 %. With the sensor 8 updates of 512 78 %, 16 of
256, at the same cost, 98 %. On those of `lift_brick` after 2.7 k episodes: the whole chunk and 4 updates of 512 80 %,
these 99.6 %, together with an observation of the yaw that a grasp lacks."""
HISTORY = 3
"""Under randomisation, where what is seen jitters and comes late. On 256 selection episodes of `pin_in_block` at
*strong*, seed 100: after 2.7 k episodes 57 % with 1, 68 % with 3; after 13 k 89 and 93 %."""


def randomized(preset: Mapping[str, Any] | None) -> dict[str, Any]:
    """A task's preset where its physics are randomised."""
    given = dict(preset or {})
    return given | {"steer": {**given.get("steer", {}), "history": HISTORY}}
