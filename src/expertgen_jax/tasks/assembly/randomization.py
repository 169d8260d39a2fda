"""Domain randomisation: what of the physics differs from episode to episode."""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import mujoco

from expertgen_jax.scenes import HELD_JOINTS
from expertgen_jax.sim.robots import IMPEDANCE
from expertgen_jax.task import Level
from expertgen_jax.tasks import joints
from expertgen_jax.tasks.joints import JOINT_RANDOMIZATIONS, JointRandomization
from expertgen_jax.tasks.ranges import Range, within


@dataclasses.dataclass(frozen=True)
class Randomization:
    """Ranges from which an episode draws uniformly.

    Attributes:
      friction: sliding friction of all contacts.
      stiffness: of the impedance, factor.
      mass: of the plug, factor; its inertia goes with it.
      play: of the fitting, factor.
      seen_beside: how far off the socket is seen, factor on the task's own range.
      seen_jitter: standard deviations of its error that is new at every control step: place (m) and yaw (rad).
      force_bias: standard deviation of the force sensor's error, constant over an episode (N; of torque, N times 5 mm).
      force_noise: the same of its error that is new at every control step.
      held_beside: how far the plug sits beside its place in the hand along each axis, up to (m); only critics see it.
      held_turned: how far it is turned about each axis, up to (rad).
      grip: of a plug that is held, the force at which it slips, factor.
      joints: of an arm.
      max_delay: observations, and actions, come late by up to so many control steps, constant over an episode.
    """

    friction: Range = (0.4, 0.4)
    stiffness: Range = (1.0, 1.0)
    mass: Range = (1.0, 1.0)
    play: Range = (1.0, 1.0)
    seen_beside: float = 1.0
    seen_jitter: Range = (0.0, 0.0)
    force_bias: float = 0.0
    force_noise: float = 0.0
    held_beside: float = 0.0
    held_turned: float = 0.0
    grip: Range = (1.0, 1.0)
    joints: JointRandomization = JOINT_RANDOMIZATIONS["off"]
    max_delay: int = 0

    def draw(
        self, mj: mujoco.MjModel, fields: Mapping[str, jax.Array], key: jax.Array
    ) -> tuple[dict[str, jax.Array], jax.Array]:
        """The model fields of an episode: those given, and on top what these ranges do not leave alone; and where in
        these ranges friction, stiffness, mass and more lie, each in [-1, 1], for critics."""
        friction_key, stiffness_key, mass_key, place_key, turn_key = jax.random.split(key, 5)
        plug, drawn = mj.body("plug").id, dict(fields)
        places: list[jax.Array] = []

        def base(name: str) -> jax.Array:
            return jnp.asarray(fields.get(name, getattr(mj, name)), jnp.float32)

        def uniform(key: jax.Array, bounds: Range) -> jax.Array:
            places.append(jax.random.uniform(key, (), minval=-1.0))
            return within(bounds, places[-1])

        if self.friction != Randomization.friction:
            drawn["geom_friction"] = base("geom_friction").at[:, 0].set(uniform(friction_key, self.friction))
        if self.stiffness != Randomization.stiffness:
            factor = uniform(stiffness_key, self.stiffness)
            drawn["actuator_gainprm"] = base("actuator_gainprm").at[IMPEDANCE, 0].multiply(factor)
            drawn["actuator_biasprm"] = base("actuator_biasprm").at[IMPEDANCE, 1].multiply(factor)
        if self.mass != Randomization.mass:
            factor = uniform(mass_key, self.mass)
            for name in ("body_mass", "body_inertia"):
                drawn[name] = base(name).at[plug].multiply(factor)
        if self.held_beside:
            beside = jax.random.uniform(place_key, (3,), minval=-1.0) * self.held_beside
            drawn["body_pos"] = base("body_pos").at[plug].add(beside)
        if self.held_turned:
            half = jax.random.uniform(turn_key, (3,), minval=-0.5, maxval=0.5) * self.held_turned
            quat = jnp.concatenate([jnp.ones(1), half])  # of a small rotation
            drawn["body_quat"] = base("body_quat").at[plug].set(quat / jnp.linalg.norm(quat))
        held = [joint for joint in range(mj.njnt) if mj.joint(joint).name in HELD_JOINTS]
        if held and self.grip != Randomization.grip:
            factor = uniform(jax.random.fold_in(key, 0), self.grip)
            drawn["dof_frictionloss"] = base("dof_frictionloss").at[mj.jnt_dofadr[held]].multiply(factor)
        drawn, of_joints = joints.draw(mj, self.joints, drawn, key)
        return drawn, jnp.array(places + of_joints)


RANDOMIZATIONS: dict[Level, Randomization] = {
    "off": Randomization(),
    "default": Randomization(
        friction=(0.3, 0.6),
        stiffness=(0.9, 1.1),
        mass=(0.8, 1.25),
        play=(0.9, 1.2),
        seen_jitter=(0.0003, 0.005),
        force_bias=0.2,
        force_noise=0.1,
        held_beside=0.001,
        held_turned=0.01,
        grip=(0.7, 1.3),
        joints=JOINT_RANDOMIZATIONS["default"],
        max_delay=1,
    ),
    "strong": Randomization(
        friction=(0.3, 1.0),
        stiffness=(0.8, 1.2),
        mass=(0.5, 2.0),
        play=(0.5, 1.5),
        seen_beside=1.5,
        seen_jitter=(0.0006, 0.01),
        force_bias=0.5,
        force_noise=0.2,
        held_beside=0.003,
        held_turned=0.035,
        grip=(0.5, 1.5),
        joints=JOINT_RANDOMIZATIONS["strong"],
        max_delay=2,
    ),
}
