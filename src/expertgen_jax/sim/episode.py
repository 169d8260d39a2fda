"""An episode: a task on a back end, a world in it, how it begins, goes on and ends.

An `Env` is a task on a back end. A `World` is one episode in progress. A *decision* is one action chunk: `advance`
executes it control step by control step and freezes the world where the episode ends, also inside the chunk, so that
what it returns is the true final state. `reset` and `advance` are unbatched.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, cast

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, ArrayLike, Bool, Float, Int, Key

from expertgen_jax.sim import physics
from expertgen_jax.task import Task

F = TypeVar("F", bound=Callable[..., Any])


class Env(struct.PyTreeNode):
    """A task on a back end; an argument of compiled programs.

    Attributes:
      model: the scene.
      parameters: see `Task.parameters`.
      task: its functions.
      nstep: physics substeps a control step.
      actions_seen: the last so many actions follow the task's observation, the newest first, where they may be under
        way still: as many as the task's longest delay.
    """

    model: physics.Model
    parameters: Any
    task: Task = struct.field(pytree_node=False)
    nstep: int = struct.field(pytree_node=False)
    actions_seen: int = struct.field(pytree_node=False, default=0)

    @property
    def line(self) -> int:
        """Past actions that a world keeps."""
        return max(self.task.max_delay, self.actions_seen)


def make_env(task: Task, backend: str = "auto", max_worlds: int = 4096, actions_seen: int | None = None) -> Env:
    """Compiles the task's scene and puts it on a back end; see `physics.resolve` for the errors."""
    model = physics.load(task.scene().compile(), backend, max_worlds)
    parameters = jax.tree.map(jnp.asarray, task.parameters)
    nstep = round(task.control_dt / model.timestep)
    return Env(model, parameters, task, nstep, task.max_delay if actions_seen is None else actions_seen)


def jit(function: F, **options: Any) -> F:
    """`jax.jit` of a function whose first argument is an environment, compiled as its model asks for, see
    `physics.compiler_options`; inside another program it is part of that."""
    programs: dict[tuple[str, ...], Any] = {}

    @functools.wraps(function)
    def call(env: Env, *args: Any, **kwargs: Any) -> Any:
        inside = any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves((env, args, kwargs)))
        asked = {} if inside else physics.compiler_options(env.model)
        if (name := tuple(asked)) not in programs:
            programs[name] = jax.jit(function, compiler_options=asked or None, **options)
        return programs[name](env, *args, **kwargs)

    return cast(F, call)


def sizes(env: Env) -> tuple[int, int]:
    """Numbers in an observation, and in what only the critics see."""
    world = jax.eval_shape(lambda k: reset(env, k), jax.random.key(0))
    return world.obs.shape[0], world.privileged.shape[0]


def entries(env: Env) -> list[str]:
    """The name of each number in an observation, `[obs_size]`; of past actions `past_actions`."""
    world, task = jax.eval_shape(lambda k: reset(env, k), jax.random.key(0)), env.task
    parts = jax.eval_shape(task.observe, world.data, world.context)
    names = [name for name in task.observation for _ in range(math.prod(parts[name].shape))]
    return names + ["past_actions"] * (world.obs.shape[0] - len(names))


class World(struct.PyTreeNode):
    """One episode in progress, at a decision boundary or frozen at its end.

    Attributes:
      key: of what is random on the way.
      data: physics state.
      context: the task's, see `Task.update`.
      fields: model fields of this world, see `physics.Model.fields`.
      variant: which of the task's variants this is.
      obs: `[obs_size]`, what a policy sees now; privileged: `[privileged_size]`.
      delays: `[2]`, control steps by which observations, and actions, come late.
      unseen: `[max_delay, n]`, what the task observed, under way or past, the newest first.
      unsent: `[line, action_size]`, the same of actions.
      steps: control steps done.
      held: control steps for which strict success has held without a break.
      success: strict success, held for `task.hold` steps; the episode is over.
      lenient: lenient success was seen (latched).
      diverged: physics blew up; the episode is over, a failure, and `data` is the last finite state.
    """

    key: Key[Array, "*batch"]
    data: Any
    context: Any
    fields: dict[str, Float[Array, "..."]]
    variant: Int[Array, "*batch"]
    obs: Float[Array, "*batch obs_size"]
    privileged: Float[Array, "*batch privileged_size"]
    delays: Int[Array, "*batch 2"]
    unseen: Float[Array, "*batch max_delay n"]
    unsent: Float[Array, "*batch line action_size"]
    steps: Int[Array, "*batch"]
    held: Int[Array, "*batch"]
    success: Bool[Array, "*batch"]
    lenient: Bool[Array, "*batch"]
    diverged: Bool[Array, "*batch"]


class Frame(NamedTuple):
    """One control step as it was recorded: what was seen, what was done, and the pose for a video.

    `active` is False after the episode's end; such frames repeat the final state.
    """

    obs: Float[Array, "*batch obs_size"]
    action: Float[Array, "*batch action_size"]
    qpos: Float[Array, "*batch nq"]
    mocap_pos: Float[Array, "*batch nmocap 3"]
    mocap_quat: Float[Array, "*batch nmocap 4"]
    active: Bool[Array, "*batch"]


def done(env: Env, world: World) -> Bool[Array, "*batch"]:
    """The episode is over: success, divergence or time-out."""
    return world.success | world.diverged | (world.steps >= env.task.horizon)


def reset(env: Env, key: Key[Array, ""]) -> World:
    """A fresh episode."""
    task = env.task
    start = task.start(key, env.parameters)
    fields = dict(start.fields)
    data = physics.init(
        physics.with_fields(env.model, fields),
        start.qpos,
        ctrl=start.ctrl,
        mocap_pos=start.mocap_pos,
        mocap_quat=start.mocap_quat,
    )
    variant, delays = jnp.int32(start.variant), jnp.asarray(start.delays, jnp.int32)
    return _begin(env, jax.random.fold_in(key, 1), data, start.context, fields, variant, delays)


def restart(env: Env, world: World) -> World:
    """An episode that begins where `world` is: its physics and constants, nothing done or succeeded yet."""
    key = jax.random.fold_in(world.key, world.steps)
    return _begin(env, key, world.data, world.context, world.fields, world.variant, world.delays)


def _begin(
    env: Env,
    key: Key[Array, ""],
    data: Any,
    context: Any,
    fields: dict[str, Float[Array, "..."]],
    variant: Int[Array, ""],
    delays: Int[Array, "2"],
) -> World:
    no, task = jnp.bool_(False), env.task
    key, first_key = jax.random.split(key)
    if task.update is not None:
        context = task.update(data, context, first_key)
    obs, unsent = task.observed(data, context), jnp.zeros((env.line, task.action_size))
    return World(
        key=key,
        data=data,
        context=context,
        fields=fields,
        variant=variant,
        obs=_with_actions(env, obs, unsent),
        privileged=_known(task, data, context, delays),
        delays=delays,
        unseen=jnp.tile(obs, (task.max_delay, 1)),
        unsent=unsent,
        steps=jnp.int32(0),
        held=jnp.int32(0),
        success=no,
        lenient=no,
        diverged=no,
    )


def advance(env: Env, world: World, actions: Float[ArrayLike, "chunk action_size"]) -> tuple[World, Frame]:
    """Executes one chunk `actions: [chunk, action_size]`; returns the world after it and its frames `[chunk, ...]`."""
    task = env.task
    model = physics.with_fields(env.model, world.fields)

    def control_step(world: World, action: Float[Array, "action_size"]) -> tuple[World, Frame]:
        over = done(env, world)
        data, context = world.data, world.context
        frame = Frame(world.obs, action, data.qpos, data.mocap_pos, data.mocap_quat, ~over)
        action, unsent = _delay(action, world.unsent, world.delays[1])
        new = physics.step(model, data, task.control(data, action), env.nstep)
        bad = physics.diverged(new)
        new = physics.where(over | bad, data, new)
        if task.update is not None:
            updated = task.update(new, context, jax.random.fold_in(world.key, world.steps))
            context = physics.where(over | bad, context, updated)
        held = jnp.where(task.success(new, context), world.held + 1, 0)
        lenient = jnp.bool_(False) if task.lenient is None else task.lenient(new, context)
        obs, unseen = _delay(task.observed(new, context), world.unseen, world.delays[0])
        return world.replace(
            data=new,
            context=context,
            obs=jnp.where(over, world.obs, _with_actions(env, obs, unsent)),
            unseen=unseen,
            unsent=unsent,
            steps=jnp.where(over, world.steps, world.steps + 1),
            held=jnp.where(over, world.held, held),
            success=world.success | (~over & ~bad & (held >= task.hold)),
            lenient=world.lenient | (~over & ~bad & lenient),
            diverged=world.diverged | (~over & bad),
        ), frame

    world, frames = jax.lax.scan(control_step, world, jnp.asarray(actions))
    return world.replace(privileged=_known(task, world.data, world.context, world.delays)), frames


def _with_actions(
    env: Env, obs: Float[Array, "n"], unsent: Float[Array, "line action_size"]
) -> Float[Array, "obs_size"]:
    """What a policy sees: what the task observes, and the actions that may be under way."""
    return jnp.concatenate([obs, unsent[: env.actions_seen].ravel()])


def _known(task: Task, data: Any, context: Any, delays: Int[Array, "2"]) -> Float[Array, "privileged_size"]:
    """What only the critics see: what the task tells them, and the delays where there may be some."""
    known = task.known(data, context)
    return jnp.concatenate([known, delays.astype(jnp.float32)]) if task.max_delay else known


def _delay(
    newest: Float[Array, "n"], line: Float[Array, "length n"], delay: Int[Array, ""]
) -> tuple[Float[Array, "n"], Float[Array, "length n"]]:
    """What arrives when `newest: [n]` joins a `line: [length, n]`, newest first; and the line after that."""
    line = jnp.concatenate([newest[None], line])
    return line[delay], line[:-1]


def as_it_is(env: Env, world: World) -> World:
    """The world to a policy that misjudges nothing and sees at once."""
    return world.replace(obs=_with_actions(env, env.task.truly_observed(world.data, world.context), world.unsent))


def reset_done(env: Env, worlds: World, key: Key[Array, ""]) -> World:
    """Starts a fresh random episode in each of `worlds: [n]` whose episode is over."""
    return renewed(env, done(env, worlds), worlds, key)


def renewed(env: Env, over: Bool[Array, "n"], worlds: World, key: Key[Array, ""]) -> World:
    """Starts a fresh random episode in those of `worlds: [n]` that are `over`."""
    fresh = jax.vmap(lambda k: reset(env, k))(jax.random.split(key, over.shape[0]))
    return pick(over, fresh, worlds)


def pick(condition: Bool[Array, "n"], new: World, old: World) -> World:
    """Of the worlds `[n]` the new ones where `condition`."""

    def pick(condition: Bool[Array, ""], new: World, old: World) -> World:
        merged = physics.where(condition, new.replace(data=None), old.replace(data=None))
        return merged.replace(data=physics.where(condition, new.data, old.data))

    return jax.vmap(pick)(condition, new, old)
