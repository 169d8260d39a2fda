"""How many recorded successes are still successes when their states, or the poses of their tool, are followed.

    python benchmarks/recordings.py --tasks peg lift_banana --robots hand panda

The task's script plays episodes on the C engine; what is kept of them is the state, or where the tool was, at another
rate than the task's. From that `expertgen demos import` has to find the actions.
"""

import dataclasses
from pathlib import Path

import jax
import mujoco
import numpy as np

from expertgen_jax import bounds, load_task, make_env, scenes
from expertgen_jax.bounds import Count, Positive, Seed
from expertgen_jax.cli import command
from expertgen_jax.data import conversion
from expertgen_jax.data.recording import Recording
from expertgen_jax.files import write_json
from expertgen_jax.runs.provenance import provenance
from expertgen_jax.sim import robots
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
    """Of the episodes."""
    out: Path = Path("results/recordings.json")
    """JSON file for the figures."""


def main(args: Recordings) -> None:
    bounds.check(args)
    command.prepare(args.out)
    rows = []
    for task in args.tasks:
        for robot in args.robots:
            env, key = make_env(load_task(task, robot=robot), "native"), jax.random.key(args.seed)
            played = conversion.recorded(env, scripted_agent(env.task), key, args.episodes)
            states = at_rate(played, args.rate)
            for what, recording in (("states", states), ("tool", by_tool(env, states))):
                followed = conversion.imported(env, recording, key).followed
                assert followed is not None
                row = {
                    "task": task,
                    "robot": robot,
                    "recorded": what,
                    "successes": int(played.told.sum()),
                    "still": float(followed.success[played.told].mean()),
                    "at_bound": followed.at_bound,
                }
                rows.append(row)
                print(row, flush=True)
                about = {"rate": args.rate, "episodes": args.episodes, "seed": args.seed, **provenance()}
                write_json(args.out, about | {"rows": rows})


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
