"""What is told of a steering that fell short."""

import pytest

from expertgen_jax.runs.diagnosis import advice

STEP = {"phase": "steer", "diverged": 0, "train_episodes": 1000, "q_mean": 0.4, "noise_saturation": 0.6}


def rows(ended="no progress", success=0.5, demos=0.3, trained=(0.3, 0.5, 0.5, 0.5), **last):
    steps = [{**STEP, "train_success": rate} for rate in trained]
    steps[-1] |= last
    end = {"phase": "steered", "ended": ended, "success": success}
    return [{"phase": "demos", "success": demos}, *steps, end]


def test_success_needs_no_advice():
    assert advice(rows("target confirmed", 0.999), 0.99) == ""
    assert advice([], 0.99) == ""


@pytest.mark.parametrize(
    ("given", "cause"),
    [
        (rows(demos=0.0), "No demonstration succeeds"),
        (rows(diverged=50), "diverges in 5.0%"),
        (rows(trained=(0.0, 0.0, 0.0, 0.0), success=0.0), "prior succeeds in 0.0%"),
        (rows("out of episodes", trained=(0.1, 0.2, 0.3, 0.4, 0.5)), "still climbs"),
        (rows("out of episodes", trained=(0.1, 0.6, 0.5, 0.5, 0.5)), "never succeed where"),
        (rows(q_mean=0.8), "Critics expect 80%"),
        (rows(noise_saturation=0.97), "97% of the noise"),
        (rows(), "never succeed where"),
    ],
)
def test_the_likely_cause_is_named(given, cause):
    told = advice(given, 0.99)
    assert cause in told and "When it does not learn" in told and "\n" not in told
    assert "without reaching 99%" in told
