"""Evaluation on fixed keys that nothing is ever trained or selected on."""

from typing import Any

import jax
import numpy as np

from expertgen_jax import metrics, rollout
from expertgen_jax.rollout import Env, Policy

EVALUATION_SEED = 20260315
"""Reported figures come from these episodes."""
SELECTION_SEED = 250522642
"""The best expert of a run is chosen on these."""

SIDE_BY_SIDE = 1024
"""Episodes at a time, for the sake of memory."""


def evaluate(env: Env, policy: Policy, params: Any, episodes: int) -> dict[str, Any]:
    """Plays the evaluation episodes to their ends; see `metrics.summarize` for the figures."""
    key = jax.random.key(EVALUATION_SEED)
    parts = [
        jax.device_get(rollout.run(env, policy, params, key, min(SIDE_BY_SIDE, episodes - first), first))
        for first in range(0, episodes, SIDE_BY_SIDE)
    ]
    worlds = jax.tree.map(lambda *arrays: np.concatenate(arrays), *parts)
    figures = metrics.summarize(env, worlds)
    return {"physics": env.model.backend, **figures}
