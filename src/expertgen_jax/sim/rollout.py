"""Who acts, and many episodes to their ends: the only loop over time.

A `Policy` is anything that acts, an `Agent` one with its parameters. `play` and `record` roll out many worlds.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int, Key, PRNGKeyArray, Shaped

from expertgen_jax.sim import episode, physics
from expertgen_jax.sim.episode import Env, Frame, World
from expertgen_jax.task import Script, Task

SLOTS = 64
"""Episodes that `play` has in progress at a time on a CPU, which is no faster with more; an accelerator has all."""


class Policy(NamedTuple):
    """Anything that acts: script, prior, expert, student.

    Attributes:
      chunk: control steps a decision.
      init: `key -> memory` at an episode's start; `()` for a policy without memory.
      act: `(params, memory, world, key) -> (memory, actions [chunk, action_size])`.
    """

    chunk: int
    init: Callable[[Key[Array, ""]], Any]
    act: Callable[[Any, Any, World, PRNGKeyArray], tuple[Any, Float[Array, "chunk action_size"]]]


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

    def act(self, memory: Any, world: World, key: PRNGKeyArray) -> tuple[Any, Float[Array, "chunk action_size"]]:
        """What it does in a world: `(memory, actions [chunk, action_size])`; unbatched."""
        return self.policy.act(self.params, memory, world, key)


def policy_from_obs(
    chunk: int, act: Callable[[Any, Float[Array, "obs_size"], PRNGKeyArray], Float[Array, "chunk action_size"]]
) -> Policy:
    """The policy of a memoryless function `(params, obs, key) -> actions [chunk, action_size]`."""
    return Policy(chunk, lambda key: (), lambda params, memory, world, key: ((), act(params, world.obs, key)))


def remember(
    new: Shaped[Array, "*shape"], old: Shaped[Array, "history *shape"], first: Bool[Array, ""]
) -> Shaped[Array, "history *shape"]:
    """A policy's memory of the last so many things it saw, the newest first; an episode's first one fills it."""
    return jnp.where(first, new, jnp.concatenate([new[None], old[:-1]]))


def policy_from_script(script: Script) -> Policy:
    """The policy of a script; it has no parameters and decides at every control step."""

    def act(
        params: Any, memory: Any, world: World, key: Key[Array, ""]
    ) -> tuple[Any, Float[Array, "chunk=1 action_size"]]:
        memory, action = script.act(memory, world.data, world.context, key)
        return memory, action[None]

    return Policy(1, script.init, act)


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
    return episode.reset(env, reset_key), policy.init(memory_key)


class _Slot(NamedTuple):
    """An episode that is being played: its number from 0, its world, and the memory of the agent's policy."""

    number: Int[Array, "*batch"]
    world: World
    memory: Any


@functools.partial(episode.jit, static_argnames=("count", "slots"))
def play(
    env: Env,
    agent: Agent,
    key: Key[Array, ""],
    count: int,
    first: Int[Array, ""] | int = 0,
    *,
    slots: int | None = None,
) -> World:
    """Plays `count` episodes to their ends, those numbered from `first` on.

    Episode i depends on `key`, i and the agent only, not on `count`, `first` and `slots`.

    Args:
      env: the environment.
      agent: who plays.
      key: randomness.
      count: episodes.
      first: number of the first.
      slots: episodes side by side, by default as many as suit the machine, see `SLOTS`; where one is over the next
        begins, so that nobody waits for the longest.

    Returns:
      The final worlds, `[count]`.
    """
    keys = episode_keys(key, first + jnp.arange(count))
    if slots is None:
        slots = SLOTS if jax.default_backend() == "cpu" else count
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
        over = episode.done(env, taken.world) & (taken.number < count)
        place = jnp.where(over, taken.number, count)
        ended = jax.tree.map(lambda all, new: all.at[place].set(new, mode="drop"), ended, taken.world)
        number = jnp.where(over, begun + jnp.cumsum(over) - 1, taken.number)
        world, memory = jax.vmap(begin)(number)
        fresh = over & (number < count)
        world = episode.pick(fresh, world, taken.world)
        memory = jax.vmap(physics.where)(fresh, memory, taken.memory)
        return _Slot(number, world, memory), ended, begun + over.sum()

    worlds, memories = jax.vmap(begin)(jnp.arange(slots))
    if slots == count:
        return jax.lax.while_loop(
            lambda slot: ~episode.done(env, slot.world).all(),
            jax.vmap(decide),
            _Slot(jnp.arange(count), worlds, memories),
        ).world
    ended = jax.tree.map(lambda x: jnp.broadcast_to(x[:1], (count, *x.shape[1:])), worlds)
    carry = _Slot(jnp.arange(slots), worlds, memories), ended, jnp.int32(slots)
    return jax.lax.while_loop(lambda carry: (carry[0].number < count).any(), on, carry)[1]


@functools.partial(episode.jit, static_argnames="count")
def record(
    env: Env, agent: Agent, key: Key[Array, ""], count: int, first: Int[Array, ""] | int = 0
) -> tuple[World, Frame]:
    """Like `play`, and keeps every control step.

    Returns:
      The final worlds `[count]`, and frames `[count, time, ...]` with `time >= horizon`, a multiple of the chunk.
    """
    keys = episode_keys(key, first + jnp.arange(count))
    return record_from(env, agent, *jax.vmap(lambda k: start(env, agent.policy, k))(keys), keys)


@episode.jit
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
    world, frames = episode.advance(env, world, actions)
    return world, memory, frames
