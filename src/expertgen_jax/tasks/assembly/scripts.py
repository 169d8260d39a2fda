"""Demonstrators of insertion: a clumsy and a strong search, and disassembly."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from expertgen_jax.sim import robots
from expertgen_jax.sim.robots import Robot
from expertgen_jax.task import Script
from expertgen_jax.tasks.assembly.fit import Context, Starts

STEP_SIZES = np.array([0.004] * 3 + [0.06] * 3, np.float32)
"""Travel of the impedance target for a full action (m, rad)."""
ALIGN, DESCEND, SEARCH = 0, 1, 2
"""Phases of a search."""
SWING = 6
"""Control steps to swing to and fro."""
YAW_MISJUDGED = 300.0
"""Error of a demonstrator's belief about the yaw, in units of the swing's width, for an error of a metre (1/m)."""
UP, ASIDE = 25, 15
"""Control steps of pulling out, and of moving away."""


_Observe = Callable[[Any, Context], Mapping[str, jax.Array]]


class _Memory(NamedTuple):
    phase: jax.Array
    bias: jax.Array  # [3], believed place of the socket beside the observed one, in units of `Fit.misjudged`
    direction: jax.Array  # of the line to search along (rad)
    steps: jax.Array  # control steps in this phase


_Offset = Callable[[_Memory, Context], jax.Array]


def line_search(robot: Robot, observe: _Observe, plug_length: float, noise: float = 0.1, turn: float = 0.0) -> Script:
    """The imperfect demonstrator.

    It aligns over where it believes the socket to be (off by `Fit.misjudged`), descends, and when the tip rests on the
    surface it probes along a straight line in a random direction, until 3 mm away; then it returns and tries another.

    Args:
      robot: that acts.
      observe: the task's.
      plug_length: from the hand's origin to the tip (m).
      noise: standard deviation of the noise on its actions.
      turn: how far it swings to and fro in yaw meanwhile (rad); it then probes at half the speed.
    """
    speed = 0.00025 if turn else 0.0005  # m a control step

    def offset(memory: _Memory, context: Context) -> jax.Array:
        along = speed * memory.steps * jnp.array([jnp.cos(memory.direction), jnp.sin(memory.direction)])
        return jnp.append(along, turn * jnp.sin(memory.steps * 2 * jnp.pi / SWING))

    return _search_script(robot, observe, plug_length, offset, noise, reach=0.003, turn=turn, misjudging=True)


def spiral_search(robot: Robot, observe: _Observe, plug_length: float) -> Script:
    """The strong demonstrator: no bias, no noise, and a spiral whose turns lie closer than the clearance."""
    speed = 0.001

    def offset(memory: _Memory, context: Context) -> jax.Array:
        pitch = 1.8 * context.fit.play
        angle = jnp.sqrt(4 * jnp.pi * speed * memory.steps / pitch)
        return pitch * angle / (2 * jnp.pi) * jnp.array([jnp.cos(angle), jnp.sin(angle), 0.0])

    return _search_script(robot, observe, plug_length, offset, noise=0.0, reach=0.005, turn=0.0, misjudging=False)


def _search_script(
    robot: Robot,
    observe: _Observe,
    plug_length: float,
    offset: _Offset,
    noise: float,
    reach: float,
    turn: float,
    misjudging: bool,
) -> Script:
    """Align, descend, search by `offset` around the believed socket until `reach` away, start again."""

    def aim(key: jax.Array) -> jax.Array:
        return jax.random.uniform(key, maxval=2 * jnp.pi)

    def init(key: jax.Array) -> _Memory:
        bias_key, direction_key = jax.random.split(key)
        return _Memory(
            phase=jnp.int32(ALIGN),
            bias=misjudging * jnp.array([1.0, 1.0, turn * YAW_MISJUDGED]) * jax.random.normal(bias_key, (3,)),
            direction=aim(direction_key),
            steps=jnp.int32(0),
        )

    def act(memory: _Memory, data: Any, context: Context, key: jax.Array) -> tuple[_Memory, jax.Array]:
        direction_key, noise_key = jax.random.split(key)
        seen, depth = observe(data, context), context.fit.depth
        tip, velocity, rotation = seen["tip_position"], seen["hand_velocity"], seen["hand_rotation"]
        bias = memory.bias * context.fit.misjudged
        error = tip[:2] - bias[:2]
        inserted = tip[2] < depth - 0.0015
        stuck = ~inserted & (tip[2] < depth + 0.0005) & (jnp.abs(velocity[2]) < 0.01)
        upright = jnp.abs(rotation - bias[2] * jnp.array([1.0, 0, 0])) < 0.01
        aligned = (jnp.abs(error) < 0.0008).all() & upright.all()

        phase, away = memory.phase, offset(memory, context)
        phase = jnp.where((memory.phase == ALIGN) & aligned, DESCEND, phase)
        phase = jnp.where((memory.phase == DESCEND) & stuck, SEARCH, phase)
        phase = jnp.where((memory.phase == SEARCH) & (jnp.linalg.norm(away[:2]) > reach), ALIGN, phase)
        phase = jnp.where(inserted, DESCEND, phase)
        again = (memory.phase == SEARCH) & (phase == ALIGN)
        memory = memory._replace(
            phase=phase,
            direction=jnp.where(again, aim(direction_key), memory.direction),
            steps=jnp.where(phase == memory.phase, memory.steps + 1, 0),
        )

        pose = robot.pose(data)
        believed = bias + jnp.where(phase == SEARCH, offset(memory, context), 0.0)
        xy = pose[:2] - tip[:2] + jnp.where(inserted, tip[:2], believed[:2])
        # While searching it presses with 2 N only: friction then holds the tip back by 1 mm.
        height = (
            plug_length
            + data.mocap_pos[0, 2]
            + jnp.where(phase == ALIGN, depth + 0.003, jnp.where(phase == SEARCH, tip[2] - 0.0025, -0.01))
        )
        yaw = pose[3] + jnp.where(inserted, 0.0, believed[2] - rotation[0])
        goal = jnp.concatenate([xy, jnp.stack([height, yaw]), jnp.zeros(2)])
        action = to_pose(robot, data, goal)
        descent = jnp.where(phase == ALIGN, 1.0, 0.5)  # 40 mm/s at most on the way down
        action = action.at[2].set(jnp.clip(action[2], -descent, descent))
        return memory, jnp.clip(action + noise * jax.random.normal(noise_key, action.shape), -1.0, 1.0)

    return Script(init, act)


def turning(script: Script, rate: float = 0.3) -> Script:
    """`script`, but turning in yaw all the while, one way or the other: teeth find their gaps, some of the time.

    Args:
      script: the script.
      rate: added to its action.
    """

    def init(key: jax.Array) -> Any:
        own_key, way_key = jax.random.split(key)
        return script.init(own_key), rate * jax.random.rademacher(way_key, (), jnp.float32)

    def act(memory: Any, data: Any, context: Context, key: jax.Array) -> tuple[Any, jax.Array]:
        own, turn = memory
        own, action = script.act(own, data, context, key)
        return (own, turn), jnp.clip(action.at[3].add(turn), -1.0, 1.0)

    return Script(init, act)


def pull_out(robot: Robot, starts: Starts) -> Script:
    """Straight up until the plug is free, then to a random pose of those where episodes start."""

    def init(key: jax.Array) -> Any:
        draw = jax.random.uniform(key, (5,), minval=-1.0, maxval=1.0)
        aside = jnp.concatenate([starts.lateral * draw[:2], jnp.zeros(1), starts.turns * draw[2:]])
        return aside, jnp.zeros(6), jnp.int32(0)

    def act(memory: Any, data: Any, context: Context, key: jax.Array) -> tuple[Any, jax.Array]:
        aside, bottom, step = memory
        bottom = jnp.where(step == 0, robot.pose(data), bottom)
        height = (context.fit.lift + starts.above) * jnp.clip((step + 1) / UP, 0.0, 1.0)
        goal = bottom.at[2].add(height) + aside * jnp.clip((step + 1 - UP) / ASIDE, 0.0, 1.0)
        return (aside, bottom, step + 1), to_pose(robot, data, goal)

    return Script(init, act)


def to_pose(robot: Robot, data: Any, goal: jax.Array) -> jax.Array:
    """The action that moves the impedance target towards a pose of the hand."""
    return robots.towards(robot, data, goal, STEP_SIZES)


def misjudge(key: jax.Array) -> jax.Array:
    """A demonstrator's constant error of a pose: 0.8 mm sideways, 0.8 degrees of yaw (standard deviations)."""
    return jnp.array([0.0008, 0.0008, 0.0, 0.014, 0.0, 0.0]) * jax.random.normal(key, (6,))
