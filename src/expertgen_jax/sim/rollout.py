"""Episodes: the only loop over time.

An `Env` is a task on a back end. A `World` is one episode in progress. A *decision* is one action chunk: `advance`
executes it control step by control step and freezes the world where the episode ends, also inside the chunk, so that
what it returns is the true final state. `reset` and `advance` are unbatched; `play` and `record` roll out many worlds.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, ArrayLike, Bool, Float, Int, Key, PRNGKeyArray

from expertgen_jax.sim import physics
from expertgen_jax.task import Script, Task

SLOTS = 256
"""Episodes that `play` has in progress at a time."""


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


class Policy(NamedTuple):
    """Anything that acts: script, prior, expert, student.

    Attributes:
      chunk: control steps a decision.
      init: `key -> memory` at an episode's start; `()` for a policy without memory.
      act: `(params, memory, world, key) -> (memory, actions [chunk, action_size])`.
    """

    chunk: int
    init: Callable[[Key[Array, ""]], Any]
    act: Callable[[Any, Any, "World", PRNGKeyArray], tuple[Any, Float[Array, "chunk action_size"]]]


class Agent(struct.PyTreeNode):
    """A policy with its parameters: what is evaluated, recorded, exported; an argument of compiled programs.

    Attributes:
      name: how tables and videos call it.
      policy: how it acts.
      params: its parameters; `()` for a policy without.
    """

    name: str = struct.field(pytree_node=False)
    policy: Policy = struct.field(pytree_node=False)
    params: Any = ()

    def init(self, key: Key[Array, ""]) -> Any:
        """Its memory at an episode's start."""
        return self.policy.init(key)

    def act(self, memory: Any, world: "World", key: PRNGKeyArray) -> tuple[Any, Float[Array, "chunk action_size"]]:
        """What it does in a world: `(memory, actions [chunk, action_size])`; unbatched."""
        return self.policy.act(self.params, memory, world, key)


def policy_from_obs(
    chunk: int, act: Callable[[Any, Float[Array, "obs_size"], PRNGKeyArray], Float[Array, "chunk action_size"]]
) -> Policy:
    """The policy of a memoryless function `(params, obs, key) -> actions [chunk, action_size]`."""
    return Policy(chunk, lambda key: (), lambda params, memory, world, key: ((), act(params, world.obs, key)))


def policy_from_script(script: Script) -> Policy:
    """The policy of a script; it has no parameters and decides at every control step."""

    def act(
        params: Any, memory: Any, world: World, key: Key[Array, ""]
    ) -> tuple[Any, Float[Array, "chunk=1 action_size"]]:
        memory, action = script.act(memory, world.data, world.context, key)
        return memory, action[None]

    return Policy(1, script.init, act)


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


def reset_done(env: Env, worlds: World, key: Key[Array, ""]) -> World:
    """Starts a fresh random episode in each of `worlds: [n]` whose episode is over."""
    over = done(env, worlds)
    fresh = jax.vmap(lambda k: reset(env, k))(jax.random.split(key, over.shape[0]))
    return _pick(over, fresh, worlds)


def _pick(condition: Bool[Array, "n"], new: World, old: World) -> World:
    """Of the worlds `[n]` the new ones where `condition`."""

    def pick(condition: Bool[Array, ""], new: World, old: World) -> World:
        merged = physics.where(condition, new.replace(data=None), old.replace(data=None))
        return merged.replace(data=physics.where(condition, new.data, old.data))

    return jax.vmap(pick)(condition, new, old)


def scripted_agent(task: Task) -> Agent:
    """The task's imperfect demonstrator."""
    return Agent("script", policy_from_script(task.script))


def untrained_agents(task: Task) -> dict[str, Agent]:
    """Agents that every task has, by name: `script`; `zero`, which does nothing; `random`, whose actions are uniform in
    [-1, 1]; and `strong_script` where the task has one."""
    shape = (1, task.action_size)
    agents = [
        scripted_agent(task),
        Agent("zero", policy_from_obs(1, lambda params, obs, key: jnp.zeros(shape))),
        Agent("random", policy_from_obs(1, lambda params, obs, key: jax.random.uniform(key, shape, minval=-1.0))),
    ]
    if task.strong_script is not None:
        agents.append(Agent("strong_script", policy_from_script(task.strong_script)))
    return {agent.name: agent for agent in agents}


def start(env: Env, policy: Policy, key: Key[Array, ""]) -> tuple[World, Any]:
    """The episode of that key: its world and the policy's memory."""
    reset_key, memory_key, _ = jax.random.split(key, 3)
    return reset(env, reset_key), policy.init(memory_key)


class _Slot(NamedTuple):
    """An episode that is being played: its number from 0, its world, and the memory of the agent's policy."""

    number: Int[Array, "*batch"]
    world: World
    memory: Any


@functools.partial(jax.jit, static_argnames=("count", "slots"))
def play(
    env: Env,
    agent: Agent,
    key: Key[Array, ""],
    count: int,
    first: Int[Array, ""] | int = 0,
    *,
    slots: int = SLOTS,
) -> World:
    """Plays `count` episodes to their ends, those numbered from `first` on.

    Episode i depends on `key`, i and the agent only, not on `count`, `first` and `slots`.

    Args:
      env: the environment.
      agent: who plays.
      key: randomness.
      count: episodes.
      first: number of the first.
      slots: episodes side by side; where one is over the next begins, so that nobody waits for the longest.

    Returns:
      The final worlds, `[count]`.
    """
    keys = episode_keys(key, first + jnp.arange(count))
    if env.model.backend == "warp":  # whose worlds share their contacts, so that none can be put aside
        slots = count
    slots = min(slots, count)

    def begin(number: Int[Array, ""]) -> tuple[World, Any]:
        return start(env, agent.policy, keys[jnp.minimum(number, count - 1)])

    def decide(slot: _Slot) -> _Slot:
        world, memory, _ = _decide(env, agent, slot.world, slot.memory, keys[jnp.minimum(slot.number, count - 1)])
        return slot._replace(world=world, memory=memory)

    def on(carry: tuple[_Slot, World, Int[Array, ""]]) -> tuple[_Slot, World, Int[Array, ""]]:
        taken, ended, begun = carry
        taken = jax.vmap(decide)(taken)
        over = done(env, taken.world) & (taken.number < count)
        place = jnp.where(over, taken.number, count)
        ended = jax.tree.map(lambda all, new: all.at[place].set(new, mode="drop"), ended, taken.world)
        number = jnp.where(over, begun + jnp.cumsum(over) - 1, taken.number)
        world, memory = jax.vmap(begin)(number)
        fresh = over & (number < count)
        world = _pick(fresh, world, taken.world)
        memory = jax.vmap(physics.where)(fresh, memory, taken.memory)
        return _Slot(number, world, memory), ended, begun + over.sum()

    worlds, memories = jax.vmap(begin)(jnp.arange(slots))
    if slots == count:
        return jax.lax.while_loop(
            lambda slot: ~done(env, slot.world).all(), jax.vmap(decide), _Slot(jnp.arange(count), worlds, memories)
        ).world
    ended = jax.tree.map(lambda x: jnp.broadcast_to(x[:1], (count, *x.shape[1:])), worlds)
    carry = _Slot(jnp.arange(slots), worlds, memories), ended, jnp.int32(slots)
    return jax.lax.while_loop(lambda carry: (carry[0].number < count).any(), on, carry)[1]


@functools.partial(jax.jit, static_argnames="count")
def record(
    env: Env, agent: Agent, key: Key[Array, ""], count: int, first: Int[Array, ""] | int = 0
) -> tuple[World, Frame]:
    """Like `play`, and keeps every control step.

    Returns:
      The final worlds `[count]`, and frames `[count, time, ...]` with `time >= horizon`, a multiple of the chunk.
    """
    keys = episode_keys(key, first + jnp.arange(count))
    return record_from(env, agent, *jax.vmap(lambda k: start(env, agent.policy, k))(keys), keys)


@jax.jit
def record_from(env: Env, agent: Agent, worlds: World, memories: Any, keys: Key[Array, "count"]) -> tuple[World, Frame]:
    """Like `record`, from given worlds, memories of the agent's policy and keys, `[count]` each."""

    def decide(carry: tuple[World, Any], _: None) -> tuple[tuple[World, Any], Frame]:
        worlds, memories, frames = jax.vmap(lambda w, m, k: _decide(env, agent, w, m, k))(*carry, keys)
        return (worlds, memories), frames

    decisions = -(-env.task.horizon // agent.policy.chunk)
    (worlds, _), frames = jax.lax.scan(decide, (worlds, memories), None, length=decisions)
    return worlds, jax.tree.map(
        lambda x: jnp.moveaxis(x, 0, 1).reshape(len(keys), decisions * agent.policy.chunk, *x.shape[3:]), frames
    )


def episode_keys(key: Key[Array, ""], numbers: Int[Array, "n"]) -> Key[Array, "n"]:
    """The keys of the episodes that `play` and `record` number so."""
    return jax.vmap(lambda i: jax.random.fold_in(key, i))(numbers)


def act(agent: Agent, memory: Any, world: World, key: Key[Array, ""]) -> tuple[Any, Float[Array, "chunk action_size"]]:
    """The decision that is due in the episode of `key`: the agent's memory and its actions `[chunk, action_size]`."""
    return agent.act(memory, world, jax.random.fold_in(jax.random.split(key, 3)[2], world.steps))


def _decide(env: Env, agent: Agent, world: World, memory: Any, key: Key[Array, ""]) -> tuple[World, Any, Frame]:
    memory, actions = act(agent, memory, world, key)
    world, frames = advance(env, world, actions)
    return world, memory, frames
