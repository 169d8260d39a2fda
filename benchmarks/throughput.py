"""Where the time of steering goes: each part alone, the loops made of them, and the ratios between the two.

    python benchmarks/throughput.py --out results/throughput.json
    python benchmarks/throughput.py --sweep --physics mjx warp        # on a GPU, unchanged

The weights are untrained: they cost the same. All programs start from the same worlds, in the middle of their episodes.
"""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from mujoco.batch import Batch

from expertgen_jax import command, diffusion, physics, report, rollout, tasks
from expertgen_jax.rollout import Env, World
from expertgen_jax.runlog import provenance, write_json
from expertgen_jax.steering import SteerConfig, Steering, SteerState


@dataclasses.dataclass(frozen=True)
class Throughput:
    """Steps/s of bare physics, acting, learning and whole iterations, and the ratios between them."""

    task: str = "peg"
    """Name of a task or path to a task file."""
    physics: tuple[Literal["mjx", "warp", "native"], ...] = ("native", "mjx")
    """Engines to measure."""
    worlds: tuple[int, ...] = (256,)
    """Batch sizes to measure."""
    sweep: bool = False
    """Measure 64 to 16384 worlds, in powers of 4."""
    iterations: int = 10
    """Decisions in a timed program."""
    repeats: int = 5
    """Timed runs of each program; all programs take turns and the median counts."""
    out: Path | None = None
    """JSON file for the figures."""


def main(args: Throughput) -> None:
    rows = []
    for backend in args.physics:
        for worlds in (64, 256, 1024, 4096, 16384) if args.sweep else args.worlds:
            rows.append(measure(args, backend, worlds))
            print(
                report.table([{"": name, "value": _cell(value)} for name, value in rows[-1].items()]), "\n", flush=True
            )
    if args.out is not None:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        write_json(args.out, {"task": args.task, **provenance(), "rows": rows})


def measure(args: Throughput, backend: str, worlds: int) -> dict[str, Any]:
    """Times every part and loop for one back end and batch size; rates are a second, ratios of times."""
    config = SteerConfig(worlds=worlds, block_iterations=args.iterations)
    env = rollout.make_env(tasks.load(args.task), backend, worlds)
    shapes = jax.eval_shape(lambda k: rollout.reset(env, k), jax.random.key(0))
    prior = diffusion.untrained(diffusion.DiffusionConfig(), shapes.obs.shape[0], env.task.action_size)
    steering = Steering(env, prior, config)
    state = jax.jit(lambda s: steering.block(s)[0])(jax.jit(steering.init)(jax.random.key(0)))

    def loop(step: Callable[[Any], Any]) -> Callable[[Any], Any]:
        return lambda x: jax.lax.scan(lambda x, _: (step(x), None), x, None, length=args.iterations)[0]

    def hold(worlds: World) -> World:  # the physics of one decision
        def control_step(data: Any, _: None) -> tuple[Any, None]:
            return physics.step(env.model, data, data.ctrl, env.nstep), None

        def decision(world: World) -> World:
            return world.replace(data=jax.lax.scan(control_step, world.data, None, length=prior.config.chunk)[0])

        return jax.vmap(decision)(worlds)

    def sample(obs_and_noise: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        obs, noise = obs_and_noise  # each chunk is the noise of the next, so that none can be skipped
        return obs, jax.vmap(lambda o, w: diffusion.sample(prior, o, w))(obs, noise)

    noise = jax.random.normal(jax.random.key(1), (worlds, *prior.noise_shape))
    programs = {
        "physics_in_jit": (loop(hold), state.worlds),
        "sampling": (loop(sample), (state.worlds.obs, noise)),
        "acting": (loop(lambda s: steering.act(s)[0]), state),
        "learning": (loop(lambda s: steering.learn(s)[0]), state),
        "iteration": (lambda s: steering.block(s)[0], state),
    }
    calls = {name: compiled(*program) for name, program in programs.items()}
    if backend == "native":
        calls["physics"] = bare_native(env, state, prior.config.chunk * args.iterations)
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(args.repeats):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    median = {name: float(np.median(times)) for name, times in seconds.items()}

    bare_physics = median.get("physics", median["physics_in_jit"])
    substeps = worlds * args.iterations * prior.config.chunk * env.nstep
    return {
        "physics": backend,
        "worlds": worlds,
        "physics_steps_per_s": substeps / bare_physics,
        "physics_in_jit_steps_per_s": substeps / median["physics_in_jit"],
        "acting_env_steps_per_s": substeps / env.nstep / median["acting"],
        "updates_per_s": args.iterations * config.updates / median["learning"],
        "iteration_env_steps_per_s": substeps / env.nstep / median["iteration"],
        "in_jit_over_bare_physics": bare_physics / median["physics_in_jit"],
        "acting_over_parts": (bare_physics + median["sampling"]) / median["acting"],
        "iteration_over_parts": (bare_physics + median["sampling"] + median["learning"]) / median["iteration"],
    }


def compiled(function: Callable[[Any], Any], argument: Any) -> Callable[[], Any]:
    """A call that runs the compiled program to its end."""
    executable = jax.jit(function).lower(argument).compile()
    return lambda: jax.block_until_ready(executable(argument))


def bare_native(env: Env, state: SteerState, control_steps: int) -> Callable[[], Any]:
    """A call that steps `mujoco.batch.Batch` by itself, from the worlds of `state`, one control step at a time."""
    data = jax.device_get(state.worlds.data)
    batch = Batch(env.model.mj, len(data.qpos))
    fields = {name: getattr(data, name) for name in ("qpos", "qvel", "ctrl", "mocap_pos", "mocap_quat")}

    def call() -> None:
        batch.reset(stage=0)
        for name, values in fields.items():
            batch.bind(name)[...] = values
        for _ in range(control_steps):
            batch.step(nstep=env.nstep)

    return call


def _cell(value: float | str) -> str:
    if isinstance(value, float):
        return f"{value:.3f}" if value < 10 else f"{value:,.0f}"
    return str(value)


if __name__ == "__main__":
    command.run(Throughput, main)
