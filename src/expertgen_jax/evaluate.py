"""Evaluation on fixed keys that nothing is ever trained or selected on."""

from typing import Any

import jax

from expertgen_jax import metrics, rollout
from expertgen_jax.rollout import Env, Policy

EVALUATION_SEED = 20260315
"""Reported figures come from these episodes."""
SELECTION_SEED = 250522642
"""The best expert of a run is chosen on these."""


def evaluate(env: Env, policy: Policy, params: Any, episodes: int) -> dict[str, Any]:
    """Plays the evaluation episodes to their ends; see `metrics.summarize` for the figures."""
    worlds = rollout.run(env, policy, params, jax.random.key(EVALUATION_SEED), episodes)
    figures = metrics.summarize(env, worlds)
    return {"physics": env.model.backend, **figures}
