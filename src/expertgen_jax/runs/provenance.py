"""Where figures come from."""

import os
import platform
from importlib import metadata
from typing import Any

import jax

PACKAGES = ("expertgen-jax", "jax", "flax", "optax", "mujoco", "mujoco-mjx", "orbax-checkpoint", "numpy")


def provenance() -> dict[str, Any]:
    """Versions of the packages and the machine's kind: `device`, `python`, `versions`."""
    device = jax.devices()[0]
    return {
        "device": device.device_kind if device.platform != "cpu" else f"{platform.machine()} x {os.cpu_count()} cores",
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in PACKAGES},
    }
