"""The loop that drives a robot at a fixed rate: read, decide when a chunk is over, check, send, log."""

import concurrent.futures
import contextlib
import dataclasses
import functools
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import numpy as np

from expertgen_jax.bounds import Count, Positive
from expertgen_jax.deploy.artefact import Pilot, Reading

T = TypeVar("T")


@runtime_checkable
class Robot(Protocol):
    """A robot, as the loop knows it. Whatever a call raises ends the episode."""

    def read(self) -> Reading:
        """What it measures, in the fields that the card's `state.read` names; where `done` is among them and true, the
        task is finished; `stopped` says why it stands still. The first call of an episode may take as long as the way
        to its start; the others are to be answered within the heartbeat."""

    def look(self) -> np.ndarray:
        """Pictures, of the shape and unit that the card's `inputs.pictures` gives."""

    def send(self, target: np.ndarray) -> None:
        """Commands its actuators, `[nu]`, in the order of the card's `actuators`."""

    def stop(self) -> None:
        """Holds its place."""


@dataclasses.dataclass(frozen=True)
class LoopConfig:
    """The loop."""

    heartbeat: Positive = 0.1
    """Seconds within which a robot must answer; then it is told to stop."""
    ahead: int = 0
    """Control steps before the end of a chunk at which the next one is computed beside its execution, from what is seen
    then; at 0 it is computed between two steps, from what is seen last."""
    steps: Count | None = None
    """Control steps of an episode; by default the task's horizon."""


class Report(NamedTuple):
    """How an episode went.

    Attributes:
      ended: why, in a line; success: the task was done; fault: it was broken off.
      steps: control steps; missed: of these, sent later than a whole step.
      late_ms: from a step's time until its target was sent, median and largest.
      decide_ms: to see and to decide, likewise.
    """

    ended: str
    success: bool
    fault: bool
    steps: int
    missed: int
    late_ms: tuple[float, float]
    decide_ms: tuple[float, float]


class FaultError(Exception):
    """Why an episode is broken off, in a line."""


def drive(
    pilot: Pilot,
    robot: Robot,
    config: LoopConfig = LoopConfig(),
    log: Path | None = None,
    halt: threading.Event | None = None,
) -> Report:
    """Drives an episode to its end, and stops the robot whatever happens.

    Args:
      pilot: the policy.
      robot: at the episode's start.
      config: the loop.
      log: file to which every control step is written, a line of JSON each.
      halt: set by whoever wants it to end.
    """
    loop = _Loop(pilot, robot, config, halt or threading.Event())
    try:
        ended, fault = loop.run(), False
    except FaultError as error:
        ended, fault = str(error), True
    finally:
        stopper = threading.Thread(target=_quietly, args=(robot.stop,), daemon=True)
        stopper.start()
        stopper.join(config.heartbeat)
        loop.close()
    if log is not None:
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text("".join(json.dumps(row) + "\n" for row in [*loop.rows, {"ended": ended, "fault": fault}]))
    late, decided = ([row[name] for row in loop.rows if name in row] or [0.0] for name in ("late_ms", "decide_ms"))
    return Report(
        ended=ended,
        success=ended == DONE,
        fault=fault,
        steps=len(loop.rows),
        missed=sum(row["late_ms"] > 1000 * loop.dt for row in loop.rows),
        late_ms=(float(np.median(late)), max(late)),
        decide_ms=(float(np.median(decided)), max(decided)),
    )


DONE, TIME_OUT, HALTED = "done", "time ran out", "halted"


class _Loop:
    def __init__(self, pilot: Pilot, robot: Robot, config: LoopConfig, halt: threading.Event):
        card = pilot.artefact.card
        self.pilot, self.robot, self.config, self.halt = pilot, robot, config, halt
        self.dt, self.chunk = card["control_dt"], card["output"]["shape"][0]
        self.steps = config.steps or card["horizon"]
        self.largest = np.asarray(card["limits"]["largest_step"], np.float32)
        self.rows: list[dict[str, Any]] = []
        # Calls to the robot, and thoughts, on threads of their own: neither may hold up the clock.
        self.calls = concurrent.futures.ThreadPoolExecutor(2)
        self.thoughts = concurrent.futures.ThreadPoolExecutor(1)

    def close(self) -> None:
        self.calls.shutdown(wait=False, cancel_futures=True)
        self.thoughts.shutdown(wait=False, cancel_futures=True)

    def run(self) -> str:
        first = self.calls.submit(self.robot.read)  # may take as long as its way to the start
        while not concurrent.futures.wait([first], 0.05).done:
            if self.halt.is_set():
                return HALTED
        reading = self.asked("read", first.result)
        sent: np.ndarray | None = None
        if "ctrl" in reading:
            sent = np.asarray(reading["ctrl"], np.float32)
        chunk, thought = self.decide(reading)
        begin = time.monotonic()
        pending: concurrent.futures.Future[tuple[np.ndarray, float]] | None = None
        for step in range(self.steps):
            due = begin + step * self.dt
            if self.halt.wait(max(0.0, due - time.monotonic())):
                return HALTED
            if step:
                reading = self.asked("read", self.robot.read)
            if reading.get("stopped"):
                raise FaultError(f"the robot stopped: {reading['stopped']}")
            if reading.get("done"):
                return DONE
            place, row = step % self.chunk, {"step": step, "due_s": due - begin}
            if place == 0 and step:
                chunk, thought = self.decide(reading) if pending is None else self.waited(pending)
                pending = None
            if place == 0:
                row["decide_ms"] = 1000 * thought
            if self.config.ahead and place == max(0, self.chunk - self.config.ahead):
                pending = self.thoughts.submit(self.decide, reading)
            target = self.checked(reading, chunk[place], sent)
            self.asked("send", functools.partial(self.robot.send, target))
            sent = target
            row |= {"late_ms": 1000 * (time.monotonic() - due), "action": chunk[place].tolist()}
            row |= {"target": target.tolist(), "qpos": np.ravel(reading.get("qpos", [])).tolist()}
            self.rows.append(row)
            begin += max(0.0, time.monotonic() - due - self.dt)  # a step that came too late is not made up for
        return TIME_OUT

    def asked(self, what: str, call: Callable[[], T]) -> T:
        """What the robot answers, in time."""
        try:
            return self.calls.submit(call).result(self.config.heartbeat)
        except concurrent.futures.TimeoutError:
            raise FaultError(
                f"the robot did not answer `{what}` within {1000 * self.config.heartbeat:.0f} ms"
            ) from None
        except Exception as error:  # of whatever kind: it is the robot's own code
            raise FaultError(f"the robot, asked to `{what}`: {error or type(error).__name__}") from error

    def decide(self, reading: Reading) -> tuple[np.ndarray, float]:
        """A chunk, and the seconds that seeing and deciding took."""
        began = time.monotonic()
        pictures: np.ndarray = np.zeros(0, np.float32)
        if self.pilot.artefact.card["inputs"]["pictures"]["shape"][0]:
            pictures = self.asked("look", self.robot.look)
        try:
            return self.pilot.decide(reading, pictures), time.monotonic() - began
        except ValueError as error:
            raise FaultError(f"nothing to act on: {error}") from error

    def waited(self, pending: "concurrent.futures.Future[tuple[np.ndarray, float]]") -> tuple[np.ndarray, float]:
        try:
            return pending.result(self.config.heartbeat)
        except concurrent.futures.TimeoutError:
            raise FaultError(f"no decision within {1000 * self.config.heartbeat:.0f} ms") from None

    def checked(self, reading: Reading, action: np.ndarray, before: np.ndarray | None) -> np.ndarray:
        """The target of an action, if it is one that a robot may be given."""
        if np.abs(action).max() > 1 + 1e-6:
            raise FaultError(f"an action of {np.abs(action).max():.3g}, outside [-1, 1]")
        try:
            target = self.pilot.target(reading, action)
        except ValueError as error:
            raise FaultError(f"nothing to act on: {error}") from error
        if not np.isfinite(target).all():
            raise FaultError("a target that is not finite")
        if before is not None and (np.abs(target - before) > self.largest).any():
            which = int((np.abs(target - before) / np.maximum(self.largest, 1e-9)).argmax())
            name = self.pilot.artefact.card["actuators"][which]
            raise FaultError(
                f"a step of {abs(target - before)[which]:.3g} for '{name}', allowed {self.largest[which]:.3g}"
            )
        return target


def _quietly(call: Callable[[], None]) -> None:
    """Calls it, whatever comes of that: the robot may be what is broken."""
    with contextlib.suppress(Exception):
        call()
