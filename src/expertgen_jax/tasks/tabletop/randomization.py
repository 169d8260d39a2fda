"""Domain randomisation on the table: what of the physics differs, and how badly things are seen.

A robot does not know where things are, it sees them: beside their place, late, with a jitter, and now and then not at
all; and how fast they are it knows from what it saw before. `Eyes` turns a world's state into the one that is believed
in, which observations and demonstrators read instead. Rewards, and what only critics see, are of the true one.
"""

import dataclasses
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from expertgen_jax import scenes
from expertgen_jax.sim.robots import IMPEDANCE
from expertgen_jax.task import PORTABLE, Data, Level
from expertgen_jax.tasks import joints
from expertgen_jax.tasks.joints import JOINT_RANDOMIZATIONS, JointRandomization
from expertgen_jax.tasks.ranges import Range, within


@dataclasses.dataclass(frozen=True)
class Randomization:
    """Ranges from which an episode draws uniformly.

    Attributes:
      friction: sliding friction of all contacts, factor.
      stiffness: of the hand's impedance, factor.
      grip: the gripper's force, factor.
      mass: of each thing, factor; its inertia goes with it.
      beside: how far off each thing is seen, constant over an episode: along x and y up to (m), in yaw up to (rad).
      jitter: standard deviations of the error that is new at every control step (m, rad).
      late: control steps by which things are seen late, at most, constant over an episode.
      dropped: how often a thing is not seen, so that the last report stands.
      joints: of an arm.
      max_delay: actions come late by up to so many control steps, constant over an episode.
    """

    friction: Range = (1.0, 1.0)
    stiffness: Range = (1.0, 1.0)
    grip: Range = (1.0, 1.0)
    mass: Range = (1.0, 1.0)
    beside: Range = (0.0, 0.0)
    jitter: Range = (0.0, 0.0)
    late: int = 0
    dropped: float = 0.0
    joints: JointRandomization = JOINT_RANDOMIZATIONS["off"]
    max_delay: int = 0


RANDOMIZATIONS: dict[Level, Randomization] = {
    "off": Randomization(),
    "default": Randomization(
        friction=(0.7, 1.2),
        stiffness=(0.9, 1.1),
        grip=(0.8, 1.2),
        mass=(0.8, 1.25),
        beside=(0.004, 0.05),
        jitter=(0.001, 0.01),
        late=1,
        dropped=0.02,
        joints=JOINT_RANDOMIZATIONS["default"],
        max_delay=1,
    ),
    "strong": Randomization(
        friction=(0.5, 1.3),
        stiffness=(0.8, 1.2),
        grip=(0.6, 1.4),
        mass=(0.5, 2.0),
        beside=(0.008, 0.10),
        jitter=(0.002, 0.02),
        late=2,
        dropped=0.05,
        joints=JOINT_RANDOMIZATIONS["strong"],
        max_delay=2,
    ),
}


class Sight(NamedTuple):
    """Where things are, or are said to be.

    Attributes:
      pos: `[bodies, 3]` (m).
      mat: `[bodies, 3, 3]`.
      joints: `[joints]`, of drawers (m).
    """

    pos: jax.Array
    mat: jax.Array
    joints: jax.Array


class Episode(NamedTuple):
    """The context of an episode under randomisation.

    Attributes:
      drawn: `[n]`, what was drawn of the physics, each in [-1, 1].
      beside: `[bodies, 3]`, the constant error of what is seen: x, y (m) and yaw (rad).
      late: by how many control steps it is seen late.
      line: the truth of the last control steps, `[late + 1, ...]` each, the newest first.
      reported: what is believed; before: what was a control step earlier.
      begun: there has been a look.
    """

    drawn: jax.Array
    beside: jax.Array
    late: jax.Array
    line: Sight
    reported: Sight
    before: Sight
    begun: jax.Array


class Eyes:
    """How the things of a scene are seen under a randomisation."""

    def __init__(
        self, mj: mujoco.MjModel, ranges: Randomization, control_dt: float, bodies: Sequence[str], drawer: str = ""
    ):
        """Eyes for a compiled scene.

        Args:
          mj: the scene.
          ranges: of the randomisation.
          control_dt: seconds between two looks.
          bodies: what is seen, the free bodies first.
          drawer: the joint of a drawer in the last of the bodies, whose opening is seen; "" for none.
        """
        self.mj, self.ranges, self.control_dt = mj, ranges, control_dt
        self.bodies = np.array([mj.body(name).id for name in bodies])
        self.free = [i for i, name in enumerate(bodies) if mj.body(name).dofnum[0] == 6]
        self.mocap = [i for i, body in enumerate(self.bodies) if mj.body_mocapid[body] >= 0]
        self.joints = np.array([mj.joint(drawer).id] if drawer else [], int)

    def look(self, data: Data) -> Sight:
        """Where things are."""
        return Sight(data.xpos[self.bodies], data.xmat[self.bodies], data.qpos[self.mj.jnt_qposadr[self.joints]])

    def draw(self, key: jax.Array) -> tuple[dict[str, jax.Array], Episode, jax.Array]:
        """The model fields of an episode, its context before the first look, and its delays."""
        keys = jax.random.split(key, 4)
        ranges, mj = self.ranges, self.mj
        drawn = jax.random.uniform(keys[0], (3 + len(self.free),), minval=-1.0)
        bounds = np.array([ranges.friction, ranges.stiffness, ranges.grip, *[ranges.mass] * len(self.free)]).T
        friction, stiffness, grip, *masses = within(bounds, drawn)
        fingers = np.array([mj.actuator(name).id for name in scenes.FINGER_JOINTS])
        free = self.bodies[self.free]
        fields = {
            "geom_friction": _compiled(mj.geom_friction).at[:, 0].multiply(friction),
            "actuator_gainprm": _compiled(mj.actuator_gainprm).at[IMPEDANCE, 0].multiply(stiffness),
            "actuator_biasprm": _compiled(mj.actuator_biasprm).at[IMPEDANCE, 1].multiply(stiffness),
            "actuator_forcerange": _compiled(mj.actuator_forcerange).at[fingers].multiply(grip),
            "body_mass": _compiled(mj.body_mass).at[free].multiply(jnp.array(masses)),
            "body_inertia": _compiled(mj.body_inertia).at[free].multiply(jnp.array(masses)[:, None]),
        }
        fields, of_joints = joints.draw(mj, ranges.joints, fields, key)
        n = len(self.bodies)
        beside = jax.random.uniform(keys[1], (n, 3), minval=-1.0) * jnp.array(
            [*[ranges.beside[0]] * 2, ranges.beside[1]]
        )
        sight = Sight(jnp.zeros((n, 3)), jnp.zeros((n, 3, 3)), jnp.zeros(len(self.joints)))
        line = jax.tree.map(lambda x: jnp.zeros((ranges.late + 1, *x.shape)), sight)
        late = jax.random.randint(keys[2], (), 0, ranges.late + 1)
        delay = jax.random.randint(keys[3], (), 0, ranges.max_delay + 1)
        drawn = jnp.append(drawn, jnp.array(of_joints)) if of_joints else drawn
        episode = Episode(drawn, beside, late, line, sight, sight, jnp.bool_(False))
        return fields, episode, jnp.stack([0 * delay, delay])

    def update(self, data: Data, episode: Episode, key: jax.Array) -> Episode:
        """`Task.update`: one more look."""
        now, begun = self.look(data), episode.begun
        line = jax.tree.map(
            lambda new, old: jnp.where(begun, jnp.concatenate([new[None], old[:-1]]), jnp.broadcast_to(new, old.shape)),
            now,
            episode.line,
        )
        keys = jax.random.split(key, 3)
        place, turn = self.ranges.jitter
        old = jax.tree.map(lambda x: x[episode.late], line)
        error = episode.beside + jax.random.normal(keys[0], episode.beside.shape) * jnp.array([place, place, turn])
        seen = Sight(
            pos=old.pos.at[:, :2].add(error[:, :2]),
            mat=jax.vmap(_turned)(old.mat, error[:, 2]),
            joints=jnp.maximum(old.joints + place * jax.random.normal(keys[1], old.joints.shape), 0.0),
        )
        missed = begun & (jax.random.uniform(keys[2]) < self.ranges.dropped)
        reported = jax.tree.map(lambda new, last: jnp.where(missed, last, new), seen, episode.reported)
        before = jax.tree.map(lambda last, first: jnp.where(begun, last, first), episode.reported, reported)
        return episode._replace(line=line, reported=reported, before=before, begun=jnp.bool_(True))

    def believed(self, data: Any, episode: Episode) -> Data:
        """The state of the world as it was reported, in the fields that tell of things."""
        mj, now = self.mj, episode.reported
        xpos, xmat = data.xpos.at[self.bodies].set(now.pos), data.xmat.at[self.bodies].set(now.mat)
        qpos, qvel, mocap_pos = data.qpos, data.qvel, data.mocap_pos
        velocity = (now.pos - episode.before.pos) / self.control_dt
        for i in self.free:
            adr, dof = mj.jnt_qposadr[mj.body_jntadr[self.bodies[i]]], mj.body_dofadr[self.bodies[i]]
            qpos, qvel = qpos.at[adr : adr + 3].set(now.pos[i]), qvel.at[dof : dof + 3].set(velocity[i])
        for i in self.mocap:
            mocap_pos = mocap_pos.at[mj.body_mocapid[self.bodies[i]]].set(now.pos[i])
        for j, joint in enumerate(self.joints):
            body, axis = mj.jnt_bodyid[joint], jnp.asarray(mj.jnt_axis[joint], jnp.float32)
            qpos = qpos.at[mj.jnt_qposadr[joint]].set(now.joints[j])
            qvel = qvel.at[mj.jnt_dofadr[joint]].set((now.joints[j] - episode.before.joints[j]) / self.control_dt)
            parent = mj.body_parentid[body]
            xpos = xpos.at[body].set(xpos[parent] + xmat[parent] @ (axis * now.joints[j]))
            xmat = xmat.at[body].set(xmat[parent])
        told = dict(xpos=xpos, xmat=xmat, qpos=qpos, qvel=qvel, mocap_pos=mocap_pos)
        return cast(Data, SimpleNamespace(**{name: getattr(data, name) for name in PORTABLE} | told))

    def known(self, data: Data, episode: Episode) -> jax.Array:
        """`Task.privileged`: the truth beside what is believed, and what was drawn."""
        now = self.look(data)
        velocities = [data.qvel[mj_dof : mj_dof + 3] for mj_dof in self.mj.body_dofadr[self.bodies[self.free]]]
        wrong = [(now.pos - episode.reported.pos).ravel(), episode.beside[:, 2], now.joints - episode.reported.joints]
        return jnp.concatenate([*wrong, *velocities, episode.drawn, episode.late.astype(jnp.float32)[None]])


def _turned(mat: jax.Array, yaw: jax.Array) -> jax.Array:
    """A rotation matrix turned about the vertical (rad)."""
    cos, sin, zero, one = jnp.cos(yaw), jnp.sin(yaw), jnp.zeros_like(yaw), jnp.ones_like(yaw)
    return jnp.stack([cos, -sin, zero, sin, cos, zero, zero, zero, one]).reshape(3, 3) @ mat


def _compiled(values: np.ndarray) -> jax.Array:
    return jnp.asarray(values, jnp.float32)
