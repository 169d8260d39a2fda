"""`expertgen demos`: demonstrations from the files of others, and episodes for them."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import jax
import numpy as np
import tyro

from expertgen_jax import bounds
from expertgen_jax.bounds import Count, Positive, Seed
from expertgen_jax.cli import command
from expertgen_jax.data import conversion, diffusion_policy, lerobot, robomimic
from expertgen_jax.data.states import Replay
from expertgen_jax.errors import UserError
from expertgen_jax.learning import demos as demonstrations
from expertgen_jax.runs import tables
from expertgen_jax.runs.opening import load_run
from expertgen_jax.runs.student import load_student
from expertgen_jax.sim import episode
from expertgen_jax.sim.robots import RobotName
from expertgen_jax.task import Level
from expertgen_jax.tasks import registry


@dataclasses.dataclass(frozen=True)
class Import:
    """Makes demonstrations of a task of a recording: robomimic's HDF5, the folder of a LeRobotDataset, a zarr group of
    Diffusion Policy, or an .npz."""

    file: Annotated[Path, tyro.conf.Positional]
    """The recording."""
    task: str
    """Name of a task, or path of a task file."""
    out: Path
    """The .npz file to write, for --demos."""
    randomization: Level = "off"
    """Domain randomisation."""
    robot: RobotName = "hand"
    """What carries the plug or the gripper."""
    rate: Annotated[Positive | None, tyro.conf.arg(metavar="HZ")] = None
    """Rows a second, where the recording does not tell, or wrongly."""
    seed: Seed = 0
    """Of what a recording does not tell, such as how things are misjudged."""


@dataclasses.dataclass(frozen=True)
class Export:
    """Plays episodes of a run and writes them for others."""

    run_dir: Path
    """Run directory."""
    out: Path
    """What to write: a file for robomimic, else a folder that is not there yet."""
    format: Literal["lerobot", "robomimic", "diffusion_policy"] = "lerobot"
    """LeRobotDataset v3, robomimic's HDF5, or Diffusion Policy's zarr."""
    policy: Literal["script", "prior", "expert", "student"] = "expert"
    """Who plays."""
    student: str | None = None
    """Which student, by name; may be left out where the run has one only."""
    episodes: Count = 64
    """Number of episodes."""
    seed: Seed = 1
    """Of the episodes."""
    pictures: Annotated[int, tyro.conf.arg(metavar="PIXELS")] = 0
    """Height and width of colour pictures of the task's cameras; 0 for none."""


@dataclasses.dataclass(frozen=True)
class Demos:
    """Demonstrations from the files of others, and episodes for them."""

    what: tyro.conf.OmitSubcommandPrefixes[
        Annotated[Import, tyro.conf.subcommand("import")] | Annotated[Export, tyro.conf.subcommand("export")]
    ]


def main(argv: command.Arguments = None) -> None:
    """Runs the command; see `command.run`."""
    command.run("demos", Demos, demos, argv)


def demos(args: Demos) -> None:
    """Reads or writes recordings."""
    bounds.check(args.what)
    if isinstance(args.what, Import):
        read(args.what)
    else:
        write(args.what)


def read(args: Import) -> None:
    """Writes the demonstrations and prints how well they were done again."""
    command.prepare(args.out)
    if args.out.suffix != ".npz" or args.out.resolve() == args.file.resolve():
        raise UserError(f"--out {args.out}: another file than the recording, please, whose name ends in .npz")
    recording = conversion.read(args.file, args.rate)
    env = episode.make_env(registry.load_task(args.task, args.randomization, args.robot), "native")
    found = conversion.imported(env, recording, jax.random.key(args.seed))
    demonstrations.save(args.out, found.demos)
    rows = []
    if found.told is not None:
        rows.append({"": "as recorded", **_success(found.told)})
    if found.open_loop is not None:
        rows.append({"": "actions replayed", **_success(found.open_loop.success), **_fit(found.open_loop)})
    if found.followed is not None:
        rows.append({"": "states followed", **_success(found.followed.success), **_fit(found.followed)})
    print(tables.table(rows))
    kind = "recorded actions" if found.followed is None else "states that were followed"
    print(f"\n{args.out}: {len(found.demos.lengths)} episodes of {kind}; use it by --demos {args.out}")


def _success(success: np.ndarray) -> dict[str, str]:
    return {"episodes": f"{len(success)}", "succeed": f"{success.mean():.1%}"}


def _fit(replay: Replay) -> dict[str, str]:
    return {"apart (median)": f"{1000 * np.median(replay.apart):.1f} mm", "at bounds": f"{replay.at_bound:.1%}"}


def write(args: Export) -> None:
    """Plays and writes."""
    run = load_run(args.run_dir)
    {"lerobot": lerobot, "robomimic": robomimic, "diffusion_policy": diffusion_policy}[args.format].ready(args.out)
    command.prepare(args.out)
    if args.pictures and not 8 <= args.pictures <= 1024:
        raise UserError(f"--pictures {args.pictures}: 8 to 1024 pixels, or 0")
    if args.pictures and not run.env.task.cameras:
        raise UserError(f"--pictures {args.pictures}: task '{run.env.task.name}' has no cameras")
    student = args.policy == "student"
    agent = load_student(run, args.student).agent("off") if student else run.agent(args.policy)
    env = run.on("native")
    recording = conversion.recorded(env, agent, jax.random.key(args.seed), args.episodes, args.pictures)
    if args.format == "robomimic":
        robomimic.write(args.out, conversion.in_parts(env, recording), env.task.name)
    elif args.format == "diffusion_policy":
        diffusion_policy.write(args.out, recording)
    else:
        lerobot.write(args.out, recording, env.task.name, {"obs": episode.entries(env)})
    print(f"{args.out}: {args.episodes} episodes of {agent.name}, {np.mean(recording.told):.1%} succeed")
