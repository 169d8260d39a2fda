"""The insertion family: a plug on the hand goes into, or over, a socket that is seen a little beside its true place."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from expertgen_jax import control, physics, scenes
from expertgen_jax.task import Disassembly, Script, Start, Task
from expertgen_jax.tasks.randomization import RANDOMIZATIONS, Name, Randomization
from expertgen_jax.tasks.randomization import draw as draw_fields

STEP_SIZES = np.array([0.004] * 3 + [0.06] * 3, np.float32)
"""Travel of the impedance target for a full action (m, rad)."""
LEADS = np.array([0.010] * 3 + [0.12] * 3, np.float32)
"""Largest distance of the target from the hand (m, rad): at most 8 N and 2.4 N m in contact."""
CLEARANCE_ABOVE = 0.010
"""Height of the plug at the start above the place where it is free (m)."""
LATERAL_LIMIT = 0.0025
"""Largest lateral error of strict success (m), however loose the joint."""
NEAR = 0.004
"""Range of the observation that resolves a clearance (m)."""

OBSERVATION = {
    "tip_position": "m",  # plug tip relative to the observed bottom of the socket, world axes
    "tip_near_hole": "m",  # the same sideways, clipped to 4 mm: normalised, a clearance is not lost in the approach
    "hand_rotation": "rad",  # yaw relative to the observed socket, pitch, roll
    "hand_velocity": "m/s, rad/s",
    "target_lead": "m, rad",  # impedance target minus hand: the force it applies, over the stiffness
}
SHAPE_OBSERVATION = {
    "socket_yaw": "rad",  # as observed
    "shape": "1, mm",  # what kind of joint it is, and its sizes
}


class Fit(NamedTuple):
    """What the rules and scripts of a task know of a joint (m, rad); in `Task.sizes` with a leading axis of variants.

    Attributes:
      play: clearance on each side.
      depth: travel over which plug and socket embrace each other.
      lift: height of the tip above its assembled place at which the plug is free.
      lateral_tolerance: `[2]`, of strict success along the socket's axes.
      yaw_tolerance: of strict success.
      misjudged: standard deviation of the imperfect demonstrator's belief about the socket, constant over an episode.
      shape: `[n]`, what an observation tells of the joint.
    """

    play: Any
    depth: Any
    lift: Any
    lateral_tolerance: Any
    yaw_tolerance: Any
    misjudged: Any
    shape: Any


@dataclasses.dataclass(frozen=True)
class Starts:
    """Ranges of an episode's start (m, rad).

    Attributes:
      socket: it stands within this distance of the origin, along x and y.
      socket_yaw: it is turned by 0 to this.
      lateral: the plug starts within this distance of the socket's axis, along x and y.
      angle: the plug starts turned from the upright socket by up to this about each axis.
      hole_error: the socket is seen off by up to this along x and y, constant over an episode.
      yaw_error: it is seen turned by up to this, constant over an episode.
    """

    socket: float = 0.050
    socket_yaw: float = 0.0
    lateral: float = 0.020
    angle: float = float(np.deg2rad(5.0))
    hole_error: float = 0.002
    yaw_error: float = 0.0


class Context(NamedTuple):
    """Constants of an episode: the joint, and how far off the socket is seen along x, y, z (m) and in yaw (rad)."""

    fit: Fit
    hole_error: jax.Array
    yaw_error: jax.Array


def peg(randomization: Name = "off") -> Task:
    """Square peg, 20 mm wide and 20 mm deep, 0.25 mm play a side, no chamfer."""
    return square("peg", 0.010, 0.00025, 0.020, randomization)


def peg_flat(randomization: Name = "off") -> Task:
    """Square peg, 6.9 mm wide and 48 mm deep, 0.35 mm play: the pin of `pin_in_block` without its round tip."""
    return square("peg_flat", 0.00345, 0.00035, 0.0478, randomization)


def peg_tight(randomization: Name = "off") -> Task:
    """Square peg, 8 mm wide and 25 mm deep, with Factory's clearance: 0.114 mm on the width."""
    return square("peg_tight", 0.003993, 0.000057, 0.025, randomization)


def square(name: str, half_width: float, play: float, depth: float, randomization: Name) -> Task:
    """A square peg and a square hole (m)."""
    length = depth + 0.020  # from the hand's origin to the tip

    def scene(play: float = play) -> mujoco.MjSpec:
        spec = scenes.empty_scene()
        plug = scenes.add_hand(spec).add_body(name="plug", pos=[0, 0, -length], gravcomp=1)
        box = dict(type=mujoco.mjtGeom.mjGEOM_BOX, size=[half_width, half_width, length / 2], pos=[0, 0, length / 2])
        plug.add_geom(name="plug", mass=0.02, material="plug", contype=3, conaffinity=0, **box)
        plug.add_site(name="tip")
        scenes.add_square_hole(spec, half_width + play, depth)
        return spec

    fit = Fit(
        play=play,
        depth=depth,
        lift=depth,
        lateral_tolerance=np.full(2, min(LATERAL_LIMIT, 1.1 * play)),
        yaw_tolerance=np.deg2rad(3.0),
        misjudged=0.0008,
        shape=np.zeros(0),
    )
    fields: dict[str, np.ndarray] = {}
    if randomization != "off":
        fields = physics.variants([scene().compile(), scene(2 * play).compile()])
    return insertion(
        name,
        scene,
        [fit],
        {field: rows[:1] for field, rows in fields.items()},
        Starts(),
        OBSERVATION,
        {field: rows[1:] - rows[:1] for field, rows in fields.items()},
        RANDOMIZATIONS[randomization],
    )


def insertion(
    name: str,
    scene: Callable[[], mujoco.MjSpec],
    fits: list[Fit],
    fields: Mapping[str, np.ndarray],
    starts: Starts,
    observation: Mapping[str, str],
    per_play: Mapping[str, np.ndarray] | None = None,
    randomization: Randomization = RANDOMIZATIONS["off"],
    variants: tuple[str, ...] = (),
    preset: Mapping[str, Any] | None = None,
) -> Task:
    """An insertion task.

    Args:
      name: the task's.
      scene: has the bodies `hand`, `plug` on it and `socket` (mocap), and the site `tip` at the plug's origin.
      fits: of each variant.
      fields: model fields that turn the scene into each variant, `[variants, ...]`; see `physics.variants`.
      starts: ranges.
      observation: `OBSERVATION`, perhaps with `SHAPE_OBSERVATION`.
      per_play: by how much `fields` grow where the play doubles; none if the play stays as it is.
      randomization: what of the physics differs from episode to episode.
      variants: names.
      preset: see `Task.preset`.
    """
    mj = scene().compile()
    tip_site, hand = mj.site("tip").id, mj.body("hand").id
    reach = float(mj.body("plug").pos[2])
    sizes = {
        "fit": jax.tree.map(lambda *rows: np.stack(rows).astype(np.float32), *fits),
        "fields": dict(fields),
        "per_play": dict(per_play or {}),
    }

    def reset(key: jax.Array, sizes: Any, lateral: float = starts.lateral) -> Start:
        variant_key, start_key, play_key, draw_key = jax.random.split(key, 4)
        variant = jax.random.randint(variant_key, (), 0, len(fits))
        chosen = jax.tree.map(lambda x: x[variant], sizes)
        wider = jax.random.uniform(play_key, (), minval=randomization.play[0], maxval=randomization.play[1])
        fit = _widened(chosen["fit"], wider)
        fields = {name: x + (wider - 1) * chosen["per_play"][name] for name, x in chosen["fields"].items()}
        fields = draw_fields(randomization, mj, fields, draw_key)
        draw = jax.random.uniform(start_key, (11,), minval=-1.0, maxval=1.0)
        socket = jnp.append(starts.socket * draw[:2], 0.0)
        yaw = starts.socket_yaw * (draw[9] + 1) / 2
        above = jnp.append(lateral * draw[2:4], fit.lift + CLEARANCE_ABOVE - reach)
        qpos = jnp.concatenate([socket + above, starts.angle * draw[4:7] + yaw * jnp.array([1.0, 0, 0])])
        beside = randomization.seen_beside * jnp.array([starts.hole_error, starts.hole_error, starts.yaw_error])
        beside *= draw[jnp.array([7, 8, 10])]
        context = Context(fit, jnp.append(beside[:2], 0.0), beside[2])
        turn = jnp.array([jnp.cos(yaw / 2), 0.0, 0.0, jnp.sin(yaw / 2)])
        return Start(qpos, context, qpos, socket[None], turn[None], fields, variant)

    def assembled(key: jax.Array, sizes: Any) -> Start:
        """Plugs stand in their sockets."""
        start = reset(key, sizes)
        assert start.mocap_pos is not None and start.mocap_quat is not None
        bottom = jnp.append(start.mocap_pos[0, :2], -reach)
        qpos = jnp.concatenate([bottom, jnp.stack([yaw_of(start.mocap_quat), 0.0, 0.0])])
        return start._replace(qpos=qpos, ctrl=qpos)

    def observe(data: Any, context: Context) -> dict[str, jax.Array]:
        seen_yaw = yaw_of(data.mocap_quat) + context.yaw_error
        # The tip as the hand knows it: where the plug would be if it were held as it should be.
        tip = data.xpos[hand] + reach * data.xmat[hand][:, 2] - data.mocap_pos[0] - context.hole_error
        return {
            "tip_position": tip,
            "tip_near_hole": jnp.clip(tip[:2], -NEAR, NEAR),
            "hand_rotation": data.qpos[3:6] - seen_yaw * jnp.array([1.0, 0, 0]),
            "hand_velocity": data.qvel[:6],
            "target_lead": data.ctrl[:6] - data.qpos[:6],
            "socket_yaw": seen_yaw,
            "shape": context.fit.shape,
        }

    def final_pose(data: Any, context: Context) -> dict[str, jax.Array]:
        tip, xmat = data.site_xpos[tip_site] - data.mocap_pos[0], data.site_xmat[tip_site]
        yaw = yaw_of(data.mocap_quat)
        cos, sin = jnp.cos(yaw), jnp.sin(yaw)
        turned = jnp.arctan2(xmat[1, 0], xmat[0, 0]) - yaw
        return {
            "lateral_error_x": jnp.abs(cos * tip[0] + sin * tip[1]),
            "lateral_error_y": jnp.abs(cos * tip[1] - sin * tip[0]),
            "height_above_bottom": tip[2],
            "tilt": tilt(xmat),
            "yaw": jnp.arctan2(jnp.sin(turned), jnp.cos(turned)),
        }

    def success(data: Any, context: Context) -> jax.Array:
        pose, fit = final_pose(data, context), context.fit
        return (
            (jnp.abs(pose["height_above_bottom"]) < jnp.maximum(0.001, 0.04 * fit.depth))
            & (pose["lateral_error_x"] < fit.lateral_tolerance[0])
            & (pose["lateral_error_y"] < fit.lateral_tolerance[1])
            & (pose["tilt"] < np.deg2rad(3.0))
            & (jnp.abs(pose["yaw"]) <= fit.yaw_tolerance)
        )

    def lenient(data: Any, context: Context) -> jax.Array:
        tip = data.site_xpos[tip_site] - data.mocap_pos[0]
        return (tip[2] < context.fit.lift) & (_keypoint_distance(tip, data.site_xmat[tip_site], -reach) < 0.015)

    def privileged(data: Any, context: Context) -> jax.Array:
        return jnp.append(context.hole_error[:2], context.yaw_error)

    return Task(
        name=name,
        scene=scene,
        control_dt=0.05,
        horizon=120,
        action_size=6,
        observation=observation,
        sizes=sizes,
        variants=variants,
        preset=preset or {},
        reset=reset,
        observe=lambda data, context: {name: x for name, x in observe(data, context).items() if name in observation},
        control=lambda data, action: control.move_target(data, action, STEP_SIZES, LEADS),
        success=success,
        nominal_reset=lambda key, sizes: reset(key, sizes, lateral=0.0),
        script=line_search(observe, -reach, turn=starts.yaw_error),
        disassembly=Disassembly(UP + ASIDE, assembled, pull_out(starts), to_pose, beside),
        strong_script=None if starts.yaw_error else spiral_search(observe, -reach),
        lenient=lenient,
        privileged=privileged,
        final_pose=final_pose,
        camera=((0.0, -0.01, 0.045), 0.31, 105.0, -35.0),  # looks between the fingers, into the hole
    )


# --- disassembly ------------------------------------------------------------------------------------------------


UP, ASIDE = 25, 15  # control steps


def pull_out(starts: Starts) -> Script:
    """Straight up until the plug is free, then to a random pose of those where episodes start."""

    def init(key: jax.Array) -> Any:
        draw = jax.random.uniform(key, (5,), minval=-1.0, maxval=1.0)
        aside = jnp.concatenate([starts.lateral * draw[:2], jnp.zeros(1), starts.angle * draw[2:]])
        return aside, jnp.zeros(6), jnp.int32(0)

    def act(memory: Any, data: Any, context: Context, key: jax.Array) -> tuple[Any, jax.Array]:
        aside, bottom, step = memory
        bottom = jnp.where(step == 0, data.qpos, bottom)
        height = (context.fit.lift + CLEARANCE_ABOVE) * jnp.clip((step + 1) / UP, 0.0, 1.0)
        goal = bottom.at[2].add(height) + aside * jnp.clip((step + 1 - UP) / ASIDE, 0.0, 1.0)
        return (aside, bottom, step + 1), to_pose(data, goal)

    return Script(init, act)


def to_pose(data: Any, goal: jax.Array) -> jax.Array:
    """The action that moves the impedance target towards a pose of the hand."""
    return control.action_towards(data, goal, STEP_SIZES)


def beside(key: jax.Array) -> jax.Array:
    """A demonstrator's constant error: 0.8 mm sideways, 0.8 degrees of yaw (standard deviations)."""
    return jnp.array([0.0008, 0.0008, 0.0, 0.014, 0.0, 0.0]) * jax.random.normal(key, (6,))


# --- demonstrators ----------------------------------------------------------------------------------------------

ALIGN, DESCEND, SEARCH = 0, 1, 2
SWING = 6
"""Control steps to swing to and fro."""

_Observe = Callable[[Any, Context], Mapping[str, jax.Array]]


class _Memory(NamedTuple):
    phase: jax.Array
    bias: jax.Array  # [3], believed place of the socket beside the observed one, in units of `Fit.misjudged`
    direction: jax.Array  # of the line to search along (rad)
    steps: jax.Array  # control steps in this phase


_Offset = Callable[[_Memory, Context], jax.Array]


def line_search(observe: _Observe, plug_length: float, noise: float = 0.1, turn: float = 0.0) -> Script:
    """The imperfect demonstrator.

    It aligns over where it believes the socket to be (off by `Fit.misjudged`), descends, and when the tip rests on the
    surface it probes along a straight line in a random direction, until 3 mm away; then it returns and tries another.

    Args:
      observe: the task's.
      plug_length: from the hand's origin to the tip (m).
      noise: standard deviation of the noise on its actions.
      turn: how far it swings to and fro in yaw meanwhile (rad); it then probes at half the speed.
    """
    speed = 0.00025 if turn else 0.0005  # m a control step

    def offset(memory: _Memory, context: Context) -> jax.Array:
        along = speed * memory.steps * jnp.array([jnp.cos(memory.direction), jnp.sin(memory.direction)])
        return jnp.append(along, turn * jnp.sin(memory.steps * 2 * jnp.pi / SWING))

    return _search_script(observe, plug_length, offset, noise, reach=0.003, turn=turn, misjudging=True)


def spiral_search(observe: _Observe, plug_length: float) -> Script:
    """The strong demonstrator: no bias, no noise, and a spiral whose turns lie closer than the clearance."""
    speed = 0.001

    def offset(memory: _Memory, context: Context) -> jax.Array:
        pitch = 1.8 * context.fit.play
        angle = jnp.sqrt(4 * jnp.pi * speed * memory.steps / pitch)
        return pitch * angle / (2 * jnp.pi) * jnp.array([jnp.cos(angle), jnp.sin(angle), 0.0])

    return _search_script(observe, plug_length, offset, noise=0.0, reach=0.005, turn=0.0, misjudging=False)


def _search_script(
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
            bias=misjudging * jnp.array([1.0, 1.0, turn * 300]) * jax.random.normal(bias_key, (3,)),
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

        believed = bias + jnp.where(phase == SEARCH, offset(memory, context), 0.0)
        xy = data.qpos[:2] - tip[:2] + jnp.where(inserted, tip[:2], believed[:2])
        # While searching it presses with 2 N only: friction then holds the tip back by 1 mm.
        height = plug_length + jnp.where(
            phase == ALIGN, depth + 0.003, jnp.where(phase == SEARCH, tip[2] - 0.0025, -0.01)
        )
        yaw = data.qpos[3] + jnp.where(inserted, 0.0, believed[2] - rotation[0])
        goal = jnp.concatenate([xy, jnp.stack([height, yaw]), jnp.zeros(2)])
        action = to_pose(data, goal)
        descent = jnp.where(phase == ALIGN, 1.0, 0.5)  # 40 mm/s at most on the way down
        action = action.at[2].set(jnp.clip(action[2], -descent, descent))
        return memory, jnp.clip(action + noise * jax.random.normal(noise_key, action.shape), -1.0, 1.0)

    return Script(init, act)


# --- geometry ---------------------------------------------------------------------------------------------------


def _widened(fit: Fit, factor: jax.Array) -> Fit:
    """The same joint with its play multiplied."""
    free = fit.lateral_tolerance >= LATERAL_LIMIT
    lateral = jnp.where(free, LATERAL_LIMIT, jnp.minimum(fit.lateral_tolerance * factor, LATERAL_LIMIT))
    return fit._replace(play=fit.play * factor, lateral_tolerance=lateral, yaw_tolerance=fit.yaw_tolerance * factor)


def yaw_of(mocap_quat: jax.Array) -> jax.Array:
    """Turn of the first mocap body, which stands upright, about the vertical (rad)."""
    return 2 * jnp.arctan2(mocap_quat[0, 3], mocap_quat[0, 0])


def tilt(xmat: jax.Array) -> jax.Array:
    """Angle between a frame's z axis and the world's (rad), from its rotation matrix `[3, 3]`."""
    return jnp.arctan2(jnp.linalg.norm(xmat[:2, 2]), xmat[2, 2])


def _keypoint_distance(tip: jax.Array, xmat: jax.Array, length: float) -> jax.Array:
    """Mean distance (m) of four points along the plug's axis from where they stand when it is inserted."""
    along = jnp.linspace(0.0, length, 4)[:, None]
    return jnp.linalg.norm(tip + along * (xmat[:, 2] - jnp.array([0.0, 0.0, 1.0])), axis=-1).mean()
