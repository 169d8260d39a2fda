"""Domain randomisation: what of the physics differs from episode to episode."""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import mujoco

from expertgen_jax.task import Level

Range = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Randomization:
    """Ranges from which an episode draws uniformly.

    Attributes:
      friction: sliding friction of all contacts.
      stiffness: of the impedance, factor.
      mass: of the plug, factor.
      play: of the fitting, factor.
      seen_beside: how far off the socket is seen, factor on the task's own range.
      held_beside: how far the plug sits beside its place in the hand along each axis, up to (m); only critics see it.
      held_turned: how far it is turned about each axis, up to (rad).
      max_delay: observations, and actions, come late by up to so many control steps, constant over an episode.
    """

    friction: Range = (0.4, 0.4)
    stiffness: Range = (1.0, 1.0)
    mass: Range = (1.0, 1.0)
    play: Range = (1.0, 1.0)
    seen_beside: float = 1.0
    held_beside: float = 0.0
    held_turned: float = 0.0
    max_delay: int = 0

    def draw(self, mj: mujoco.MjModel, fields: Mapping[str, jax.Array], key: jax.Array) -> dict[str, jax.Array]:
        """The model fields of an episode: those given, and on top what these ranges do not leave alone."""
        friction_key, stiffness_key, mass_key, place_key, turn_key = jax.random.split(key, 5)
        plug, drawn = mj.body("plug").id, dict(fields)

        def base(name: str) -> jax.Array:
            return jnp.asarray(fields.get(name, getattr(mj, name)), jnp.float32)

        def uniform(key: jax.Array, bounds: Range) -> jax.Array:
            return jax.random.uniform(key, (), minval=bounds[0], maxval=bounds[1])

        if self.friction != Randomization.friction:
            drawn["geom_friction"] = base("geom_friction").at[:, 0].set(uniform(friction_key, self.friction))
        if self.stiffness != Randomization.stiffness:
            factor = uniform(stiffness_key, self.stiffness)
            drawn["actuator_gainprm"] = base("actuator_gainprm").at[:, 0].multiply(factor)
            drawn["actuator_biasprm"] = base("actuator_biasprm").at[:, 1].multiply(factor)
        if self.mass != Randomization.mass:
            drawn["body_mass"] = base("body_mass").at[plug].multiply(uniform(mass_key, self.mass))
        if self.held_beside:
            beside = jax.random.uniform(place_key, (3,), minval=-1.0) * self.held_beside
            drawn["body_pos"] = base("body_pos").at[plug].add(beside)
        if self.held_turned:
            half = jax.random.uniform(turn_key, (3,), minval=-0.5, maxval=0.5) * self.held_turned
            quat = jnp.concatenate([jnp.ones(1), half])  # of a small rotation
            drawn["body_quat"] = base("body_quat").at[plug].set(quat / jnp.linalg.norm(quat))
        return drawn


RANDOMIZATIONS: dict[Level, Randomization] = {
    "off": Randomization(),
    "default": Randomization((0.3, 0.6), (0.9, 1.1), (0.8, 1.25), (0.9, 1.2), 1.0, 0.001, 0.01, 1),
    "strong": Randomization((0.3, 1.0), (0.8, 1.2), (0.5, 2.0), (0.5, 1.5), 1.5, 0.003, 0.035, 2),
}
