"""`expertgen view`: look at a task, or at what a run has learnt."""

import dataclasses
import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import jax
import tyro
from annotated_types import Ge

from expertgen_jax import bounds
from expertgen_jax.bounds import Count, Seed
from expertgen_jax.cli import command
from expertgen_jax.errors import UserError
from expertgen_jax.runs import recording
from expertgen_jax.runs.opening import load_run
from expertgen_jax.runs.student import Renderer, StudentRun, drawing, load_student
from expertgen_jax.sim import episode, rollout
from expertgen_jax.sim.episode import Env
from expertgen_jax.sim.robots import RobotName
from expertgen_jax.sim.rollout import Agent
from expertgen_jax.task import GraspName, Level, StartsName
from expertgen_jax.tasks import registry
from expertgen_jax.viewer.session import Session


@dataclasses.dataclass(frozen=True)
class View:
    """Looks at a task or a run: in MuJoCo's window, on a web page, or in a file. None of it needs a GPU."""

    target: Annotated[str, tyro.conf.Positional]
    """Name of a task, path of a task file, or run directory."""
    policy: Literal["zero", "random", "script", "strong_script", "prior", "expert", "student"] | None = None
    """Who acts; by default a task's script, and a run's expert."""
    student: str | None = None
    """Which student, by name; may be left out where the run has one only."""
    randomization: Level = "off"
    """Domain randomisation of a task; a run has its own."""
    robot: RobotName = "hand"
    """What carries the plug or the gripper of a task; a run has its own."""
    starts: StartsName = "own"
    """Where episodes of a task start: its own ranges, or, for the shapes, those of AutoMate."""
    grasp: GraspName = "fixed"
    """How a plug sits in the fingers: as one piece with them, or held by friction, so that it can slip."""
    seed: Seed = 0
    """Which episode, the first of those recorded."""
    web: bool = False
    """Serve an interactive page, for a browser on this or another machine (pip install 'expertgen-jax[viewer]')."""
    port: Count = 8080
    """Port of the page."""
    out: Path | None = None
    """File to write: a video, .mp4 or .webp, or a recording for Rerun, .rrd (pip install 'expertgen-jax[rerun]')."""
    episodes: Count = 2
    """Number of episodes in the file."""
    height: Annotated[int, Ge(64)] = 480
    """Height of the video (pixels)."""
    cameras: bool = False
    """Show what the task's cameras see in a corner of the video; for a student, and for Rerun, always."""
    renderer: Renderer = "rays"
    """What draws the pictures that a student sees and that a video's corner shows; see `expertgen evaluate --help`."""


def main(argv: command.Arguments = None) -> None:
    """Runs the command; see `command.run`."""
    command.run("view", View, view, argv)


def view(args: View) -> None:
    """Shows the target in a window, or as the arguments say."""
    bounds.check(args)
    if args.out is not None:
        if args.out.suffix not in (".mp4", ".webp", ".rrd"):
            raise UserError(f"--out {args.out}: videos are .mp4 or .webp, recordings for Rerun .rrd")
        command.prepare(args.out)
    env, agents, student = cast(args)
    policy = args.policy or ("script" if "expert" not in agents else "expert")
    if policy not in agents:
        raise UserError(f"--policy {policy}: {args.target} has {', '.join(agents)}")
    if args.out is not None and args.out.suffix != ".rrd":
        agent, seen = agents[policy], None
        if policy == "student" and student is not None:
            seen = student.seen(env, args.renderer)
        elif args.cameras and env.task.cameras:
            size = min(64, args.height // len(env.task.cameras))
            seen = recording.through_cameras(env, size, colour=True, render=drawing(args.renderer, size))
        key = jax.random.key(0)
        clips = recording.clips(env, agent, key, args.episodes, first=args.seed, height=args.height, seen=seen)
        recording.write(args.out, [clips], env.task)
        print(f"wrote {args.out}")
        return
    if args.out is None and not args.web and sys.platform == "linux" and not os.environ.get("DISPLAY"):
        raise UserError("no display here: serve a page with --web, or write a video with --out FILE.mp4")
    session = Session(env, agents, policy, args.seed)
    if args.out is not None:
        from expertgen_jax.viewer import rerun

        rerun.write(args.out, session, args.episodes)
        print(f"wrote {args.out}")
    elif args.web:
        from expertgen_jax.viewer import web

        web.serve(session, args.port)
    else:
        from expertgen_jax.viewer import window

        window.show(session)


def cast(args: View) -> tuple[Env, dict[str, Agent], StudentRun | None]:
    """The environment, on the C engine, who may act in it, by name, and the student among them."""
    if not (Path(args.target) / "config.json").exists():
        task = registry.load_task(args.target, args.randomization, args.robot, args.starts, args.grasp)
        return episode.make_env(task, "native"), rollout.untrained_agents(task), None
    run = load_run(args.target, "native")
    trained = [name for name in ("expert", "prior") if (run.directory.checkpoints / name).exists()]
    agents = {name: run.agent(name) for name in trained} | rollout.untrained_agents(run.env.task)
    if not list(run.directory.path.glob("students/*/checkpoints/student")):
        return run.env, agents, None
    student = load_student(run, args.student)
    return run.env, {**agents, "student": student.agent("off", run.env, args.renderer)}, student
