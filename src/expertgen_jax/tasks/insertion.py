"""The insertion family: a plug on the hand goes into a socket that is seen a little beside its true place."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from expertgen_jax import control, scenes
from expertgen_jax.task import Script, Start, Task

STEP_SIZES = np.array([0.004] * 3 + [0.06] * 3, np.float32)
"""Travel of the impedance target for a full action (m, rad)."""
LEADS = np.array([0.010] * 3 + [0.12] * 3, np.float32)
"""Largest distance of the target from the hand (m, rad): at most 8 N and 2.4 N m in contact."""

OBSERVATION = {
    "tip_position": "m",  # plug tip relative to the observed hole bottom, socket axes
    "tip_near_hole": "m",  # the same sideways, clipped to 4 mm: normalised, a clearance is not lost in the approach
    "hand_rotation": "rad",  # yaw, pitch, roll relative to the socket's yaw
    "hand_velocity": "m/s, rad/s",
    "target_lead": "m, rad",  # impedance target minus hand: the force it applies, over the stiffness
}


@dataclasses.dataclass(frozen=True)
class Insertion:
    """Sizes and start ranges of an insertion task (m, rad).

    Attributes:
      half_width: of the plug's square section.
      play: clearance on each side.
      depth: of the hole.
      plug_length: from the hand's origin to the tip.
      lift: height of the tip above the socket at the start.
      socket_range: the socket stands within this distance of the origin, along x and y.
      start_range: the plug starts within this distance of the socket's axis, along x and y.
      start_angle: the plug starts turned by up to this about each axis.
      hole_error: the observed hole is off by up to this along x and y, constant over an episode.
      yaw_tolerance: of the strict success rule.
    """

    half_width: float = 0.010
    play: float = 0.00025
    depth: float = 0.020
    plug_length: float = 0.040
    lift: float = 0.010
    socket_range: float = 0.050
    start_range: float = 0.020
    start_angle: float = np.deg2rad(5.0)
    hole_error: float = 0.002
    yaw_tolerance: float = np.deg2rad(3.0)


def peg() -> Task:
    """Square peg, 0.25 mm play a side, 20 mm deep, no chamfer."""
    return insertion("peg", Insertion())


def insertion(name: str, sizes: Insertion) -> Task:
    """An insertion task of the given sizes."""

    def scene() -> mujoco.MjSpec:
        spec = scenes.empty_scene()
        hand = scenes.add_hand(spec)
        hand.add_geom(
            name="plug",
            type=mujoco.mjtGeom.mjGEOM_BOX,
            size=[sizes.half_width, sizes.half_width, sizes.plug_length / 2],
            pos=[0, 0, -sizes.plug_length / 2],
            mass=0.02,
            material="plug",
            contype=3,
            conaffinity=0,
        )
        hand.add_site(name="tip", pos=[0, 0, -sizes.plug_length])
        scenes.add_square_hole(spec, sizes.half_width + sizes.play, sizes.depth)
        return spec

    tip_site = scene().compile().site("tip").id

    def reset(key: jax.Array, start_range: float = sizes.start_range) -> Start:
        draw = jax.random.uniform(key, (9,), minval=-1.0, maxval=1.0)
        socket = jnp.append(sizes.socket_range * draw[:2], 0.0)
        above = jnp.append(start_range * draw[2:4], sizes.depth + sizes.lift + sizes.plug_length)
        qpos = jnp.concatenate([socket + above, sizes.start_angle * draw[4:7]])
        error = jnp.append(sizes.hole_error * draw[7:], 0.0)
        return Start(qpos=qpos, ctrl=qpos, mocap_pos=socket[None], context={"hole_error": error})

    def tip_in_socket(data: Any) -> jax.Array:
        return data.site_xpos[tip_site] - data.mocap_pos[0]

    def observe(data: Any, context: Any) -> dict[str, jax.Array]:
        tip = tip_in_socket(data) - context["hole_error"]
        return {
            "tip_position": tip,
            "tip_near_hole": jnp.clip(tip[:2], -0.004, 0.004),
            "hand_rotation": data.qpos[3:6],
            "hand_velocity": data.qvel[:6],
            "target_lead": data.ctrl[:6] - data.qpos[:6],
        }

    def final_pose(data: Any, context: Any) -> dict[str, jax.Array]:
        tip, xmat = tip_in_socket(data), data.site_xmat[tip_site]
        return {
            "lateral_error": jnp.abs(tip[:2]).max(),
            "height_above_bottom": tip[2],
            "tilt": tilt(xmat),
            "yaw": jnp.arctan2(xmat[1, 0], xmat[0, 0]),
        }

    def success(data: Any, context: Any) -> jax.Array:
        pose = final_pose(data, context)
        return (
            (jnp.abs(pose["height_above_bottom"]) < max(0.001, 0.04 * sizes.depth))
            & (pose["lateral_error"] < min(0.0025, 1.1 * sizes.play))
            & (pose["tilt"] < np.deg2rad(3.0))
            & (jnp.abs(pose["yaw"]) < sizes.yaw_tolerance)
        )

    def lenient(data: Any, context: Any) -> jax.Array:
        tip = tip_in_socket(data)
        return (tip[2] < sizes.depth) & (_keypoint_distance(tip, data.site_xmat[tip_site], sizes.plug_length) < 0.015)

    return Task(
        name=name,
        scene=scene,
        control_dt=0.05,
        horizon=120,
        action_size=6,
        observation=OBSERVATION,
        reset=reset,
        observe=observe,
        control=lambda data, action: control.move_target(data, action, STEP_SIZES, LEADS),
        success=success,
        nominal_reset=lambda key: reset(key, start_range=0.0),
        script=line_search(sizes, observe),
        strong_script=spiral_search(sizes, observe),
        lenient=lenient,
        privileged=lambda data, context: context["hole_error"][:2],
        final_pose=final_pose,
        camera=((0.0, -0.01, 0.045), 0.31, 105.0, -35.0),  # looks between the fingers, into the hole
    )


# --- demonstrators ----------------------------------------------------------------------------------------------

ALIGN, DESCEND, SEARCH = 0, 1, 2


class _Memory(NamedTuple):
    phase: jax.Array
    bias: jax.Array  # [2], where the demonstrator believes the hole to be (m)
    direction: jax.Array  # of the line to search along (rad)
    steps: jax.Array  # control steps in this phase


def line_search(sizes: Insertion, observe: Any, bias: float = 0.0008, noise: float = 0.1) -> Script:
    """The imperfect demonstrator.

    It aligns over where it believes the hole to be, descends, and when the tip rests on the surface it probes along a
    straight line in a random direction, until 3 mm away; then it returns and tries another line.

    Args:
      sizes: of the task.
      observe: the task's.
      bias: standard deviation of the demonstrator's belief about the hole, constant over an episode (m).
      noise: standard deviation of the noise on its actions.
    """

    def offset(memory: _Memory) -> jax.Array:
        along = jnp.array([jnp.cos(memory.direction), jnp.sin(memory.direction)])
        return along * memory.steps * 0.0005

    return _search_script(sizes, observe, offset, bias, noise, reach=0.003)


def spiral_search(sizes: Insertion, observe: Any) -> Script:
    """The strong demonstrator: no bias, no noise, and a spiral whose turns lie closer than the clearance."""
    pitch, speed = 1.8 * sizes.play, 0.001

    def offset(memory: _Memory) -> jax.Array:
        angle = jnp.sqrt(4 * jnp.pi * speed * memory.steps / pitch)
        return pitch * angle / (2 * jnp.pi) * jnp.array([jnp.cos(angle), jnp.sin(angle)])

    return _search_script(sizes, observe, offset, bias=0.0, noise=0.0, reach=0.005)


def _search_script(sizes: Insertion, observe: Any, offset: Any, bias: float, noise: float, reach: float) -> Script:
    """Align, descend, search by `offset(memory) -> [2]` around the believed hole until `reach` away, start again."""

    def init(key: jax.Array) -> _Memory:
        bias_key, direction_key = jax.random.split(key)
        return _Memory(
            phase=jnp.int32(ALIGN),
            bias=bias * jax.random.normal(bias_key, (2,)),
            direction=jax.random.uniform(direction_key, maxval=2 * jnp.pi),
            steps=jnp.int32(0),
        )

    def act(memory: _Memory, data: Any, context: Any, key: jax.Array) -> tuple[_Memory, jax.Array]:
        direction_key, noise_key = jax.random.split(key)
        seen = observe(data, context)
        tip, velocity = seen["tip_position"], seen["hand_velocity"]
        error = tip[:2] - memory.bias
        inserted = tip[2] < sizes.depth - 0.0015
        stuck = ~inserted & (tip[2] < sizes.depth + 0.0005) & (jnp.abs(velocity[2]) < 0.01)
        aligned = (jnp.abs(error) < 0.0008).all() & (jnp.abs(data.qpos[3:6]) < 0.01).all()

        phase = memory.phase
        phase = jnp.where((memory.phase == ALIGN) & aligned, DESCEND, phase)
        phase = jnp.where((memory.phase == DESCEND) & stuck, SEARCH, phase)
        phase = jnp.where((memory.phase == SEARCH) & (jnp.linalg.norm(offset(memory)) > reach), ALIGN, phase)
        phase = jnp.where(inserted, DESCEND, phase)
        again = (memory.phase == SEARCH) & (phase == ALIGN)
        memory = memory._replace(
            phase=phase,
            direction=jnp.where(again, jax.random.uniform(direction_key, maxval=2 * jnp.pi), memory.direction),
            steps=jnp.where(phase == memory.phase, memory.steps + 1, 0),
        )

        above = memory.bias + jnp.where(phase == SEARCH, offset(memory), 0.0)
        xy = data.qpos[:2] - tip[:2] + jnp.where(inserted, tip[:2], above)
        # While searching it presses with 2 N only: friction then holds the tip back by 1 mm.
        height = sizes.plug_length + jnp.where(
            phase == ALIGN, sizes.depth + 0.003, jnp.where(phase == SEARCH, tip[2] - 0.0025, -0.01)
        )
        goal = jnp.concatenate([xy, height[None], jnp.zeros(3)])
        action = control.action_towards(data, goal, STEP_SIZES)
        descent = jnp.where(phase == ALIGN, 1.0, 0.5)  # 40 mm/s at most on the way down
        action = action.at[2].set(jnp.clip(action[2], -descent, descent))
        return memory, jnp.clip(action + noise * jax.random.normal(noise_key, action.shape), -1.0, 1.0)

    return Script(init, act)


# --- geometry ---------------------------------------------------------------------------------------------------


def tilt(xmat: jax.Array) -> jax.Array:
    """Angle between a frame's z axis and the world's (rad), from its rotation matrix `[3, 3]`."""
    return jnp.arctan2(jnp.linalg.norm(xmat[:2, 2]), xmat[2, 2])


def _keypoint_distance(tip: jax.Array, xmat: jax.Array, length: float) -> jax.Array:
    """Mean distance (m) of four points along the plug's axis from where they stand when it is inserted."""
    along = jnp.linspace(0.0, length, 4)[:, None]
    return jnp.linalg.norm(tip + along * (xmat[:, 2] - jnp.array([0.0, 0.0, 1.0])), axis=-1).mean()
