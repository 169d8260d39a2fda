"""`expertgen deploy`: an exported policy drives a robot."""

import concurrent.futures
import contextlib
import dataclasses
import importlib
import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import tyro

from expertgen_jax import bounds
from expertgen_jax.bounds import Count, Seed
from expertgen_jax.cli import command
from expertgen_jax.deploy import artefact, loop, simulator
from expertgen_jax.deploy.artefact import Artefact, Pilot
from expertgen_jax.deploy.client import Client
from expertgen_jax.deploy.loop import LoopConfig, Report, Robot
from expertgen_jax.errors import UserError
from expertgen_jax.files import write_json
from expertgen_jax.runs import figures
from expertgen_jax.runs.provenance import provenance
from expertgen_jax.sim.evaluation import wilson


@dataclasses.dataclass(frozen=True)
class Deploy:
    """Lets an exported policy drive a robot in a loop of fixed rate; each episode is logged."""

    artefact: Annotated[Path, tyro.conf.Positional]
    """Folder that `expertgen export` wrote."""
    robot: str = "sim"
    """The robot: `sim`, a simulated one in a process of its own at wall-clock rate, or MODULE:FACTORY, a function that
    takes the artefact's card, in which `folder` says where it lies, and returns a `deploy.loop.Robot`."""
    episodes: Count = 10
    """Number of episodes; of a robot of yours, each begins when it is ready to be read."""
    seed: Seed = 1
    """Of the first episode of the simulated robot; the others follow."""
    log: Path = Path("deploy-log")
    """Folder of the logs: a file of lines and a picture an episode, and `summary.json`."""
    loop: Annotated[LoopConfig, tyro.conf.arg(name="")] = dataclasses.field(default_factory=LoopConfig)


def main(argv: command.Arguments = None) -> None:
    """Runs the command; see `command.run`."""
    command.run("deploy", Deploy, deploy, argv)


def deploy(args: Deploy) -> None:
    """Drives episodes and prints how they went.

    Raises:
      UserError: the artefact or the robot is not usable, or an episode was broken off.
    """
    bounds.check(args)
    loaded = artefact.load(args.artefact)
    if not 0 <= args.loop.ahead <= loaded.card["output"]["shape"][0]:
        raise UserError(f"--ahead {args.loop.ahead}: chunks have {loaded.card['output']['shape'][0]} control steps")
    command.prepare(args.log, folder=True)
    artefact.rehearse(loaded)
    reports: list[Report] = []
    with made(args, loaded) as robot:
        for number in range(args.episodes):
            if isinstance(robot, Client):
                robot.start(args.seed + number)
            report = driven(Pilot(loaded, args.seed + number), robot, args, number)
            middle, most = report.late_ms
            print(
                f"episode {number + 1}: {report.ended} after {report.steps} steps; sent {middle:.1f} ms after "
                f"the tick (at most {most:.1f}), {report.missed} missed",
                flush=True,
            )
            reports.append(report)
            total = summary(args, loaded, reports)
            write_json(args.log / "summary.json", total)
            if report.fault:
                raise UserError(f"episode {number + 1} was broken off: {report.ended}; see {args.log}")
    low, high = total["ci95"]
    print(
        f"{total['policy']} of {total['task']}: {sum(report.success for report in reports)} of {len(reports)} "
        f"episodes succeed [{low:.1%}, {high:.1%}]; {total['missed']} of {total['steps']} control steps came too late"
    )


def summary(args: Deploy, loaded: Artefact, reports: list[Report]) -> dict[str, Any]:
    """How the episodes went, beside what the artefact's card says of its success in simulation."""
    done = sum(report.success for report in reports)
    return {
        **{name: loaded.card[name] for name in ("task", "policy", "control_dt", "measured")},
        **{"robot": args.robot, "seed": args.seed, "loop": dataclasses.asdict(args.loop), **provenance()},
        **{"success": done / len(reports), "ci95": wilson(done, len(reports))},
        "steps": sum(report.steps for report in reports),
        "missed": sum(report.missed for report in reports),
        "episodes": [report._asdict() for report in reports],
    }


def driven(pilot: Pilot, robot: Robot, args: Deploy, number: int) -> Report:
    """An episode, on a thread of its own, so that Ctrl-C stops the robot and not the loop in the middle of a step; and
    its picture."""
    halt, log = threading.Event(), args.log / f"episode-{number + 1}.jsonl"
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        driving = pool.submit(loop.drive, pilot, robot, args.loop, log, halt)
        try:
            report = driving.result()
        except KeyboardInterrupt:
            halt.set()
            raise
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    figures.deployment(rows, log.with_suffix(".png"), control_dt=pilot.artefact.card["control_dt"])
    return report


@contextlib.contextmanager
def made(args: Deploy, loaded: Artefact) -> Iterator[Any]:
    """The robot that the arguments name."""
    if args.robot == "sim":
        process, port = simulator.spawn(args.artefact, args.loop.heartbeat)
        client = Client(port)
        try:
            yield client
        finally:
            client.close()
            process.communicate()  # which closes its standard input
        return
    name, _, factory = args.robot.partition(":")
    sys.path.insert(0, "")  # as `python -m` does: a module of the folder that it is called from
    try:
        robot = getattr(importlib.import_module(name), factory)(loaded.card)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"--robot {args.robot}: expected `sim` or MODULE:FACTORY ({error})") from error
    if not isinstance(robot, Robot):
        raise UserError(f"--robot {args.robot}: it returned a {type(robot).__name__} without read, look, send and stop")
    yield robot
