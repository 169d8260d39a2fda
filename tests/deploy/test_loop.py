"""The loop holds its rate, and breaks off in time, in a line, whatever a robot or a policy does."""

import json
import re
import runpy
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from expertgen_jax.deploy import loop
from expertgen_jax.deploy.loop import LoopConfig, Robot

DT, CHUNK, STEPS = 0.02, 4, 24
BENCHMARK = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "faults.py"))
FAULTS, Troubled = BENCHMARK["FAULTS"], BENCHMARK["Troubled"]


class StandIn:
    """A robot of one actuator that does as it is told."""

    def __init__(self):
        self.readings, self.sent, self.stopped_at = 0, [], None

    def read(self):
        self.readings += 1
        return {"qpos": np.zeros(1), "ctrl": np.array([self.sent[-1] if self.sent else 0.0])}

    def look(self):
        return np.zeros(0)

    def send(self, target):
        self.sent.append(float(target[0]))

    def stop(self):
        self.stopped_at = time.monotonic()


class Policy:
    """A pilot that moves by 0.1 a step."""

    def __init__(self, delay=0.0):
        card = {
            "control_dt": DT,
            "horizon": STEPS,
            "output": {"shape": [CHUNK, 1]},
            "inputs": {"pictures": {"shape": [0]}},
            "limits": {"largest_step": [0.15]},
            "actuators": ["slide"],
        }
        self.artefact, self.delay, self.decided = SimpleNamespace(card=card), delay, []

    def decide(self, reading, pictures):
        if not np.isfinite(reading["qpos"]).all():
            raise ValueError("'qpos' holds numbers that are not finite")
        self.decided.append(float(reading["ctrl"][0]))
        time.sleep(self.delay)
        return np.ones((CHUNK, 1))

    def target(self, reading, action):
        if not np.isfinite(reading["ctrl"]).all():
            raise ValueError("'ctrl' holds numbers that are not finite")
        return np.asarray(reading["ctrl"] + 0.1 * action, np.float32)


def drive(robot, policy=None, tmp_path=None, **config):
    log = None if tmp_path is None else tmp_path / "log.jsonl"
    return loop.drive(policy or Policy(), robot, LoopConfig(**config), log)


def test_a_stand_in_is_a_robot():
    assert isinstance(StandIn(), Robot)


def test_it_keeps_the_rate_and_stops_the_robot_in_the_end(tmp_path):
    robot = StandIn()
    began = time.monotonic()
    report = drive(robot, tmp_path=tmp_path)
    spent = time.monotonic() - began
    assert (report.ended, report.success, report.fault) == (loop.TIME_OUT, False, False)
    assert (STEPS - 1) * DT <= spent < 2 * STEPS * DT
    np.testing.assert_allclose(robot.sent, 0.1 * np.arange(1, STEPS + 1), rtol=1e-5)
    assert robot.stopped_at is not None
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows[:-1]] == list(range(STEPS))
    assert rows[-1] == {"ended": loop.TIME_OUT, "fault": False}


def test_it_ends_where_the_task_is_done():
    report = drive(Troubled(StandIn(), lambda reading: {**reading, "done": True}, after=12))
    assert report.success and report.steps == 12


@pytest.mark.parametrize(("ahead", "seen"), [(0, 4), (1, 3), (4, 0)])
def test_a_chunk_that_is_computed_ahead_is_of_what_was_seen_then(ahead, seen):
    policy = Policy()
    drive(StandIn(), policy, ahead=ahead, steps=2 * CHUNK + 1)
    np.testing.assert_allclose(policy.decided[:2], [0.0, 0.1 * seen], atol=1e-6)


def test_thinking_beside_the_execution_costs_no_time():
    report = drive(StandIn(), Policy(delay=0.6 * DT), ahead=2)
    assert report.late_ms[0] < 0.5 * 1000 * DT
    assert report.decide_ms[0] >= 0.6 * 1000 * DT


@pytest.mark.parametrize("kind", FAULTS)
def test_trouble_stops_the_robot_within_100_ms_with_a_line_and_a_whole_log(kind, tmp_path):
    fault = FAULTS[kind]
    robot, policy = Troubled(StandIn(), fault.robot, after=12), Troubled(Policy(), fault.policy, after=1)
    report = drive(robot, policy, tmp_path, ahead=fault.ahead)
    assert report.fault and not report.success
    assert re.search(fault.said, report.ended) and "\n" not in report.ended
    due = (robot.began or policy.began) + fault.ahead * DT
    assert robot.stopped_at - due < 0.15  # the heartbeat of 100 ms, and what the machine adds
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert len(rows) == report.steps + 1 and rows[-1]["fault"]


def test_a_robot_that_does_not_even_stop_holds_nobody_up():
    robot = Troubled(StandIn(), FAULTS["hangs up"].robot, after=12)
    robot.stop = lambda: time.sleep(1.0)
    began = time.monotonic()
    assert drive(robot).fault
    assert time.monotonic() - began < 12 * DT + 0.5


def test_a_robot_may_take_its_time_to_a_start_and_is_halted_on_the_way():
    class Slow(StandIn):
        def read(self):
            if not self.readings:
                time.sleep(0.4)
            return super().read()

    assert drive(Slow()).ended == loop.TIME_OUT
    halt = threading.Event()
    threading.Timer(0.1, halt.set).start()
    robot = Slow()
    assert loop.drive(Policy(), robot, LoopConfig(), None, halt).ended == loop.HALTED and robot.stopped_at


def test_whoever_drives_can_halt_it():
    halt, robot = threading.Event(), StandIn()
    threading.Timer(5 * DT, halt.set).start()
    report = loop.drive(Policy(), robot, LoopConfig(), halt=halt)
    assert report.ended == loop.HALTED and report.steps < STEPS and robot.stopped_at is not None
