"""Students: policies that see only what a robot sees, cameras and proprioception.

A student perceives at every decision, remembers the last few percepts, and predicts an action chunk from them. Delays
of a task's randomisation act on observations, not on what students perceive; pictures come late as `visual` says.

Pictures are encoded by patches and matrix products (8 x 8 patches, then 2 x 2 of these, then all): it does what small
convolutions do, whose gradient takes XLA a hundred times longer on a CPU. In training they are shifted at random, as in
DrQ (Yarats et al. 2021), so that a few thousand places of a thing teach those between. Point clouds are encoded as in
PointNet (Qi et al. 2017): each point alone, beside what is felt, so that its place relative to the hand tells; then the
maximum over all. In training a student also tells what the expert observes, such as where things are: a plainer lesson
than what to do about them, from which its eyes learn sooner.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Annotated, Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from annotated_types import Ge, MultipleOf
from flax import struct
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Key

from expertgen_jax.bounds import Count
from expertgen_jax.errors import UserError
from expertgen_jax.learning import diffusion
from expertgen_jax.learning.diffusion import Denoiser, DiffusionConfig
from expertgen_jax.sim import episode, physics, rollout
from expertgen_jax.sim.episode import Env, World
from expertgen_jax.sim.rollout import Policy
from expertgen_jax.task import Box
from expertgen_jax.vision import appearance, camera
from expertgen_jax.vision.appearance import Appearance, VisualRandomization
from expertgen_jax.vision.camera import Image, Render

FARTHEST = 1.0
"""What is farther (m) looks as far as this."""
FINEST = 0.005
"""Depths (m) that differ by less, of one pixel, look alike."""
LEAST = 1e-4
"""Standard deviation of other numbers, at least."""
DENOISING = DiffusionConfig()
"""Timesteps of a head that denoises."""

Modality = Literal["depth", "rgb", "points", "state", "blank"]


@dataclasses.dataclass(frozen=True)
class StudentConfig:
    """What a student sees, and its network."""

    modality: Modality = "depth"
    """What the student sees besides its proprioception: pictures of depth or colour, a point cloud, the expert's
    observation (state), or nothing (blank), the control that shows whether a task gives its answer away."""
    image_size: Annotated[int, Ge(16), MultipleOf(8)] = 64
    """Height and width of the pictures, a multiple of 8 (pixels)."""
    points: Count = 256
    """Number of points in the point cloud."""
    history: Count = 1
    """Percepts that the student acts on: the newest and those of the decisions before it."""
    head: Literal["regression", "diffusion"] = "regression"
    """How the student predicts an action chunk: by regression, or by denoising as the prior does."""
    hidden: tuple[Count, ...] = (256, 256, 256)
    """Widths of the hidden layers after the encoders."""


class Percept(NamedTuple):
    """What is perceived at a decision.

    Attributes:
      felt: `[n]`, proprioception; the observation for a student of the state.
      seen: `[views, size, size, channels]`; or points `[points, 3]` in the frame of the task's workspace; or `[0]`.
    """

    felt: Float[Array, "*batch n"]
    seen: Float[Array, "..."]


class Memory(NamedTuple):
    """A student's memory of an episode: its appearance, and percepts `[history, ...]`, the newest first."""

    look: Appearance
    percepts: Percept


@dataclasses.dataclass(frozen=True, eq=False)
class Eyes:
    """How a student perceives worlds.

    Attributes:
      env: the task on a back end.
      config: what is perceived.
      ranges: visual randomisation.
      render: what draws the pictures.
    """

    env: Env
    config: StudentConfig
    ranges: VisualRandomization
    render: Render = camera.render

    def __post_init__(self) -> None:
        task, modality = self.env.task, self.config.modality
        if modality == "state":
            return
        if task.senses is None:
            raise UserError(f"--student.modality {modality}: task '{task.name}' defines no senses")
        if modality != "blank" and not task.cameras:
            raise UserError(f"--student.modality {modality}: task '{task.name}' has no cameras")
        if modality == "points" and task.senses.workspace is None:
            raise UserError(f"--student.modality points: task '{task.name}' has no workspace")

    def init(self, key: Key[Array, ""]) -> Memory:
        """A memory of nothing, and what the episode will look like."""
        felt = jax.eval_shape(lambda k: self._felt(episode.reset(self.env, k)), key)
        percept = Percept(jnp.zeros(felt.shape), jnp.zeros(self.seen_shape))
        percepts = jax.tree.map(lambda x: jnp.broadcast_to(x, (self.config.history, *x.shape)), percept)
        return Memory(self.look(key), percepts)

    def look(self, key: Key[Array, ""]) -> Appearance:
        """How things look, at random."""
        return appearance.draw(self.ranges, self.env.task, self.env.model.mj, key)

    @property
    def seen_shape(self) -> tuple[int, ...]:
        """Of what is seen at a decision, see `Percept.seen`; known before anything is drawn."""
        views, size = len(self.env.task.cameras), self.config.image_size
        return {
            "depth": (views, size, size, 1),
            "rgb": (views, size, size, 3),
            "points": (self.config.points, 3),
        }.get(self.config.modality, (0,))

    def perceive(self, memory: Memory, world: World, key: Key[Array, ""]) -> Memory:
        """The memory with what is perceived now; the first percept of an episode fills it."""
        percept_key, late_key = jax.random.split(key)
        now, before = self._percept(memory.look, world, percept_key), memory.percepts
        if self.ranges.stale:
            late = jax.random.bernoulli(late_key, self.ranges.stale) & (world.steps > 0)
            now = now._replace(seen=jnp.where(late, before.seen[0], now.seen))

        percepts = jax.tree.map(lambda new, old: rollout.remember(new, old, world.steps == 0), now, before)
        return memory._replace(percepts=percepts)

    def _percept(self, look: Appearance, world: World, key: Key[Array, ""]) -> Percept:
        config, task, mj = self.config, self.env.task, self.env.model.mj
        if config.modality in ("state", "blank"):
            return Percept(self._felt(world), jnp.zeros(self.seen_shape))
        look_key, cloud_key = jax.random.split(key)
        image = appearance.see(self.ranges, task, mj, world, look, config.image_size, look_key, self.render)
        cloud = None
        if config.modality == "points":
            assert task.senses is not None and task.senses.workspace is not None
            box = task.senses.workspace
            cloud = Cloud(box, *camera.frame(mj, world.data, box.body), config.points, cloud_key)
        return Percept(self._felt(world), pictured(config.modality, image, cloud))

    def _felt(self, world: World) -> Float[Array, "n"]:
        return world.obs if self.config.modality == "state" else self.env.task.sensed(world.data)


@functools.partial(jax.jit, static_argnames=("size", "render"))
def looked_back(
    env: Env,
    world: World,
    qpos: Float[Array, "time nq"],
    mocap_pos: Float[Array, "time nmocap 3"],
    mocap_quat: Float[Array, "time nmocap 4"],
    size: int,
    render: Render = camera.render,
) -> Image:
    """What the task's cameras saw along a recorded episode, `[time, views, size, size, ...]`, without visual
    randomisation, drawn by `render`; `world` is of that episode."""

    def see(state: tuple[Array, Array, Array]) -> Image:
        qpos, mocap_pos, mocap_quat = state
        model = physics.with_fields(env.model, world.fields)
        data = physics.init(model, qpos, mocap_pos=mocap_pos, mocap_quat=mocap_quat)
        return appearance.see_plainly(env, world.replace(data=data), size, render)

    return jax.lax.map(see, (qpos, mocap_pos, mocap_quat))


class Cloud(NamedTuple):
    """How a point cloud is drawn: so many points, at random by `key`, within `box`, in the frame of its body at
    `pos: [3]` (m), turned by `mat: [3, 3]`."""

    box: Box
    pos: Float[Array, "3"]
    mat: Float[Array, "3 3"]
    points: int
    key: Key[Array, ""]


def pictured(modality: Modality, image: Image, cloud: Cloud | None = None) -> Float[Array, "..."]:
    """What a student sees of pictures `[views, size, size, ...]`, see `Percept.seen`; `cloud` for points."""
    if modality == "rgb":
        return image.rgb
    if modality == "depth":
        return jnp.minimum(image.depth, FARTHEST)[..., None]
    assert cloud is not None
    points, (low, high) = (image.points - cloud.pos) @ cloud.mat, (jnp.array(cloud.box.low), jnp.array(cloud.box.high))
    return camera.point_cloud(points, low, high, cloud.points, cloud.key)


class Network(nn.Module):
    """Percepts `[history, ...]`, normalised, to an action chunk `[size]`, or, given a noisy chunk, to its velocity; and
    to what the expert observes, `[observed]`, normalised."""

    config: StudentConfig
    size: int
    observed: int

    @nn.compact
    def __call__(
        self, percepts: Percept, noisy: Float[Array, "size"] | None = None, time: Float[Array, ""] | None = None
    ) -> tuple[Float[Array, "size"], Float[Array, "observed"]]:
        features = [percepts.felt.ravel()]
        for seen in percepts.seen:
            if self.config.modality == "points":
                features.append(PointEncoder()(seen, percepts.felt.ravel()))
            elif seen.size:
                features += [PictureEncoder()(view) for view in seen]
        x = jnp.concatenate(features)
        for width in self.config.hidden:
            x = nn.silu(nn.LayerNorm()(nn.Dense(width)(x)))
        observed = nn.Dense(self.observed)(x)
        if noisy is None or time is None:
            return nn.Dense(self.size)(x), observed
        width = self.config.hidden[-1]
        return Denoiser(width, blocks=2)(noisy, x, time), observed


class PictureEncoder(nn.Module):
    """A picture `[height, width, channels]` to `[128]` features."""

    @nn.compact
    def __call__(self, picture: Float[Array, "height width channels"]) -> Float[Array, "128"]:
        for patch in (len(picture) // 8, 2):
            height, wide, channels = picture.shape
            tiles = picture.reshape(height // patch, patch, wide // patch, patch, channels).swapaxes(1, 2)
            picture = nn.relu(nn.Dense(32)(tiles.reshape(height // patch, wide // patch, -1)))
        return nn.relu(nn.Dense(128)(picture.ravel()))


class PointEncoder(nn.Module):
    """A point cloud `[points, 3]`, given what is felt, to `[64]` features."""

    @nn.compact
    def __call__(self, points: Float[Array, "points 3"], felt: Float[Array, "n"]) -> Float[Array, "64"]:
        points = nn.relu(nn.Dense(64)(points) + nn.Dense(64, use_bias=False)(felt))
        return nn.relu(nn.Dense(64)(points)).max(axis=0)


class Student(struct.PyTreeNode):
    """A student's weights and the normalisation of its percepts: a pytree of arrays with its configuration.

    Attributes:
      params: the network's.
      mean: of percepts, of shapes that broadcast to one; std: likewise.
      observed: mean and standard deviation of what the expert observes, `[2, obs_size]`.
      config: what it sees, and its network.
      chunk_shape: of what it predicts, `(chunk, action_size)`.
    """

    params: Any
    mean: Percept
    std: Percept
    observed: Float[Array, "2 obs_size"]
    config: StudentConfig = struct.field(pytree_node=False)
    chunk_shape: tuple[int, int] = struct.field(pytree_node=False)


def untrained(
    config: StudentConfig, percepts: Percept, chunk_shape: tuple[int, int], obs_size: int, key: Key[Array, ""]
) -> Student:
    """A student with fresh weights for percepts of the given shapes, `[history, ...]`, not normalised yet, of an expert
    whose observation has so many numbers."""
    size = math.prod(chunk_shape)
    blank = jax.tree.map(jnp.zeros_like, percepts)
    noise = (jnp.zeros(size), jnp.float32(1.0)) if config.head == "diffusion" else ()
    params = Network(config, size, obs_size).init(key, blank, *noise)
    mean, std = statistics(config, jax.tree.map(lambda x: x[None], blank))
    return Student(params, mean, std, jnp.stack([jnp.zeros(obs_size), jnp.ones(obs_size)]), config, chunk_shape)


def normalized(student: Student, percepts: Percept, observed: Float[Array, "n obs_size"]) -> Student:
    """The student with statistics of percepts `[n, history, ...]` and of what was observed."""
    mean, std = statistics(student.config, percepts)
    by = jnp.stack([observed.mean(0), jnp.maximum(observed.std(0), LEAST)])
    return student.replace(mean=mean, std=std, observed=by)


def statistics(config: StudentConfig, percepts: Percept) -> tuple[Percept, Percept]:
    """Mean and standard deviation of percepts `[n, history, ...]`: of each number felt, of each pixel's depth, so that
    what lies on a table stands out from it, and of what is seen otherwise of each channel of each view."""

    def over(
        x: Float[Array, "n history *shape"], axes: tuple[int, ...], least: float, known: Any = True
    ) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
        count = jnp.maximum(jnp.sum(jnp.broadcast_to(known, x.shape), axes, keepdims=True), 1)
        mean = jnp.where(known, x, 0.0).sum(axes, keepdims=True) / count
        var = jnp.where(known, jnp.square(x - mean), 0.0).sum(axes, keepdims=True) / count
        return mean[0, 0], jnp.maximum(jnp.sqrt(var), least)[0, 0]

    felt, seen = over(percepts.felt, (0, 1), LEAST), percepts.seen
    if config.modality == "depth":
        eyes = over(seen, (0, 1), FINEST, seen > 0)
    else:
        pictures, cloud, blank = 6, 4, 3  # axes
        eyes = over(seen, {pictures: (0, 1, 3, 4), cloud: (0, 1, 2), blank: (0, 1)}[seen.ndim], LEAST)
    return Percept(felt[0], eyes[0]), Percept(felt[1], eyes[1])


def shifted(percepts: Percept, most: int, key: Key[Array, ""]) -> Percept:
    """Percepts `[n, history, ...]` with the pictures of each view moved by up to so many pixels, all alike, which is
    many times cheaper than each otherwise; their edges are repeated. What is not a picture stays. Faster on pictures of
    8 or 16 bits, before they become numbers of 32."""
    seen = percepts.seen
    if seen.ndim != 6 or not most:
        return percepts
    size, views = seen.shape[3], seen.shape[2]
    padded = jnp.pad(seen, ((0, 0), (0, 0), (0, 0), (most, most), (most, most), (0, 0)), mode="edge")
    starts = jax.random.randint(key, (views, 2), 0, 2 * most + 1)

    def moved(view: int) -> Float[Array, "n history size size channels"]:
        rows = jax.lax.dynamic_slice_in_dim(padded[:, :, view], starts[view, 0], size, 2)
        return jax.lax.dynamic_slice_in_dim(rows, starts[view, 1], size, 3)

    seen = jnp.stack([moved(view) for view in range(views)], axis=2)
    return percepts._replace(seen=jax.lax.optimization_barrier(seen))  # else a CPU moves what it has converted


def act(student: Student, percepts: Percept, key: Key[Array, ""]) -> Float[Array, "chunk action_size"]:
    """The action chunk `[chunk, action_size]` in [-1, 1] on `percepts: [history, ...]`; unbatched."""
    predict, seen = _predictor(student), _normalized(student, percepts)
    if student.config.head == "regression":
        unit, _ = predict(seen)
    else:
        noise = jax.random.normal(key, (math.prod(student.chunk_shape),))
        unit = diffusion.generate(lambda x, time: predict(seen, x, time)[0], noise, DENOISING)
    return jnp.clip(unit, -1.0, 1.0).reshape(student.chunk_shape)


def loss(
    student: Student,
    percepts: Percept,
    chunks: Float[Array, "n chunk action_size"],
    observed: Float[Array, "n obs_size"],
    weight: float,
    key: Key[Array, ""],
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Mean squared error of the actions on a batch, percepts `[n, history, ...]`: first with that of what the expert
    observes, so weighted, which is what training lowers, then alone."""
    predict, seen = jax.vmap(_predictor(student)), jax.vmap(lambda p: _normalized(student, p))(percepts)
    targets, truth = chunks.reshape(len(chunks), -1), _in_deviations(observed, *student.observed)
    if student.config.head == "regression":
        unit, told = predict(seen)
        error = jnp.square(unit - targets).mean()
    else:
        noisy, time, velocity = diffusion.noised(targets, DENOISING, *jax.random.split(key))
        predicted, told = predict(seen, noisy, time)
        error = jnp.square(predicted - velocity).mean()
    return error + weight * jnp.square(told - truth).mean(), error


def _predictor(student: Student) -> Callable[..., Any]:
    """The network with its weights."""
    network = Network(student.config, math.prod(student.chunk_shape), student.observed.shape[1])
    return lambda *inputs: network.apply(student.params, *inputs)


def _normalized(student: Student, percepts: Percept) -> Percept:
    if student.config.modality == "depth":  # a pixel without a depth tells nothing
        percepts = percepts._replace(seen=jnp.where(percepts.seen > 0, percepts.seen, student.mean.seen))
    return jax.tree.map(_in_deviations, percepts, student.mean, student.std)


def _in_deviations(x: ArrayLike, mean: Float[Array, "..."], std: Float[Array, "..."]) -> Float[Array, "..."]:
    """Numbers in standard deviations, at most 5 from their mean."""
    return jnp.clip((x - mean) / std, -5.0, 5.0)


def policy(eyes: Eyes, chunk: int) -> Policy:
    """A student as a policy; its parameters are the `Student`."""

    def decide(
        student: Student, memory: Memory, world: World, key: Key[Array, ""]
    ) -> tuple[Memory, Float[Array, "chunk action_size"]]:
        perceive_key, act_key = jax.random.split(key)
        memory = eyes.perceive(memory, world, perceive_key)
        return memory, act(student, memory.percepts, act_key)

    return Policy(chunk, eyes.init, decide)
