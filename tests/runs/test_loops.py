"""When steering ends, and which of its experts is kept."""

import dataclasses
import math

import jax.numpy as jnp
import pytest

from expertgen_jax.learning.steering import SteerConfig
from expertgen_jax.runs import loops
from expertgen_jax.runs.loops import Best
from expertgen_jax.sim import evaluation

CONFIG = SteerConfig(target=0.99, episodes=10_000, patience=4000)


def best(policy, successes, episodes, confirmed=False, since=0):
    return Best(policy, jnp.int32(successes), jnp.int32(episodes), jnp.bool_(confirmed), jnp.int32(since))


def test_nothing_is_known_at_first():
    none = Best.none("first")
    assert math.isnan(none.success) and none.low == 0.0
    assert none.challenged(best("any", 0, 256)).policy == "any"


def test_the_surer_one_is_kept():
    lucky, sure = best("lucky", 255, 256), best("sure", 1018, 1024, confirmed=True)
    assert lucky.success > sure.success
    assert lucky.low < sure.low
    assert lucky.challenged(sure).policy == "sure" and sure.challenged(lucky).policy == "sure"
    untested = best("untested", 256, 256)
    assert untested.success > sure.success and sure.challenged(untested).policy == "sure"


def test_of_equals_the_later_without_progress():
    old, new = best("old", 250, 256, since=1000), best("new", 250, 256, since=3000)
    assert old.challenged(new).policy == "new"
    assert int(old.challenged(new).since) == 1000
    assert int(old.challenged(best("better", 251, 256, since=3000)).since) == 3000


@pytest.mark.parametrize(
    ("found", "episodes", "reason"),
    [
        (best("", 1024, 1024, confirmed=True), 5000, "target confirmed"),
        (best("", 1021, 1024, confirmed=True), 5000, "target confirmed"),
        (best("", 1019, 1024, confirmed=True, since=5000), 5000, ""),  # 99.5 %, but not surely 99
        (best("", 4096, 4096, since=5000), 5000, ""),  # on the episodes by which it was chosen
        (best("", 200, 256, since=5000), 8999, ""),
        (best("", 200, 256, since=5000), 9000, "no progress"),
        (best("", 200, 256, since=8000), 10_000, "out of episodes"),
        (best("", 0, 0), 3999, ""),
        (best("", 0, 0), 4000, "no progress"),
    ],
)
def test_steering_ends_for_a_reason(found, episodes, reason):
    assert loops.ended(found, episodes, CONFIG.episodes, CONFIG) == reason


def test_a_prediction_covers_two_chances():
    """As many fresh episodes of the same expert lie in it in 95 % of cases, which the plain interval does not do."""
    import numpy as np

    rng = np.random.default_rng(0)
    for rate in (0.5, 0.9, 0.97):
        tried, fresh = rng.binomial(1024, rate, (2, 1000))
        within = [low <= f / 1024 <= high for t, f in zip(tried, fresh, strict=True) for low, high in [interval(t)]]
        assert 0.93 < np.mean(within) < 0.98
        plain = [low <= f / 1024 <= high for t, f in zip(tried, fresh, strict=True) for low, high in [wilson(t)]]
        assert np.mean(plain) < 0.90


def interval(successes):
    return evaluation.predicted(int(successes), 1024, 1024)


def wilson(successes):
    return evaluation.wilson(int(successes), 1024)


def test_an_expert_that_seems_to_be_done_is_evaluated_out_of_turn():
    def due(before, episodes, train_success=0.0, tried=None):
        found = Best.none("") if tried is None else best("", *tried)
        return loops.due(found, before, episodes, train_success, SteerConfig(target=0.9, episodes=6000))

    assert due(1200, 1300) and not due(1300, 1400), "every 1280 episodes"
    assert due(5900, 6000), "at the cap"
    assert due(100, 200, 0.85) and not due(100, 200, 0.8)
    assert due(100, 200, 0.85, (8, 10)) and not due(100, 200, 0.85, (9, 10)), "as good as the best so far"


def test_settings_that_may_change_are_settings():
    from expertgen_jax.runs.settings import GROWING, RunSettings, phase

    for name in GROWING:
        value = RunSettings()
        for part in name.split("."):
            assert part in {field.name for field in dataclasses.fields(value)}, name
            value = getattr(value, part)
    assert [phase(name) for name in ("task", "demo.episodes", "prior.chunk", "num_seeds", "steer.worlds")] == [
        *("demos", "demos", "prior", "steer", "steer")
    ]
