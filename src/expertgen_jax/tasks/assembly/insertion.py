"""The insertion family: a plug on the hand goes into, or over, a socket that is seen a little beside its true place."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from expertgen_jax.sim import robots
from expertgen_jax.task import Box, Data, Disassembly, Follow, Observe, Senses, Spectator, Start, Task, View
from expertgen_jax.tasks import joints
from expertgen_jax.tasks.assembly import scripts
from expertgen_jax.tasks.assembly.fit import Context, Fit, SensorErrors, Starts, widened
from expertgen_jax.tasks.assembly.randomization import Randomization
from expertgen_jax.tasks.ranges import within

LEAD, TURN_LEAD = 0.010, 0.12
"""Largest distance of the target from the hand (m, rad): at most 8 N and 2.4 N m in contact."""
NEAR = 0.004
"""Range of the observation that resolves a clearance (m)."""
FORCE, TORQUE = 10.0, 0.05
"""Ranges of what is felt at the tip (N, N m)."""
WRENCH_ERROR = np.array([1.0] * 3 + [TORQUE / FORCE] * 3, np.float32)
"""Errors of what is felt, of torque in proportion to those of force."""

OBSERVATION = {
    "tip_position": "m",  # plug tip relative to the observed bottom of the socket, world axes
    "tip_near_hole": "m",  # the same sideways, clipped to 4 mm: normalised, a clearance is not lost in the approach
    "hand_rotation": "rad",  # yaw relative to the observed socket, pitch, roll
    "hand_velocity": "m/s, rad/s",
    "target_lead": "m, rad",  # impedance target minus hand: the force it applies, over the stiffness
}
CONTACT_OBSERVATION = {
    "contact_force": "N",  # at the plug's tip in the plug's own axes, clipped to 10
    "contact_torque": "N m",  # about the tip, clipped to 0.05: it tells on which side the plug rests
}
PROPRIOCEPTION = {
    "hand_pose": "m, rad",  # in the world
    **{name: OBSERVATION[name] for name in ("hand_velocity", "target_lead")},
}
SHAPE_OBSERVATION = {
    "socket_yaw": "rad",  # as observed
    "shape": "1, mm",  # the kind of fitting, and its sizes
}


def insertion(
    name: str,
    *,
    scene: Callable[[], mujoco.MjSpec],
    fits: list[Fit],
    fields: Mapping[str, np.ndarray],
    starts: Starts,
    observation: Mapping[str, str],
    per_play: Mapping[str, np.ndarray],
    randomization: Randomization,
    variants: tuple[str, ...] = (),
    preset: Mapping[str, Any] | None = None,
    lead: float = LEAD,
) -> Task:
    """An insertion task.

    Args:
      name: the task's.
      scene: has a robot (`robots.add`), the bodies `plug` on its hand and `socket` (mocap), the site `tip` at the
        plug's origin, and for `CONTACT_OBSERVATION` a force-torque sensor there.
      fits: of each variant.
      fields: model fields that turn the scene into each variant, `[variants, ...]`; see `physics.variants`.
      starts: ranges.
      observation: `OBSERVATION`, perhaps with `CONTACT_OBSERVATION` and `SHAPE_OBSERVATION`.
      per_play: by how much each of `fields` grows where the play doubles.
      randomization: what of the physics differs from episode to episode.
      variants: names.
      preset: see `Task.preset`.
      lead: caps the force on the plug at so many metres times the hand's stiffness.
    """
    leads = np.array([lead] * 3 + [TURN_LEAD] * 3, np.float32)
    scene = joints.rubbing(scene, randomization.joints)
    mj = scene().compile()
    robot = robots.of(mj)
    slips = mj.nq - robot.joints
    felt_at = mujoco.mj_name2id(mj, mujoco.mjtObj.mjOBJ_SENSOR, "tip_force")
    wrench_at = slice(0, 0) if felt_at < 0 else slice(mj.sensor_adr[felt_at], mj.sensor_adr[felt_at] + 6)
    table = mj.geom("table").id
    tip_site, hand, plug = mj.site("tip").id, mj.body("hand").id, mj.body("plug").id
    reach = float(mj.body("plug").pos[2])  # negative
    # A sensor at the tip is the floating hand's; an arm feels by its joints.
    proprioception = {**PROPRIOCEPTION, **(robot.proprioception or CONTACT_OBSERVATION)}
    parameters = {
        "fit": jax.tree.map(lambda *rows: np.stack(rows).astype(np.float32), *fits),
        "fields": dict(fields),
        "per_play": dict(per_play) if randomization.play != Randomization.play else {},
    }

    def reset(key: jax.Array, parameters: Any, lateral: float = starts.lateral) -> Start:
        variant_key, start_key, play_key, draw_key, delay_key, error_key = jax.random.split(key, 6)
        variant = jax.random.randint(variant_key, (), 0, len(fits))
        chosen = jax.tree.map(lambda x: x[variant], parameters)
        fit, fields = chosen["fit"], chosen["fields"]
        if chosen["per_play"]:
            drawn_play = jax.random.uniform(play_key, (), minval=-1.0)
            wider = within(randomization.play, drawn_play)
            fit = widened(fit, wider)
            fields = {name: x + (wider - 1) * chosen["per_play"][name] for name, x in fields.items()}
        fields, drawn = randomization.draw(mj, fields, draw_key)
        if chosen["per_play"]:
            drawn = jnp.append(drawn, drawn_play)
        draw = jax.random.uniform(start_key, (11,), minval=-1.0, maxval=1.0)
        height = jnp.zeros(())
        if starts.socket_height:
            height = jax.random.uniform(jax.random.fold_in(start_key, 1), maxval=starts.socket_height)
            places = jnp.asarray(fields.get("geom_pos", mj.geom_pos), jnp.float32)
            fields = {**fields, "geom_pos": places.at[table, 2].set(height)}  # it is the floor of many a socket
        socket = jnp.append(starts.socket * draw[:2], height)
        yaw = starts.socket_yaw * (draw[9] + 1) / 2
        above = jnp.append(lateral * draw[2:4], fit.lift + starts.above - reach)
        pose = jnp.concatenate([socket + above, starts.turns * draw[4:7] + yaw * jnp.array([1.0, 0, 0])])
        beside = randomization.seen_beside * jnp.array([starts.socket_error, starts.socket_error, starts.yaw_error])
        beside *= draw[jnp.array([7, 8, 10])]
        errors = None
        if noisy:
            bias = randomization.force_bias * jax.random.normal(error_key, (6,)) * WRENCH_ERROR
            errors = sensor_errors(bias, error_key)
        context = Context(fit, jnp.append(beside[:2], 0.0), beside[2], drawn, errors)
        turn = jnp.array([jnp.cos(yaw / 2), 0.0, 0.0, jnp.sin(yaw / 2)])
        delays = jax.random.randint(delay_key, (2,), 0, randomization.max_delay + 1)
        qpos, ctrl = held_at(pose)
        return Start(qpos, context, ctrl, socket[None], turn[None], fields, variant, delays)

    def held_at(pose: jax.Array) -> tuple[jax.Array, jax.Array]:
        """`qpos` and `ctrl` where the hand is at a pose, with the plug in its place."""
        qpos, ctrl = robot.start(pose)
        return (jnp.append(qpos, jnp.zeros(slips)) if slips else qpos), ctrl

    def sensor_errors(bias: Any, key: jax.Array) -> SensorErrors:
        draw = jax.random.normal(key, (9,))
        place, yaw = randomization.seen_jitter
        wrench = bias + randomization.force_noise * WRENCH_ERROR * draw[3:]
        return SensorErrors(place * draw[:2], yaw * draw[2], wrench, bias)

    def update(data: Data, context: Context, key: jax.Array) -> Context:
        assert context.errors is not None
        return context._replace(errors=sensor_errors(context.errors.bias, key))

    def assembled(key: jax.Array, parameters: Any) -> Start:
        """Plugs stand in their sockets."""
        start = reset(key, parameters)
        assert start.mocap_pos is not None and start.mocap_quat is not None
        bottom = start.mocap_pos[0].at[2].add(-reach)
        qpos, ctrl = held_at(jnp.concatenate([bottom, jnp.stack([yaw_of(start.mocap_quat), 0.0, 0.0])]))
        return start._replace(qpos=qpos, ctrl=ctrl)

    def felt(wrench: jax.Array) -> dict[str, jax.Array]:
        return {
            "contact_force": jnp.clip(wrench[:3], -FORCE, FORCE),
            "contact_torque": jnp.clip(wrench[3:], -TORQUE, TORQUE),
        }

    def sense(data: Data) -> dict[str, jax.Array]:
        pose = robot.pose(data)
        return {
            "hand_pose": pose,
            "hand_velocity": robot.velocity(data),
            "target_lead": robot.target(data) - pose,
            **felt(data.sensordata[wrench_at]),
        }

    def observe(data: Data, context: Context) -> dict[str, jax.Array]:
        seen_yaw = yaw_of(data.mocap_quat) + context.yaw_error
        # The tip as the hand knows it: where the plug would be if it were held as it should be.
        tip = data.xpos[hand] + reach * data.xmat[hand][:, 2] - data.mocap_pos[0] - context.socket_error
        sensed = sense(data)
        if (errors := context.errors) is not None:
            seen_yaw, tip = seen_yaw + errors.yaw, tip.at[:2].add(-errors.place)
            if felt_at >= 0:
                sensed |= felt(data.sensordata[wrench_at] + errors.wrench)
        return named(data, context, tip, seen_yaw, sensed)

    def true_observe(data: Data, context: Context) -> dict[str, jax.Array]:
        tip = data.site_xpos[tip_site] - data.mocap_pos[0]
        return named(data, context, tip, yaw_of(data.mocap_quat), sense(data))

    def named(
        data: Data, context: Context, tip: jax.Array, yaw: jax.Array, sensed: Mapping[str, jax.Array]
    ) -> dict[str, jax.Array]:
        """What is observed, given where the tip is from the socket, how that is turned, and what is felt."""
        return {
            "tip_position": tip,
            "tip_near_hole": jnp.clip(tip[:2], -NEAR, NEAR),
            "hand_rotation": robot.pose(data)[3:] - yaw * jnp.array([1.0, 0, 0]),
            **sensed,
            "socket_yaw": yaw,
            "shape": context.fit.shape,
        }

    def only_named(observe: Observe) -> Observe:
        return lambda data, context: {name: x for name, x in observe(data, context).items() if name in observation}

    def final_pose(data: Data, context: Context) -> dict[str, jax.Array]:
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

    def success(data: Data, context: Context) -> jax.Array:
        pose, fit = final_pose(data, context), context.fit
        return (
            (jnp.abs(pose["height_above_bottom"]) < jnp.maximum(0.001, 0.04 * fit.depth))
            & (pose["lateral_error_x"] < fit.lateral_tolerance[0])
            & (pose["lateral_error_y"] < fit.lateral_tolerance[1])
            & (pose["tilt"] < np.deg2rad(3.0))
            & (jnp.abs(pose["yaw"]) <= fit.yaw_tolerance)
        )

    def lenient(data: Data, context: Context) -> jax.Array:
        tip = data.site_xpos[tip_site] - data.mocap_pos[0]
        return (tip[2] < context.fit.lift) & (_keypoint_distance(tip, data.site_xmat[tip_site], -reach) < 0.015)

    def privileged(data: Data, context: Context) -> jax.Array:
        known = [context.socket_error[:2], context.yaw_error[None], context.drawn]
        if randomization.held_beside or randomization.held_turned or slips:
            nominal = data.xpos[hand] + reach * data.xmat[hand][:, 2]
            known += [data.site_xpos[tip_site] - nominal, data.xmat[plug][:, 2] - data.xmat[hand][:, 2]]
        return jnp.concatenate(known)

    noisy = any(randomization.seen_jitter) or randomization.force_bias or randomization.force_noise
    return Task(
        name=name,
        scene=scene,
        control_dt=0.05,
        horizon=120,
        action_size=6,
        observation=observation,
        parameters=parameters,
        variants=variants,
        preset=preset,
        max_delay=randomization.max_delay,
        reset=reset,
        observe=only_named(observe),
        true_observe=only_named(true_observe),
        control=lambda data, action: robot.move(data, action, scripts.STEP_SIZES, leads),
        success=success,
        nominal_reset=lambda key, parameters: reset(key, parameters, lateral=0.0),
        script=scripts.line_search(robot, observe, -reach, turn=starts.yaw_error),
        disassembly=Disassembly(
            steps=scripts.UP + scripts.ASIDE,
            reset=assembled,
            script=scripts.pull_out(robot, starts),
            retrace=lambda data, qpos, beside: scripts.to_pose(robot, data, robot.pose_at(qpos) + beside),
            bias=scripts.misjudge,
            nominal_script=scripts.pull_out(robot, dataclasses.replace(starts, lateral=0.0)),
        ),
        follow=Follow(
            ctrl=lambda qpos: robot.start(robot.pose_at(qpos))[1],
            act=lambda data, here, there: robots.along(
                robot, data, robot.pose_at(here), robot.pose_at(there), scripts.STEP_SIZES
            ),
        ),
        strong_script=None if starts.yaw_error else scripts.spiral_search(robot, observe, -reach),
        lenient=lenient,
        update=update if noisy else None,
        privileged=privileged,
        senses=Senses(
            proprioception,
            lambda data: {n: x for n, x in (sense(data) | robot.sense(data)).items() if n in proprioception},
            cameras={
                "front": View(eye=(0.0, -0.30, 0.20), target=(0.0, 0.0, 0.04), fovy=0.5),
                "side": View(eye=(0.30, 0.0, 0.20), target=(0.0, 0.0, 0.04), fovy=0.5),
                "wrist": View(eye=(0.0, -0.07, 0.03), target=(0.0, 0.0, reach), fovy=0.75, body="hand"),
            },
            workspace=Box(low=(-0.06, -0.06, reach - 0.03), high=(0.06, 0.06, reach + 0.03), body="hand"),
        ),
        final_pose=final_pose,
        spectator=Spectator((0.0, -0.01, 0.045), 0.31, 105.0, -35.0),  # looks between the fingers, into the hole
    )


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
