"""Where the time of steering goes: each part alone, the loops made of them, and the ratios between the two.

    python benchmarks/throughput.py --out results/throughput.json
    python benchmarks/throughput.py --sweep --physics mjx warp        # on a GPU, unchanged

The weights are untrained: they cost the same. The physics alone does exactly the substeps that the acting loop asks of
it: the same states and commands.
"""

import dataclasses
import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from mujoco.batch import Batch

from expertgen_jax import bounds
from expertgen_jax.bounds import Count
from expertgen_jax.cli import command
from expertgen_jax.files import write_json
from expertgen_jax.learning import diffusion
from expertgen_jax.learning.steering import SteerConfig, Steering, SteerState
from expertgen_jax.runs import tables
from expertgen_jax.runs.provenance import provenance
from expertgen_jax.sim import episode, physics
from expertgen_jax.sim.episode import Env, World
from expertgen_jax.sim.robots import RobotName
from expertgen_jax.task import View
from expertgen_jax.tasks import registry
from expertgen_jax.vision import appearance, camera
from expertgen_jax.vision.appearance import VISUAL_RANDOMIZATIONS

PICTURES = (32, 64)
"""Height and width of pictures to measure (pixels)."""


@dataclasses.dataclass(frozen=True)
class Throughput:
    """Steps/s of bare physics, acting, learning and whole iterations, the ratios between them, and pictures/s."""

    task: str = "peg"
    """Name of a task or path to a task file."""
    robot: tuple[RobotName, ...] = ("hand",)
    """Robots to measure."""
    physics: tuple[Literal["mjx", "warp", "native"], ...] = ("native", "mjx")
    """Engines to measure."""
    worlds: tuple[Count, ...] = (256,)
    """Batch sizes to measure."""
    sweep: bool = False
    """Measure 64 to 16384 worlds, in powers of 4."""
    iterations: Count = 10
    """Decisions in a timed program."""
    repeats: Count = 9
    """Rounds in which every program runs once; of rates and of ratios the median over the rounds counts."""
    out: Path | None = None
    """JSON file for the figures."""


def main(args: Throughput) -> None:
    bounds.check(args)
    if args.out is not None:
        command.prepare(args.out)
    rows = []
    sizes = (64, 256, 1024, 4096, 16384) if args.sweep else args.worlds
    for backend, robot, worlds in itertools.product(args.physics, args.robot, sizes):
        rows.append(measure(args, backend, robot, worlds))
        print(tables.table([{"": name, "value": _cell(value)} for name, value in rows[-1].items()]), "\n", flush=True)
    if args.out is not None:
        write_json(args.out, {"task": args.task, **provenance(), "rows": rows})


def measure(args: Throughput, backend: str, robot: RobotName, worlds: int) -> dict[str, Any]:
    """Times every part and loop for one back end, robot and batch size; rates are a second, ratios of times."""
    config = SteerConfig(worlds=worlds, block_decisions=worlds * args.iterations)
    env = episode.make_env(registry.load_task(args.task, robot=robot), backend, worlds)
    prior = diffusion.untrained(diffusion.DiffusionConfig(), episode.sizes(env)[0], env.task.action_size)
    steering = Steering(env, prior, config)
    state = jax.jit(lambda s: steering.block(s)[0])(jax.jit(steering.init)(jax.random.key(0)))

    def loop(step: Callable[[Any], Any]) -> Callable[[Any], Any]:
        return lambda x: jax.lax.scan(lambda x, _: (step(x), None), x, None, length=args.iterations)[0]

    def sample(obs_and_noise: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        obs, noise = obs_and_noise  # each chunk is the noise of the next, so that none can be skipped
        return obs, jax.vmap(lambda o, w: diffusion.sample(prior, o, w))(obs, noise)

    work = jax.jit(lambda s: workload(steering, s, args.iterations))(state)
    noise = jax.random.normal(jax.random.key(1), (worlds, *prior.noise_shape))
    programs = {
        "physics_in_jit": (lambda w: physics_alone(env, w), work),
        "sampling": (loop(sample), (state.worlds.obs, noise)),
        "acting": (loop(steering.act), state),
        "learning": (loop(lambda s: steering.learn(s)[0]), state),
        "iteration": (lambda s: steering.block(s)[0], state),
    }
    views = tuple(env.task.cameras.values())
    if views:
        programs |= {f"depth_{size}": (depth_pictures(env, views, size), state.worlds) for size in PICTURES}
        programs |= {f"colour_{size}": (colour_pictures(env, size), state.worlds) for size in PICTURES}
    calls = {name: compiled(*program) for name, program in programs.items()}
    if backend == "native":
        calls["physics"] = bare_native(env, jax.device_get(work))
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(args.repeats):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    times = {name: np.array(rounds) for name, rounds in seconds.items()}

    bare_physics = times.get("physics", times["physics_in_jit"])
    substeps = worlds * args.iterations * prior.config.chunk * env.nstep
    figures = {
        "physics_steps_per_s": substeps / bare_physics,
        "physics_in_jit_steps_per_s": substeps / times["physics_in_jit"],
        "acting_env_steps_per_s": substeps / env.nstep / times["acting"],
        "updates_per_s": args.iterations * config.actor_updates * config.learner.actor_period / times["learning"],
        "iteration_env_steps_per_s": substeps / env.nstep / times["iteration"],
        "in_jit_over_bare_physics": bare_physics / times["physics_in_jit"],
        "acting_over_parts": (bare_physics + times["sampling"]) / times["acting"],
        **{
            f"{kind}_{n}x{n}_per_s": worlds * len(views) / times[f"{kind}_{n}"]
            for kind in ("depth", "colour")
            for n in PICTURES
            if views
        },
        "iteration_over_parts": (bare_physics + times["sampling"] + times["learning"]) / times["iteration"],
    }
    medians = {name: float(np.median(rounds)) for name, rounds in figures.items()}  # by round: a machine's speed drifts
    return {"physics": backend, "robot": robot, "worlds": worlds, **medians}


def depth_pictures(env: Env, views: tuple[View, ...], size: int) -> Callable[[World], jax.Array]:
    """Depth pictures of all worlds by all cameras, `[worlds, views, size, size]`."""

    def see(world: World) -> jax.Array:
        geoms = camera.visible(env.model.mj, world.data, world.fields)
        cameras = [camera.of_view(env.model.mj, world.data, view) for view in views]
        return jnp.stack([camera.render(geoms, view, size, size).depth for view in cameras])

    return jax.vmap(see)


def colour_pictures(env: Env, size: int) -> Callable[[World], jax.Array]:
    """Colour pictures of all worlds by all cameras, `[worlds, views, size, size, 3]`, under the default visual
    randomisation, with patterns and shadows."""
    ranges, mj = VISUAL_RANDOMIZATIONS["default"], env.model.mj

    def see(world: World) -> jax.Array:
        look_key, picture_key = jax.random.split(jax.random.fold_in(world.key, world.steps))
        look = appearance.draw(ranges, env.task, mj, look_key)
        return appearance.see(ranges, env.task, mj, world, look, size, picture_key).rgb

    return jax.vmap(see)


def compiled(function: Callable[[Any], Any], argument: Any) -> Callable[[], Any]:
    """A call that runs the compiled program to its end."""
    executable = jax.jit(function).lower(argument).compile()
    return lambda: jax.block_until_ready(executable(argument))


def workload(steering: Steering, state: SteerState, iterations: int) -> Any:
    """What the acting loop asks of the physics: worlds `[iterations, n]` and commands `[iterations, chunk, n, nu]`."""
    env = steering.env

    def decision(state: SteerState, _: None) -> tuple[SteerState, Any]:
        def control_step(worlds: World, actions: jax.Array) -> tuple[World, jax.Array]:
            ctrl = jax.vmap(env.task.control)(worlds.data, actions)
            return jax.vmap(lambda w, a: episode.advance(env, w, a[None])[0])(worlds, actions), ctrl

        noise_key = jax.random.split(state.key, 4)[1]  # as in `Steering.act`
        chunks = steering.decide(state, noise_key)[1]
        ctrls = jax.lax.scan(control_step, state.worlds, jnp.swapaxes(chunks, 0, 1))[1]
        return steering.act(state), (state.worlds.data, ctrls)

    return jax.lax.scan(decision, state, None, length=iterations)[1]


def physics_alone(env: Env, work: Any) -> Any:
    """The last states after the substeps of `work`, inside one program."""

    def decision(last: Any, data_and_ctrls: Any) -> tuple[Any, None]:
        def control_step(data: Any, ctrl: jax.Array) -> tuple[Any, None]:
            return jax.vmap(lambda d, c: physics.step(env.model, d, c, env.nstep))(data, ctrl), None

        return jax.lax.scan(control_step, *data_and_ctrls)[0], None

    return jax.lax.scan(decision, jax.tree.map(lambda x: x[0], work[0]), work)[0]


def bare_native(env: Env, work: Any) -> Callable[[], Any]:
    """A call that does the substeps of `work` with `mujoco.batch.Batch` alone."""
    datas, ctrls = work
    batch = Batch(env.model.mj, ctrls.shape[2])
    names = ("qpos", "qvel", "qacc_warmstart", "mocap_pos", "mocap_quat")
    views, command_view = {name: batch.bind(name) for name in names}, batch.bind("ctrl")

    def call() -> None:
        for i in range(len(ctrls)):
            for name, view in views.items():
                view[...] = getattr(datas, name)[i]
            for ctrl in ctrls[i]:
                command_view[...] = ctrl
                batch.step(nstep=env.nstep)

    return call


def _cell(value: float | str) -> str:
    if isinstance(value, float):
        return f"{value:.3f}" if value < 10 else f"{value:,.0f}"
    return str(value)


if __name__ == "__main__":
    command.run("throughput", Throughput, main, None)
