"""Where the time of steering goes: each part alone, the loops made of them, and the ratios between the two.

    python benchmarks/throughput.py --out results/throughput.json
    python benchmarks/throughput.py --sweep --physics mjx warp        # on a GPU, unchanged

The weights are untrained: they cost the same. All programs start from the same worlds, in the middle of their episodes.
"""

import dataclasses
import functools
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
            print(report.table([{name: _cell(value) for name, value in rows[-1].items()}]), flush=True)
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
    state = jax.jit(lambda s: steering.block(s, learn=False)[0])(jax.jit(steering.init)(jax.random.key(0)))

    programs = {
        "physics_in_jit": (functools.partial(physics_loop, env), state.worlds),
        "sampling": (functools.partial(sampling_loop, prior), state.worlds.obs),
        "acting": (lambda s: repeat(lambda s: steering.act(s, explore=True)[0], s, args.iterations), state),
        "learning": (lambda s: repeat(lambda s: steering.learn(s)[0], s, args.iterations), state),
        "iteration": (lambda s: steering.block(s, learn=True)[0], state),
    }
    calls = {name: compiled(*program, args.iterations) for name, program in programs.items()}
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


def compiled(function: Callable[[Any], Any], argument: Any, iterations: int) -> Callable[[], Any]:
    """A call that runs the compiled program to its end."""
    executable = jax.jit(functools.partial(function, iterations=iterations) if _takes(function) else function)
    executable = executable.lower(argument).compile()
    return lambda: jax.block_until_ready(executable(argument))
