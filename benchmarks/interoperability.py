"""What other libraries make of what goes out of here: they load it, check it, train a little on it.

Each wants an environment of its own, with this package and the library:

    python benchmarks/interoperability.py lerobot --run-dir runs/peg-1

It adds a row to `results/interoperability.json`, or replaces it.
"""

import dataclasses
import itertools
import json
import tempfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import numpy as np
import tyro

from expertgen_jax import ExpertRun, load_run, load_student
from expertgen_jax.data import conversion, lerobot, robomimic
from expertgen_jax.data.recording import Recording
from expertgen_jax.files import write_json
from expertgen_jax.runs import export, onnx
from expertgen_jax.runs.provenance import provenance
from expertgen_jax.sim import episode
from expertgen_jax.sim.episode import Env

Library = Literal["lerobot", "robomimic", "stable_baselines3", "brax", "jax2onnx", "playground"]
EPISODES, PICTURES = 32, 64


@dataclasses.dataclass(frozen=True)
class Arguments:
    """What other libraries make of what goes out of here."""

    package: Annotated[Library, tyro.conf.Positional]
    """Which one; it must be installed."""
    run_dir: Path
    """A finished run, whose script plays the episodes."""
    out: Path = Path("results/interoperability.json")
    """The file of all rows."""


def main(args: Arguments) -> None:
    """Tries the library and keeps what was found."""
    run = load_run(args.run_dir)
    env = run.on("native")
    size = PICTURES if env.task.cameras else 0
    recording = conversion.recorded(env, run.agent("script"), jax.random.key(1), EPISODES, size)
    with tempfile.TemporaryDirectory() as folder:
        found = LIBRARIES[args.package](run, env, recording, Path(folder))
    row = {"version": metadata.version(args.package.replace("_", "-")), "task": env.task.name, **found, **provenance()}
    rows = json.loads(args.out.read_text()) if args.out.exists() else {}
    write_json(args.out, rows | {args.package: row})
    print(json.dumps(row, indent=2))


def in_lerobot(run: ExpertRun, env: Env, recording: Recording, folder: Path) -> dict[str, Any]:
    """LeRobot loads a dataset, and its ACT learns from it."""
    import torch
    from lerobot.datasets.lerobot_dataset import LeRobotDataset
    from lerobot.policies.act.configuration_act import ACTConfig
    from lerobot.policies.act.modeling_act import ACTPolicy
    from lerobot.policies.act.processor_act import make_act_pre_post_processors
    from lerobot.utils.feature_utils import dataset_to_policy_features

    lerobot.write(folder / "set", recording, env.task.name, {"obs": episode.entries(env)})
    chunk = 8
    ahead = {"action": [i / recording.rate for i in range(chunk)]}
    whole = LeRobotDataset(f"expertgen/{env.task.name}", root=folder / "set")
    dataset = LeRobotDataset(f"expertgen/{env.task.name}", root=folder / "set", delta_timestamps=ahead)
    rows = {"action": "actions", "observation.state": "obs"}
    same = all(
        np.array_equal(np.stack([whole[i][theirs].numpy() for i in range(len(whole))]), recording.arrays[ours])
        for theirs, ours in rows.items()
    )
    features = dataset_to_policy_features(dataset.meta.features)
    outputs = {name: x for name, x in features.items() if name == "action"}
    inputs = {name: x for name, x in features.items() if name.startswith("observation")}
    config = ACTConfig(
        input_features=inputs,
        output_features=outputs,
        chunk_size=chunk,
        n_action_steps=chunk,
        dim_model=64,
        n_heads=4,
        dim_feedforward=128,
        pretrained_backbone_weights=None,
        device="cpu",
    )
    policy = ACTPolicy(config)
    before, _ = make_act_pre_post_processors(config, dataset_stats=dataset.meta.stats)
    optimiser = torch.optim.Adam(policy.parameters(), 1e-3)
    loader = torch.utils.data.DataLoader(dataset, 8, shuffle=True)

    def step(batch: Any) -> float:
        loss, _ = policy.forward(before(batch))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        return float(loss.detach())

    return {
        "episodes": dataset.num_episodes,
        "frames": len(dataset),
        "bit_identical": same,
        "statistics": sorted(dataset.meta.stats),
        "learner": "ACT, from pictures and state",
        "loss": _losses(step, loader, steps=40),
    }


def in_robomimic(run: ExpertRun, env: Env, recording: Recording, folder: Path) -> dict[str, Any]:
    """robomimic loads a file, and its behaviour cloning learns from it."""
    import torch
    from robomimic.algo import algo_factory
    from robomimic.config import config_factory
    from robomimic.utils import obs_utils
    from robomimic.utils.dataset import SequenceDataset

    path = folder / "set.hdf5"
    robomimic.write(path, conversion.in_parts(env, recording), env.task.name)
    names = list(dict.fromkeys(episode.entries(env)))
    config = config_factory("bc")
    with config.values_unlocked():
        config.observation.modalities.obs.low_dim = names
        config.observation.modalities.obs.rgb = []
    obs_utils.initialize_obs_utils_with_config(config)
    dataset = SequenceDataset(str(path), names, ("actions", "rewards", "dones"), seq_length=1)
    parts = [dataset[i] for i in range(len(dataset))]
    seen = np.stack([np.concatenate([x["obs"][name][0] for name in names]) for x in parts])
    same = np.array_equal(np.stack([x["actions"][0] for x in parts]), recording.arrays["actions"])
    same = same and np.array_equal(seen, recording.arrays["obs"])
    shapes = {name: list(parts[0]["obs"][name].shape[1:]) for name in names}
    model = algo_factory("bc", config, shapes, recording.arrays["actions"].shape[1], torch.device("cpu"))
    model.set_train()

    def step(batch: Any) -> float:
        prepared = model.process_batch_for_training(batch)
        return float(model.train_on_batch(prepared, epoch=0)["losses"]["action_loss"])

    loader = torch.utils.data.DataLoader(dataset, 64, shuffle=True)
    return {
        "episodes": dataset.n_demos,
        "frames": len(dataset),
        "bit_identical": same,
        "learner": "BC, from the parts of the observation",
        "loss": _losses(step, loader, steps=600),
    }


def in_stable_baselines3(run: ExpertRun, env: Env, recording: Recording, folder: Path) -> dict[str, Any]:
    """Stable-Baselines3's checker looks at the environment, and its PPO plays in it."""
    import gymnasium
    from stable_baselines3 import PPO
    from stable_baselines3.common.env_checker import check_env

    import expertgen_jax.envs.gymnasium

    world = expertgen_jax.envs.gymnasium.TaskEnv(env)
    check_env(world)
    learner = PPO("MlpPolicy", world, n_steps=128, batch_size=64, device="cpu").learn(256)
    named = gymnasium.make(f"expertgen/{env.task.name}", physics="native")
    return {"checker": True, "learner": "PPO", "steps": learner.num_timesteps, "id": named.spec and named.spec.id}


def in_brax(run: ExpertRun, env: Env, recording: Recording, folder: Path) -> dict[str, Any]:
    """Brax's PPO learns in the environment; rewarded for going down by 1 cm, as it would not meet success itself."""
    from brax.training.agents.ppo import train as ppo

    from expertgen_jax.envs.brax import BraxEnv

    lower = float(env.task.start(jax.random.key(0)).qpos[2]) - 0.01
    easy = dataclasses.replace(env.task, success=lambda data, context: data.qpos[2] < lower)
    horizon, returns = env.task.horizon, list[float]()
    ppo.train(
        environment=BraxEnv(env.replace(task=easy)),
        num_timesteps=300_000,
        episode_length=horizon,
        num_envs=64,
        batch_size=64,
        num_minibatches=4,
        unroll_length=20,
        num_updates_per_batch=4,
        learning_rate=3e-4,
        discounting=0.98,
        entropy_cost=1e-2,
        reward_scaling=10.0,
        num_evals=3,
        num_eval_envs=128,
        normalize_observations=True,
        seed=0,
        progress_fn=lambda step, metrics: returns.append(float(metrics["eval/episode_reward"])),
    )
    return {"learner": "PPO, to go down", "steps": 300_000, "returns": returns}


def in_jax2onnx(run: ExpertRun, env: Env, recording: Recording, folder: Path) -> dict[str, Any]:
    """Expert and depth student as ONNX against JAX, by onnxruntime: the largest difference of an action."""
    import onnxruntime

    rng, apart = np.random.default_rng(0), {}
    for brain in (export.of_expert(run), export.of_student(load_student(run, "depth"))):
        shapes = [jax.ShapeDtypeStruct((brain.history, *x.shape), np.float32) for x in brain.percept]
        function, inputs = export.policy_of_arrays(brain, shapes)
        if why := onnx.write(folder / "policy.onnx", function, inputs, "actions"):
            raise SystemExit(why)
        session = onnxruntime.InferenceSession(folder / "policy.onnx", providers=["CPUExecutionProvider"])
        policy, worst, obs = jax.jit(function), 0.0, recording.arrays["obs"]
        for _ in range(200):
            tried = {name: rng.uniform(0.1, 0.9, x.shape).astype(np.float32) for name, x in inputs.items()}
            if brain.kind == "state":
                tried = {"vectors": obs[rng.integers(0, len(obs), brain.history)]}
            there, here = session.run(None, tried)[0], np.asarray(policy(*tried.values()))
            worst = max(worst, float(np.abs(there - here).max()))
        apart[brain.name] = worst
    return {"largest_difference": apart, "onnxruntime": metadata.version("onnxruntime")}


def in_playground(run: ExpertRun, env: Env, recording: Recording, folder: Path) -> dict[str, Any]:
    """A task of Playground's that was steered from a file of demonstrations."""
    if run.settings.demos is None:
        raise SystemExit(f"{run.directory.path}: steer it from a file, with --demos")
    summary = json.loads((run.directory.path / "summary.json").read_text())
    names = ("demo_success", "prior_success", "expert_success", "ci95", "transfer", "train_episodes", "seed")
    return {"from_a_file": True, **{name: summary[name] for name in names}}


LIBRARIES: dict[Library, Callable[[ExpertRun, Env, Recording, Path], dict[str, Any]]] = {
    "lerobot": in_lerobot,
    "robomimic": in_robomimic,
    "stable_baselines3": in_stable_baselines3,
    "brax": in_brax,
    "jax2onnx": in_jax2onnx,
    "playground": in_playground,
}


def _losses(step: Callable[[Any], float], loader: Any, steps: int) -> dict[str, float]:
    """The mean loss of the first and the last tenth of a short training."""
    batches = itertools.islice(itertools.chain.from_iterable(itertools.repeat(loader)), steps)
    losses, tenth = [step(batch) for batch in batches], steps // 10
    return {"first": float(np.mean(losses[:tenth])), "last": float(np.mean(losses[-tenth:]))}


if __name__ == "__main__":
    main(tyro.cli(Arguments))
