"""How soon a robot stands still when something breaks while an exported policy drives it.

    expertgen export --run-dir runs/peg-1 --policy expert --out artefact
    python benchmarks/faults.py artefact

The policy drives the simulated robot, in a process of its own. In the middle of an episode one of `FAULTS` befalls the
robot or the policy; or one of their processes is killed. Times are from that moment, or from when an answer that does
not come is due, until the simulated robot reports that it holds its place, as a second connection sees; where its
process is gone, until the loop has ended.
"""

import concurrent.futures
import dataclasses
import json
import multiprocessing
import multiprocessing.synchronize
import re
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import tyro

from expertgen_jax import bounds
from expertgen_jax.bounds import Count
from expertgen_jax.cli import command
from expertgen_jax.deploy import artefact, loop, simulator
from expertgen_jax.deploy.artefact import Artefact, Pilot, Reading
from expertgen_jax.deploy.client import Client
from expertgen_jax.deploy.loop import LoopConfig
from expertgen_jax.errors import UserError
from expertgen_jax.files import write_json
from expertgen_jax.runs.provenance import provenance


class Fault(NamedTuple):
    """What befalls.

    Attributes:
      said: what the line has to say, a regular expression.
      robot: what becomes of what it measures; or it raises or waits.
      policy: what becomes of a chunk.
      ahead: see `LoopConfig`.
    """

    said: str
    robot: Callable[[Reading], Reading] | None = None
    policy: Callable[[np.ndarray], np.ndarray] | None = None
    ahead: int = 0


def waits(seconds: float) -> Callable[[Any], Any]:
    """Late by so much."""

    def wait(x: Any) -> Any:
        time.sleep(seconds)
        return x

    return wait


def raises(error: Exception) -> Callable[[Any], Any]:
    """Broken."""

    def fail(_: Any) -> Any:
        raise error

    return fail


def nothing(reading: Reading) -> Reading:
    """Measures that are no numbers."""
    return {name: np.full_like(x, np.nan) if isinstance(x, np.ndarray) else x for name, x in reading.items()}


def elsewhere(reading: Reading) -> Reading:
    """Measures that are far from those of the step before."""
    return {name: x + 9 if isinstance(x, np.ndarray) else x for name, x in reading.items()}


FAULTS = {
    "raises what it likes": Fault(
        "asked to `read`: its driver has a bug", raises(RuntimeError("its driver has a bug"))
    ),
    "does not answer": Fault("did not answer `read` within", waits(0.5)),
    "answers too late": Fault("did not answer `read` within", waits(0.15)),
    "hangs up": Fault("asked to `read`: reset by peer", raises(ConnectionResetError("reset by peer"))),
    "answers nonsense": Fault("no message", raises(ValueError("no message: b'\\x00'"))),
    "measures nothing": Fault("holds numbers that are not finite", nothing),
    "stands still": Fault("stopped: a button was pressed", lambda x: {**x, "stopped": "a button was pressed"}),
    "is elsewhere": Fault("a step of .* for '.*', allowed", elsewhere),
    "policy outside": Fault("an action of .*, outside", policy=lambda chunk: np.full_like(chunk, 1.4)),
    "policy of nothing": Fault("not finite", policy=lambda chunk: np.full_like(chunk, np.nan)),
    "policy thinks too long": Fault("no decision within", policy=waits(0.4), ahead=1),
}
"""Kinds of trouble, by name."""


class Troubled:
    """A robot, or a policy, that something befalls after so many readings, or decisions.

    Attributes:
      began: when that was, by the monotonic clock; None before.
    """

    def __init__(self, healthy: Any, trouble: Callable[[Any], Any] | None, after: int):
        self.healthy, self.trouble, self.left = healthy, trouble, after
        self.began: float | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.healthy, name)

    def read(self) -> Reading:
        return self._troubled(self.healthy.read())

    def decide(self, reading: Reading, pictures: np.ndarray) -> np.ndarray:
        return self._troubled(self.healthy.decide(reading, pictures))

    def _troubled(self, x: Any) -> Any:
        self.left -= 1
        if self.trouble is None or self.left >= 0:
            return x
        if self.began is None:
            self.began = time.monotonic()
        return self.trouble(x)


@dataclasses.dataclass(frozen=True)
class Faults:
    """How soon a robot stands still when something breaks."""

    artefact: Annotated[Path, tyro.conf.Positional]
    """Folder that `expertgen export` wrote."""
    repeats: Count = 20
    """How often each kind is tried."""
    out: Path = Path("results/faults.json")
    """JSON file for the figures."""


def main(args: Faults) -> None:
    bounds.check(args)
    command.prepare(args.out)
    loaded = artefact.load(args.artefact)
    artefact.rehearse(loaded)
    rows = []
    for kind in (*FAULTS, *KILLED):
        tried = trials(loaded, kind, args.repeats)
        times = [1000 * one.seconds for one in tried]
        row = {"fault": kind, "repeats": args.repeats, "stopped_ms": [float(np.median(times)), max(times)]}
        if kind != POLICY:  # whose line and log are gone with it
            row |= {"one_line": sum(one.one_line for one in tried), "whole_log": sum(one.whole_log for one in tried)}
        rows.append(row)
        print(row, flush=True)
        about = {"task": loaded.card["task"], "policy": loaded.card["policy"], **provenance()}
        write_json(args.out, about | {"rows": rows})


class Tried(NamedTuple):
    """How an episode ended: seconds until the robot stood still; whether the fault was told, in a line; and whether
    the log has every step and how it ended."""

    seconds: float
    one_line: bool = False
    whole_log: bool = False


def trials(loaded: Artefact, kind: str, repeats: int) -> list[Tried]:
    """So many episodes in which something of a kind breaks."""
    if kind in KILLED:
        return [KILLED[kind](loaded, seed) for seed in range(repeats)]
    process, port = simulator.spawn(loaded.folder)
    try:
        return [befallen(loaded, port, FAULTS[kind], seed) for seed in range(repeats)]
    finally:
        process.communicate()  # which closes its standard input


def befallen(loaded: Artefact, port: int, fault: Fault, seed: int) -> Tried:
    """An episode in which a fault befalls robot or policy."""
    client = Client(port)
    client.start(seed)
    robot, pilot = Troubled(client, fault.robot, 8), Troubled(Pilot(loaded, seed), fault.policy, 1)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        standing = pool.submit(stands_still, port)
        tried = driven(pilot, robot, fault.said, LoopConfig(ahead=fault.ahead))
        began = robot.began or pilot.began
        if began is None:
            raise UserError(f"{loaded.folder}: its episodes are over before anything can break")
        due = began + fault.ahead * loaded.card["control_dt"]
        tried = tried._replace(seconds=standing.result() - due)
    client.close()
    return tried


def robot_killed(loaded: Artefact, seed: int) -> Tried:
    """An episode in which the robot's process is killed."""
    process, port = simulator.spawn(loaded.folder)
    client = Client(port)
    client.start(seed)
    killed: list[float] = []

    def kill() -> None:
        killed.append(time.monotonic())
        process.kill()

    threading.Timer(0.4, kill).start()
    tried = driven(Pilot(loaded, seed), client, "", LoopConfig())
    tried = tried._replace(seconds=time.monotonic() - killed[0])
    client.close()
    process.communicate()
    return tried


def policy_killed(loaded: Artefact, seed: int) -> Tried:
    """An episode in which the policy's process is killed: the robot has to stop by itself."""
    process, port = simulator.spawn(loaded.folder)
    context = multiprocessing.get_context("spawn")
    moving = context.Event()
    child = context.Process(target=alone, args=(loaded.folder, port, seed, moving))
    child.start()
    moving.wait()
    child.kill()
    killed = time.monotonic()
    tried = Tried(stands_still(port) - killed)
    child.join()
    process.communicate()
    return tried


POLICY = "the policy's process is killed"
KILLED = {"the robot's process is killed": robot_killed, POLICY: policy_killed}


def alone(folder: Path, port: int, seed: int, moving: multiprocessing.synchronize.Event) -> None:
    """Drives an episode, in a process of its own; says so in the middle of it."""
    loaded = artefact.load(folder)
    artefact.rehearse(loaded)
    client = Client(port)
    client.start(seed)

    def tell(reading: Reading) -> Reading:
        moving.set()
        return reading

    loop.drive(Pilot(loaded, seed), Troubled(client, tell, 8))


def driven(pilot: Any, robot: Any, said: str, config: LoopConfig) -> Tried:
    """An episode, with its line and its log looked at."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log.jsonl"
        report = loop.drive(pilot, robot, config, log)
        rows = [json.loads(line) for line in log.read_text().splitlines()]
    one_line = report.fault and "\n" not in report.ended and re.search(said, report.ended) is not None
    whole = len(rows) == report.steps + 1 and rows[-1] == {"ended": report.ended, "fault": True}
    return Tried(0.0, one_line, whole)


def stands_still(port: int, within: float = 10.0) -> float:
    """When the simulated robot says that it has stopped, after an episode has begun.

    Raises:
      UserError: it does not within so many seconds.
    """
    client, begin = Client(port), time.monotonic()
    while not client.read()["stopped"]:
        if time.monotonic() > begin + within:
            raise UserError(f"the robot still moves after {within:g} s")
        time.sleep(0.001)
    stopped = time.monotonic()
    client.close()
    return stopped


if __name__ == "__main__":
    command.run("faults", Faults, main, None)
