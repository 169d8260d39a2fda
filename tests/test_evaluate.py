"""Evaluation plays fixed episodes, however many side by side."""

import numpy as np
import pytest
from conftest import BACKENDS
from test_rollout import TOY

from expertgen_jax import evaluate, rollout


@pytest.mark.parametrize("backend", BACKENDS)
def test_figures_do_not_depend_on_how_many_play_side_by_side(backend, monkeypatch):
    env, policy = rollout.make_env(TOY, backend), rollout.policy_from_script(TOY.script)
    at_once = evaluate.evaluate(env, policy, (), 10)
    monkeypatch.setattr(evaluate, "SIDE_BY_SIDE", 4)
    assert evaluate.evaluate(env, policy, (), 10) == at_once
    assert at_once["physics"] == backend and at_once["episodes"] == 10
    assert 0 < at_once["success"] <= 1 and np.isfinite(at_once["median_steps"])
