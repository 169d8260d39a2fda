"""Episodes: the only loop over time.

An `Env` is a task on a back end. A `World` is one episode in progress. A *decision* is one action chunk: `advance`
executes it control step by control step and freezes the world where the episode ends, also inside the chunk, so that
what it returns is the true final state. `reset` and `advance` are unbatched; `play` and `record` roll out many worlds.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, ArrayLike, Bool, Float, Int, Key, PRNGKeyArray

from expertgen_jax.sim import physics
from expertgen_jax.task import Script, Task


class Env(struct.PyTreeNode):
    """A task on a back end; an argument of compiled programs.

    Attributes:
      model: the scene.
      parameters: see `Task.parameters`.
      task: its functions.
      nstep: physics substeps a control step.
    """

    model: physics.Model
    parameters: Any
    task: Task = struct.field(pytree_node=False)
    nstep: int = struct.field(pytree_node=False)


def make_env(task: Task, backend: str = "auto", max_worlds: int = 4096) -> Env:
    """Compiles the task's scene and puts it on a back end; see `physics.resolve` for the errors."""
    model = physics.load(task.scene().compile(), backend, max_worlds)
    parameters = jax.tree.map(jnp.asarray, task.parameters)
    return Env(model, parameters, task, round(task.control_dt / model.timestep))


def sizes(env: Env) -> tuple[int, int]:
    """Numbers in an observation, and in what only the critics see."""
    world = jax.eval_shape(lambda k: reset(env, k), jax.random.key(0))
    return world.obs.shape[0], world.privileged.shape[0]


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
      data: physics state.
      context: the task's per-episode constants.
      fields: model fields of this world, see `physics.Model.fields`.
      variant: which of the task's variants this is.
      obs: `[obs_size]`, what a policy sees now; privileged: `[privileged_size]`.
      delays: `[2]`, control steps by which observations, and actions, come late.
      unseen: `[max_delay, obs_size]`, observations under way or past, the newest first.
      unsent: `[max_delay, action_size]`, the same of actions.
      steps: control steps done.
      held: control steps for which strict success has held without a break.
      success: strict success, held for `task.hold` steps; the episode is over.
      lenient: lenient success was seen (latched).
      diverged: physics blew up; the episode is over, a failure, and `data` is the last finite state.
    """

    data: Any
    context: Any
    fields: dict[str, Float[Array, "..."]]
    variant: Int[Array, "*batch"]
    obs: Float[Array, "*batch obs_size"]
    privileged: Float[Array, "*batch privileged_size"]
    delays: Int[Array, "*batch 2"]
    unseen: Float[Array, "*batch max_delay obs_size"]
    unsent: Float[Array, "*batch max_delay action_size"]
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
    return _begin(task, data, start.context, fields, jnp.int32(start.variant), jnp.asarray(start.delays, jnp.int32))


def restart(env: Env, world: World) -> World:
    """An episode that begins where `world` is: its physics and constants, nothing done or succeeded yet."""
    return _begin(env.task, world.data, world.context, world.fields, world.variant, world.delays)


def _begin(
    task: Task,
    data: Any,
    context: Any,
    fields: dict[str, Float[Array, "..."]],
    variant: Int[Array, ""],
    delays: Int[Array, "2"],
) -> World:
    no = jnp.bool_(False)
    obs = task.observed(data, context)
    return World(
        data=data,
        context=context,
        fields=fields,
        variant=variant,
        obs=obs,
        privileged=task.known(data, context),
        delays=delays,
        unseen=jnp.tile(obs, (task.max_delay, 1)),
        unsent=jnp.zeros((task.max_delay, task.action_size)),
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
        held = jnp.where(task.success(new, context), world.held + 1, 0)
        lenient = jnp.bool_(False) if task.lenient is None else task.lenient(new, context)
        obs, unseen = _delay(task.observed(new, context), world.unseen, world.delays[0])
        return world.replace(
            data=new,
            obs=jnp.where(over, world.obs, obs),
            unseen=unseen,
            unsent=unsent,
            steps=jnp.where(over, world.steps, world.steps + 1),
            held=jnp.where(over, world.held, held),
            success=world.success | (~over & ~bad & (held >= task.hold)),
            lenient=world.lenient | (~over & ~bad & lenient),
            diverged=world.diverged | (~over & bad),
        ), frame

    world, frames = jax.lax.scan(control_step, world, jnp.asarray(actions))
    return world.replace(privileged=task.known(world.data, world.context)), frames


def _delay(
    newest: Float[Array, "n"], line: Float[Array, "max_delay n"], delay: Int[Array, ""]
) -> tuple[Float[Array, "n"], Float[Array, "max_delay n"]]:
    """What arrives when `newest: [n]` joins a `line: [max_delay, n]`, newest first; and the line after that."""
    line = jnp.concatenate([newest[None], line])
    return line[delay], line[:-1]


def reset_done(env: Env, worlds: World, key: Key[Array, ""]) -> World:
    """Starts a fresh random episode in each of `worlds: [n]` whose episode is over."""
    over = done(env, worlds)
    fresh = jax.vmap(lambda k: reset(env, k))(jax.random.split(key, over.shape[0]))

    def pick(over: Bool[Array, ""], new: World, old: World) -> World:
        merged = physics.where(over, new.replace(data=None), old.replace(data=None))
        return merged.replace(data=physics.where(over, new.data, old.data))

    return jax.vmap(pick)(over, fresh, worlds)


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


@functools.partial(jax.jit, static_argnames="count")
def play(env: Env, agent: Agent, key: Key[Array, ""], count: int, first: Int[Array, ""] | int = 0) -> World:
    """Plays `count` episodes side by side to their ends, those numbered from `first` on.

    Episode i depends on `key`, i and the agent only, not on `count` and `first`.

    Returns:
      The final worlds, `[count]`.
    """
    keys = episode_keys(key, first + jnp.arange(count))
    worlds, memories = jax.vmap(lambda k: start(env, agent.policy, k))(keys)

    def decide(carry: tuple[World, Any]) -> tuple[World, Any]:
        worlds, memories, _ = jax.vmap(lambda w, m, k: _decide(env, agent, w, m, k))(*carry, keys)
        return worlds, memories

    return jax.lax.while_loop(lambda carry: ~done(env, carry[0]).all(), decide, (worlds, memories))[0]


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
