"""Randomisation of an arm's joints; a floating hand has none."""

import dataclasses
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import mujoco

from expertgen_jax.scenes import DRY_FRICTION_SEARCH, PANDA_JOINTS
from expertgen_jax.task import Level
from expertgen_jax.tasks.ranges import Range, within


@dataclasses.dataclass(frozen=True)
class JointRandomization:
    """Ranges from which an episode draws uniformly, for all joints alike.

    Attributes:
      friction: dry friction of each joint that is left where the arm's controller compensates it (N m).
      damping: factor.
    """

    friction: Range = (0.0, 0.0)
    damping: Range = (1.0, 1.0)


JOINT_RANDOMIZATIONS: dict[Level, JointRandomization] = {
    "off": JointRandomization(),
    "default": JointRandomization(friction=(0.0, 0.3), damping=(0.7, 1.4)),
    "strong": JointRandomization(friction=(0.0, 0.8), damping=(0.5, 2.0)),
}


def rubbing(scene: Callable[[], mujoco.MjSpec], ranges: JointRandomization) -> Callable[[], mujoco.MjSpec]:
    """The scene, whose arm, if it has one, has the friction that `draw` varies: MJX wants to know which joints rub."""
    if ranges.friction == (0.0, 0.0):
        return scene

    def rough() -> mujoco.MjSpec:
        spec = scene()
        for name in PANDA_JOINTS:
            if (joint := spec.joint(name)) is not None:
                spec.option.ls_iterations = DRY_FRICTION_SEARCH
                joint.frictionloss, joint.solimp_friction = ranges.friction[1], [0.99, 0.99, 0.001, 0.5, 2.0]
        return spec

    return rough


def draw(
    mj: mujoco.MjModel, ranges: JointRandomization, fields: Mapping[str, jax.Array], key: jax.Array
) -> tuple[dict[str, jax.Array], list[jax.Array]]:
    """The model fields of an episode on top of those given, and where in the ranges they lie, each in [-1, 1], for
    critics; nothing of both where there is no arm, or nothing to draw."""
    names = [mj.joint(i).name for i in range(mj.njnt)]
    if ranges == JointRandomization() or PANDA_JOINTS[0] not in names:
        return dict(fields), []
    dofs = jnp.array([mj.jnt_dofadr[names.index(name)] for name in PANDA_JOINTS])
    places = list(jax.random.uniform(jax.random.fold_in(key, 1), (2,), minval=-1.0))
    base = {
        name: jnp.asarray(fields.get(name, getattr(mj, name)), jnp.float32)
        for name in ("dof_frictionloss", "dof_damping")
    }
    rub = base["dof_frictionloss"].at[dofs].set(within(ranges.friction, places[0]))
    damped = base["dof_damping"].at[dofs].multiply(within(ranges.damping, places[1]))
    return {**fields, "dof_frictionloss": rub, "dof_damping": damped}, places
