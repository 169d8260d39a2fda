"""How many recorded successes are still successes when their states, or the poses of their tool, are followed.

    python benchmarks/recordings.py --tasks peg lift_banana --robots hand panda

The task's script plays episodes on the C engine; what is kept of them is the state, or where the tool was, at another
rate than the task's. From that `expertgen demos import` has to find the actions. With `--runs` prior and expert are
learnt from the episodes as they were played, from a file of them, and from such a recording, to be compared.
"""

import dataclasses
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import mujoco
import numpy as np

from expertgen_jax import bounds, load_run, load_task, make_env, scenes
from expertgen_jax.bounds import Count, Positive, Seed
from expertgen_jax.cli import command
from expertgen_jax.data import conversion, lerobot
from expertgen_jax.data.recording import Recording
from expertgen_jax.files import write_json
from expertgen_jax.learning import demos
from expertgen_jax.learning.demos import DemoSet
from expertgen_jax.runs.provenance import provenance
from expertgen_jax.runs.reproduction import run_once
from expertgen_jax.sim import episode, robots
from expertgen_jax.sim.episode import Env
from expertgen_jax.sim.robots import RobotName
from expertgen_jax.sim.rollout import scripted_agent


@dataclasses.dataclass(frozen=True)
class Recordings:
    """Recorded successes that are still successes when they are followed."""

    tasks: tuple[str, ...] = ("peg", "lift_banana")
    """Names of tasks or paths to task files."""
    robots: tuple[RobotName, ...] = ("hand", "panda")
    """What carries the plug or the gripper."""
    rate: Positive = 25.0
    """Rows a second of the recording (Hz)."""
    episodes: Count = 256
    """Number of recorded episodes, failures among them."""
    seed: Seed = 1
    """Of the episodes, and of learning from them."""
    runs: Path | None = None
    """Folder of runs, where prior and expert are to be learnt from the episodes."""
    out: Path = Path("results/recordings.json")
    """JSON file for the figures."""


def main(args: Recordings) -> None:
    bounds.check(args)
    command.prepare(args.out)
    rows = []
    for task in args.tasks:
        for robot in args.robots:
            for row in compared(args, task, robot):
                rows.append(row)
                print(row, flush=True)
                about = {"rate": args.rate, "episodes": args.episodes, "seed": args.seed, **provenance()}
                write_json(args.out, about | {"rows": rows})


def compared(args: Recordings, task: str, robot: RobotName) -> Iterator[dict[str, Any]]:
    """A row for each way in which the same episodes of a task are recorded."""
    env, key = make_env(load_task(task, robot=robot), "native"), jax.random.key(args.seed)
    played = conversion.recorded(env, scripted_agent(env.task), key, args.episodes)
    about = {"task": task, "robot": robot, "successes": int(played.told.sum())}
    if args.runs is not None:
        arrays = played.arrays
        episodes = DemoSet(arrays["obs"], arrays["actions"], played.lengths, played.told)
        yield about | {"recorded": "episodes", **learnt(args, task, robot, "episodes", episodes)}
        with tempfile.TemporaryDirectory() as folder:
            lerobot.write(Path(folder) / "set", played, task, {"obs": episode.entries(env)})
            read = conversion.imported(env, conversion.read(Path(folder) / "set"), key).demos
        yield about | {"recorded": "lerobot", **learnt(args, task, robot, "lerobot", read)}
    states = at_rate(played, args.rate)
    for what, recording in (("states", states), ("tool", by_tool(env, states))):
        found = conversion.imported(env, recording, key)
        assert found.followed is not None
        still = float(found.followed.success[played.told].mean())
        row = about | {"recorded": what, "still": still, "at_bound": found.followed.at_bound}
        if args.runs is not None and what == "states":
            row |= learnt(args, task, robot, what, found.demos)
        yield row


def learnt(args: Recordings, task: str, robot: RobotName, recorded: str, episodes: DemoSet) -> dict[str, Any]:
    """Success of prior and expert that learn from these episodes, by `expertgen steer`."""
    assert args.runs is not None
    args.runs.mkdir(parents=True, exist_ok=True)
    folder = args.runs / f"{Path(task).stem}-{robot}-{recorded}-{args.seed}"
    file = folder.with_suffix(".npz")
    if not file.exists():
        demos.save(file, episodes)
    flags = ("--task", task, "--robot", robot, "--seed", str(args.seed), "--demos", str(file), "--physics", "native")
    run_once("steer", folder, *flags, "--run-dir", str(folder))
    run = load_run(folder)
    return {name: run.evaluation(run.agent(name)) for name in ("prior", "expert")}


def at_rate(recording: Recording, rate: float) -> Recording:
    """The joints' positions of a recording at another rate, and what its episodes start from."""
    arrays, lengths = [], []
    for number in range(len(recording.lengths)):
        path = recording.episode(number)["qpos"]
        times = np.arange(0, (len(path) - 1) / recording.rate, 1 / rate)
        arrays.append(np.stack([np.interp(times, np.arange(len(path)) / recording.rate, x) for x in path.T], axis=1))
        lengths.append(len(times))
    first = np.repeat(recording.starts, lengths)
    mocap = {name: x[first] for name, x in recording.arrays.items() if name.startswith("mocap")}
    return Recording({"qpos": np.concatenate(arrays), **mocap}, np.array(lengths), recording.success, rate)


def by_tool(env: Env, recording: Recording) -> Recording:
    """Poses of the tool, and where things are at first, instead of the joints' positions."""
    mj, qpos = env.model.mj, recording.arrays["qpos"]
    robot, data, hand = robots.of(mj), mujoco.MjData(mj), mj.body("hand").id
    pos, quat = np.zeros((len(qpos), 3)), np.zeros((len(qpos), 4))
    for row, joints in enumerate(qpos):
        data.qpos[:] = joints
        mujoco.mj_kinematics(mj, data)
        pos[row], quat[row] = data.xpos[hand], data.xquat[hand]
    arrays = {name: x for name, x in recording.arrays.items() if name.startswith("mocap")}
    arrays |= {"tool_pos": pos, "tool_quat": quat}
    rest = qpos[:, robot.joints :]
    if scenes.FINGER_JOINTS[0] in [mj.joint(i).name for i in range(mj.njnt)]:
        arrays["gripper"], rest = scenes.OPENING - rest[:, :2].sum(1), rest[:, 2:]
    if rest.size:
        arrays["rest"] = rest[np.repeat(recording.starts, recording.lengths)]
    return recording._replace(arrays=arrays)


if __name__ == "__main__":
    command.run("recordings", Recordings, main, None)
