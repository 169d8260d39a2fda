"""Intervals against published values, the summary of episodes made by hand, and evaluation side by side."""

import json
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pressing import BACKENDS
from toy import TOY

from expertgen_jax.sim import episode, evaluation, rollout
from expertgen_jax.sim.episode import Env, World
from expertgen_jax.sim.rollout import Agent, Policy


@pytest.mark.parametrize(
    ("successes", "episodes", "low", "high"),
    [
        # Newcombe 1998, Statistics in Medicine 17, table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
        # scipy.stats.binomtest(k, n).proportion_ci(method="wilson")
        (10, 10, 0.7225, 1.0000),
        (0, 10, 0.0000, 0.2775),
        (50, 100, 0.4038, 0.5962),
    ],
)
def test_wilson_matches_published_intervals(successes, episodes, low, high):
    assert evaluation.wilson(successes, episodes) == pytest.approx((low, high), abs=6e-5)


def test_wilson_is_symmetric_contains_the_rate_and_narrows():
    for successes in range(21):
        low, high = evaluation.wilson(successes, 20)
        assert 0 <= low <= successes / 20 <= high <= 1
        mirrored = evaluation.wilson(20 - successes, 20)
        assert (1 - mirrored[1], 1 - mirrored[0]) == pytest.approx((low, high))
        wide, narrow = evaluation.wilson(successes, 20), evaluation.wilson(100 * successes, 2000)
        assert narrow[1] - narrow[0] < wide[1] - wide[0]


def test_wilson_at_one_standard_deviation():
    # z = 1: (k + 1/2 -+ sqrt(k (n - k) / n + 1/4)) / (n + 1)
    assert evaluation.wilson(3, 12, z=1.0) == pytest.approx(((3.5 - 2.5**0.5) / 13, (3.5 + 2.5**0.5) / 13))


@pytest.mark.parametrize("episodes", [1, 3, 10, 256, 1000, 1024, 4608])
def test_wilson_holds_the_rate_itself(episodes):
    assert evaluation.wilson(episodes, episodes)[1] == 1.0
    assert evaluation.wilson(0, episodes)[0] == 0.0


def test_no_episodes_say_nothing():
    assert evaluation.wilson(0, 0) == (0.0, 1.0)


def make_env(lenient=True, final_pose=True):
    task = SimpleNamespace(
        variants=("round", "square", "unseen"),
        lenient=(lambda data, context: True) if lenient else None,
        final_pose=(lambda data, context: {"depth": data, "error": context - data}) if final_pose else None,
    )
    return Env(model=None, parameters=None, task=task, nstep=1)


def make_worlds(success, lenient, diverged):
    """Five ended episodes: depth 0, 1, 2, 3, 4 of 10; steps 10, 20, 30, 40, 50."""

    def flags(bits):
        return jnp.array([bit == "1" for bit in bits])

    return World(
        key=jax.random.split(jax.random.key(0), 5),
        data=jnp.arange(5.0),
        context=jnp.full(5, 10.0),
        fields={},
        variant=jnp.array([0, 1, 0, 1, 1]),
        obs=jnp.zeros((5, 1)),
        privileged=jnp.zeros((5, 0)),
        delays=jnp.zeros((5, 2), int),
        unseen=jnp.zeros((5, 0, 1)),
        unsent=jnp.zeros((5, 0, 1)),
        steps=jnp.arange(10, 60, 10),
        held=jnp.zeros(5, int),
        success=flags(success),
        lenient=flags(lenient),
        diverged=flags(diverged),
    )


def test_summary_of_mixed_episodes():
    summary = evaluation.summarize(make_env(), make_worlds("01101", "01010", "10000"))
    assert summary["success"] == pytest.approx(0.6)
    assert summary["ci95"] == evaluation.wilson(3, 5)
    assert {name: (x["success"], x["episodes"]) for name, x in summary["variants"].items()} == {
        "round": (0.5, 2),
        "square": (pytest.approx(2 / 3), 3),
    }
    assert summary["variants"]["square"]["ci95"] == evaluation.wilson(2, 3)
    assert summary["variants"]["square"]["ci95_lenient"] == evaluation.wilson(3, 3)
    assert summary["success_lenient"] == pytest.approx(0.8)  # a strict success is a lenient one, seen or not
    assert summary["ci95_lenient"] == evaluation.wilson(4, 5)
    assert summary["episodes"] == 5
    assert summary["diverged"] == 1
    assert summary["median_steps"] == 30.0  # of 20, 30, 50
    # of depths 1, 2 and 4 only
    assert evaluation.QUANTILES == (0.0, 0.25, 0.5, 0.75, 0.95, 1.0)
    assert summary["final_pose"]["depth"] == pytest.approx([1.0, 1.5, 2.0, 3.0, 3.8, 4.0])
    assert summary["final_pose"]["error"] == pytest.approx([6.0, 7.0, 8.0, 8.5, 8.9, 9.0])
    assert json.loads(json.dumps(summary))["success"] == summary["success"]  # plain numbers


def test_summary_without_success():
    summary = evaluation.summarize(make_env(), make_worlds("00000", "00000", "00000"))
    assert summary["success"] == 0.0
    assert summary["ci95"] == evaluation.wilson(0, 5)
    assert summary["median_steps"] is None
    assert summary["final_pose"] == {}


def test_summary_of_a_task_without_extras():
    summary = evaluation.summarize(make_env(lenient=False, final_pose=False), make_worlds("11111", "11111", "00000"))
    assert summary["success"] == 1.0
    assert summary["success_lenient"] is None
    assert summary["ci95_lenient"] is None
    assert summary["final_pose"] == {}


@pytest.mark.parametrize("backend", BACKENDS)
def test_figures_do_not_depend_on_how_many_play_side_by_side(backend, monkeypatch):
    env, script = episode.make_env(TOY, backend), rollout.scripted_agent(TOY)
    at_once = evaluation.evaluate(env, script, 10)
    monkeypatch.setattr(evaluation, "AT_ONCE", 4)
    assert evaluation.evaluate(env, script, 10) == at_once
    assert at_once["physics"] == backend and at_once["episodes"] == 10
    assert 0 < at_once["success"] <= 1 and np.isfinite(at_once["median_steps"])


def test_what_still_holds_later_is_told_apart():
    """A bead that an agent brings to its goal stays there if nobody moves it on."""

    def leave(params, memory, world, key):
        there = jnp.abs(world.data.qpos - 0.2) < 0.005
        gone = memory | (there.all() & (world.steps >= 2))
        return gone, jnp.where(gone, 0.9, jnp.clip((0.2 - world.data.ctrl) / 0.1, -0.5, 0.5))[None]

    env = episode.make_env(TOY, "native")
    staying = evaluation.lasting(env, rollout.scripted_agent(TOY), 8)
    assert staying == {"acting": 1.0, "still": 1.0}
    leaving = Agent("leaving", Policy(1, lambda key: jnp.bool_(False), leave))
    assert evaluation.lasting(env, leaving, 8) == {"acting": 0.0, "still": 1.0}
    lazy = rollout.untrained_agents(TOY)["zero"]
    assert evaluation.lasting(env, lazy, 8) == {"acting": None, "still": None}


def test_the_best_that_can_be_is_predicted_where_nearly_all_succeeded():
    low, high = evaluation.predicted(1023, 1024, 1024)
    assert high == 1.0 and 0.98 < low < 0.995 and low * 1024 == round(low * 1024)
