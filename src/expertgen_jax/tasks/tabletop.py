"""The table-top family: everyday things, grasped by a gripper on a floating hand (see `gripping`)."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import mujoco

from expertgen_jax import scenes
from expertgen_jax.task import Box, Script, Start, Task, View
from expertgen_jax.tasks import gripping
from expertgen_jax.tasks.gripping import HAND_OBSERVATION, Phase
from expertgen_jax.tasks.randomization import Name

LIFTED = 0.100
"""Of success, above where the thing stood (m)."""
TURNED = 0.4
"""Standard deviation of the yaw that a demonstrator believes a thing to have (rad)."""
STILL = 0.010
"""Speed below which a thing is (m/s)."""
OBJECT_OBSERVATION = {
    "object_position": "m",  # relative to the hand, world axes
    "object_height": "m",
    "object_axes": "1",  # its x and z axes, in the world
    "object_velocity": "m/s",
}


class Thing(NamedTuple):
    """What is lifted.

    Attributes:
      add: `(spec, name)`, adds it to a scene.
      height: of its body's origin when it rests (m).
      grasp: height of the hand's origin for grasping (m).
      misjudged: standard deviation of where the demonstrator believes it to be (m).
      round: any yaw will do.
    """

    add: Callable[[mujoco.MjSpec, str], mujoco.MjsBody]
    height: float
    grasp: float
    misjudged: float
    round: bool = False


THINGS = {
    "lift_banana": Thing(scenes.add_banana, scenes.BANANA_RADIUS, 0.022, misjudged=0.035),
    "lift_brick": Thing(scenes.add_brick, scenes.BRICK[2], 0.070, misjudged=0.020),
    "lift_peach": Thing(scenes.add_peach, scenes.PEACH_RADIUS, 0.032, misjudged=0.020, round=True),
}
STRAWBERRY = Thing(scenes.add_strawberry, scenes.STRAWBERRY_RADIUS, 0.020, misjudged=0.012)


class Context(NamedTuple):
    """Constants of an episode: the height at which the thing stood (m)."""

    height: jax.Array


def lift(name: str, randomization: Name = "off") -> Task:
    """One of `THINGS`: lifted by 100 mm and held."""
    thing = THINGS[name]
    scene = functools.partial(_scene, thing)
    mj = scene().compile()
    body = mj.body("object").id

    def reset(key: jax.Array, reach: float = 0.15) -> Start:
        place_key, hand_key, yaw_key = jax.random.split(key, 3)
        place = jax.random.uniform(place_key, (2,), minval=-reach, maxval=reach)
        hand = gripping.ready(hand_key)
        return Start(jnp.concatenate([hand, _lying(thing, place, yaw_key)]), Context(jnp.float32(thing.height)), hand)

    def observe(data: Any, context: Context) -> dict[str, jax.Array]:
        return _observe_object(data, body, context.height) | gripping.observe_hand(data)

    def success(data: Any, context: Context) -> jax.Array:
        """Lifted, and held between the pads: not thrown, and not carried on the fingers' backs."""
        way = data.xmat[mj.body("hand").id].T @ (data.xpos[body] - data.qpos[:3])
        held = (jnp.abs(way) < jnp.array([0.03, 0.06, 0.06])).all()
        return (data.xpos[body][2] - context.height > LIFTED) & held

    def final_pose(data: Any, context: Context) -> dict[str, jax.Array]:
        return {
            "lifted_by": data.xpos[body][2] - context.height,
            "beside_the_hand": jnp.linalg.norm(data.xpos[body][:2] - data.qpos[:2]),
            "speed": jnp.linalg.norm(data.qvel[8:11]),
        }

    return _task(
        name,
        scene,
        100,
        OBJECT_OBSERVATION,
        reset,
        observe,
        success,
        gripping.by_the_clock(*_judging(thing, body), _picking(up=0.16, until=100)),
        final_pose,
    )


class Places(NamedTuple):
    """Where a demonstrator believes things to be: a thing (x, y, z, yaw), and where it goes (x, y)."""

    thing: jax.Array
    goal: jax.Array


def strawberry_in_bowl(randomization: Name = "off") -> Task:
    """A strawberry, put into a bowl; it lies there, and the gripper is open."""
    thing = STRAWBERRY

    def scene() -> mujoco.MjSpec:
        spec = _scene(thing)
        scenes.add_bowl(spec)
        return spec

    mj = scene().compile()
    body, bowl = mj.body("object").id, mj.body("bowl").id

    def reset(key: jax.Array, reach: float = 0.12) -> Start:
        place_key, hand_key, yaw_key, bowl_key = jax.random.split(key, 4)
        there = jax.random.uniform(bowl_key, (2,), minval=-reach, maxval=reach)
        # The first of some places that is clear of the bowl, as a fifth of them are where it stands in the middle.
        places = jax.random.uniform(place_key, (128, 2), minval=-0.12, maxval=0.12)
        clear = jnp.linalg.norm(places - there, axis=1) > scenes.BOWL_RADIUS + 0.06
        hand = gripping.ready(hand_key)
        return Start(
            jnp.concatenate([hand, _lying(thing, places[clear.argmax()], yaw_key)]),
            Context(jnp.float32(thing.height)),
            hand,
            mocap_pos=jnp.append(there, 0.0)[None],
        )

    def beside_bowl(data: Any) -> jax.Array:
        return data.xpos[body] - data.xpos[bowl]

    def observe(data: Any, context: Context) -> dict[str, jax.Array]:
        return (
            _observe_object(data, body, context.height)
            | gripping.observe_hand(data)
            | {"bowl_position": (data.xpos[bowl] - data.qpos[:3])[:2], "beside_bowl": beside_bowl(data)}
        )

    def success(data: Any, context: Context) -> jax.Array:
        """Inside, below the rim, at rest, and let go."""
        way = beside_bowl(data)
        inside = (jnp.linalg.norm(way[:2]) < scenes.BOWL_RADIUS * 2 / 3) & (way[2] > 0) & (way[2] < scenes.BOWL_RIM)
        still = jnp.linalg.norm(data.qvel[8:11]) < STILL
        return inside & still & (data.qpos[gripping.FINGERS] < 0.005).all()

    def final_pose(data: Any, context: Context) -> dict[str, jax.Array]:
        way = beside_bowl(data)
        return {"beside_the_middle": jnp.linalg.norm(way[:2]), "height_in_bowl": way[2]}

    look_at_thing, spread = _judging(thing, body)
    over, drop = 0.11, 0.075  # heights of the hand (m)

    def above_bowl(places: Places, height: float) -> jax.Array:
        return jnp.concatenate([places.goal, jnp.stack([jnp.float32(height), places.thing[3]])])

    phases = [
        *_picking(up=over, until=70, where=lambda at: at.thing),
        Phase(95, lambda at: above_bowl(at, over), -1.0),
        Phase(105, lambda at: above_bowl(at, drop), -1.0),
        Phase(115, lambda at: above_bowl(at, drop), 1.0),
        Phase(150, lambda at: above_bowl(at, over), 1.0),
    ]
    return _task(
        "strawberry_in_bowl",
        scene,
        150,
        OBJECT_OBSERVATION | {"bowl_position": "m", "beside_bowl": "m"},
        reset,
        observe,
        success,
        gripping.by_the_clock(
            lambda data: Places(look_at_thing(data), data.xpos[bowl][:2]),
            Places(spread, jnp.full(2, thing.misjudged)),
            phases,
        ),
        final_pose,
        {"demo": {"episodes": 3072}, "prior": {"chunk": 8}, "steer": LONG},
    )


LONG = {"episodes": 16384, "updates": 8, "warmup_decisions": 150}
"""Steering of tasks of more than a hundred steps."""


def _scene(thing: Thing) -> mujoco.MjSpec:
    spec = gripping.scene()
    thing.add(spec, "object")
    return spec


def _lying(thing: Thing, place: jax.Array, yaw_key: jax.Array) -> jax.Array:
    """The pose `[7]` of a thing that lies somewhere, turned anyhow."""
    half = jax.random.uniform(yaw_key, (), maxval=2 * jnp.pi) / 2
    return jnp.concatenate([place, jnp.stack([jnp.float32(thing.height), jnp.cos(half), 0.0, 0.0, jnp.sin(half)])])


def _observe_object(data: Any, body: int, height: jax.Array) -> dict[str, jax.Array]:
    """The entries of `OBJECT_OBSERVATION`; the object's joint is the first after those of the hand."""
    return {
        "object_position": data.xpos[body] - data.qpos[:3],
        "object_height": data.xpos[body][2:] - height,
        "object_axes": data.xmat[body][:, jnp.array([0, 2])].T.ravel(),
        "object_velocity": data.qvel[8:11],
    }


def _judging(thing: Thing, body: int) -> tuple[Callable[[Any], jax.Array], jax.Array]:
    """How a demonstrator sees a thing, as where to grasp it (x, y, z, yaw), and how badly."""

    def look(data: Any) -> jax.Array:
        along = jnp.arctan2(data.xmat[body][1, 0], data.xmat[body][0, 0])  # pads close across it
        yaw = jnp.float32(0.0) if thing.round else along % jnp.pi - jnp.pi / 2
        return jnp.append(data.xpos[body].at[2].set(thing.grasp), yaw)

    return look, jnp.array([thing.misjudged, thing.misjudged, 0.005, TURNED])


def _picking(up: float, until: int, where: Callable[[Any], jax.Array] = lambda believed: believed) -> list[Phase]:
    """Above, down, close, and `up` above the grasp (m); `where` that is, given what is believed."""

    def above(by: float) -> Callable[[Any], jax.Array]:
        return lambda believed: where(believed).at[2].add(by)

    return [
        Phase(25, above(0.12), 1.0, speed=1.0),
        Phase(45, above(0.0), 1.0),
        Phase(58, above(0.0), -1.0),
        Phase(until, above(up), -1.0),
    ]


def _task(
    name: str,
    scene: Callable[[], mujoco.MjSpec],
    horizon: int,
    observation: dict[str, str],
    reset: Callable[..., Start],
    observe: Callable[..., Any],
    success: Callable[..., jax.Array],
    script: Script,
    final_pose: Callable[..., Any],
    preset: Mapping[str, Any] | None = None,
) -> Task:
    return Task(
        name=name,
        scene=scene,
        control_dt=gripping.CONTROL_DT,
        horizon=horizon,
        action_size=gripping.ACTION_SIZE,
        observation=observation | HAND_OBSERVATION,
        reset=reset,
        observe=observe,
        control=gripping.act,
        success=success,
        script=script,
        nominal_reset=functools.partial(reset, reach=0.0),
        proprioception=gripping.PROPRIOCEPTION,
        feel=gripping.feel,
        cameras={
            "front": View(eye=(0.0, -0.45, 0.35), target=(0.0, 0.0, 0.05), fovy=0.8),
            "side": View(eye=(0.45, 0.0, 0.35), target=(0.0, 0.0, 0.05), fovy=0.8),
            "wrist": View(eye=(0.0, -0.09, 0.06), target=(0.0, 0.0, -0.04), fovy=0.9, body="hand"),
        },
        workspace=Box(low=(-0.3, -0.3, 0.002), high=(0.3, 0.3, 0.3)),
        final_pose=final_pose,
        preset=preset,
        camera=((0.0, 0.0, 0.08), 0.75, 120.0, -30.0),
    )
