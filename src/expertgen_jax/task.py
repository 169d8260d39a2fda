"""What a task is: sizes and a handful of pure, unbatched functions."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import mujoco

Context = Any
"""A pytree of arrays that stays constant during an episode (calibration errors, goals, ...)."""

Level = Literal["off", "default", "strong"]
"""How much is randomised, of physics or of what cameras see."""


class Start(NamedTuple):
    """How an episode starts: what `physics.init` takes, the episode's context, its own model fields (friction, sizes,
    masses, gains, ...; see `physics.Model.fields`), which of the task's variants it is, and by how many control steps
    observations and actions come late (whole numbers up to `Task.max_delay`)."""

    qpos: jax.Array
    context: Context
    ctrl: jax.Array | None = None
    mocap_pos: jax.Array | None = None
    mocap_quat: jax.Array | None = None
    fields: Mapping[str, jax.Array] = {}
    variant: jax.Array | int = 0
    delays: jax.Array | tuple[int, int] = (0, 0)


class Script(NamedTuple):
    """A scripted policy with memory; one control step at a time.

    Attributes:
      init: `key -> memory`, drawn at an episode's start.
      act: `(memory, data, context, key) -> (memory, action)` with `action: [action_size]` in [-1, 1].
    """

    init: Callable[[jax.Array], Any]
    act: Callable[[Any, Any, Context, jax.Array], tuple[Any, jax.Array]]


class Disassembly(NamedTuple):
    """Taking finished work apart, and retracing a path (Tang et al. 2024, section IV-A).

    Attributes:
      steps: control steps that it takes.
      reset: like `Task.reset`, with the work finished.
      script: takes it apart and moves away; its memory is drawn at the start.
      retrace: `(data, qpos [nq]) -> action`, tracks a path that was recorded.
      bias: `key -> [nq]`, how far beside the path an imperfect demonstrator goes, constant over an episode.
      nominal_script: like `script` without the spread of where it ends, for the ablation on start noise.
    """

    steps: int
    reset: Callable[..., Start]
    script: Script
    retrace: Callable[[Any, jax.Array], jax.Array]
    bias: Callable[[jax.Array], jax.Array]
    nominal_script: Script | None = None


class View(NamedTuple):
    """A camera of a task.

    Attributes:
      eye: where it stands (m).
      target: what it looks at, upright (m).
      fovy: vertical field of view (rad).
      body: in whose frame these are given, as of a camera on the wrist; the world's if "".
    """

    eye: tuple[float, float, float]
    target: tuple[float, float, float]
    fovy: float = 0.8
    body: str = ""


class Box(NamedTuple):
    """An upright box in the frame of `body`, or of the world if "" (m)."""

    low: tuple[float, float, float]
    high: tuple[float, float, float]
    body: str = ""


@dataclasses.dataclass(frozen=True, eq=False)
class Task:
    """A manipulation task with a 0/1 reward.

    Functions are unbatched and pure (`jit` and `vmap` are applied outside). `data` has the portable fields of
    `mjx.Data`: `qpos qvel ctrl time xpos xquat xmat site_xpos site_xmat sensordata mocap_pos mocap_quat`.

    Attributes:
      name: how tables call it.
      scene: `() -> MjSpec`.
      control_dt: seconds between two actions, a multiple of the scene's timestep.
      horizon: control steps until an episode is cut off.
      action_size: numbers in an action; each in [-1, 1].
      observation: name and unit of each entry of `observe`, in the order in which they are concatenated.
      reset: `key -> Start`; `(key, sizes) -> Start` for a task with `sizes`.
      observe: `(data, context) -> {name: array}`; all a policy sees.
      control: `(data, action) -> ctrl [nu]`.
      success: `(data, context) -> bool`, strict. An episode succeeds, and ends, once this has held for `hold` control
        steps in a row.
      script: the imperfect demonstrator.
      sizes: a pytree of numbers that `reset` turns into model fields and context. They are data of the compiled
        programs and not code: tasks that differ in nothing else share them.
      variants: names of the kinds of episodes, for which success is told apart too.
      nominal_reset: like `reset` without the spread of starting positions, for the ablation on start noise.
      strong_script: a better one, to compare with.
      disassembly: how to take the finished work apart, for demonstrations that are made backwards.
      lenient: `(data, context) -> bool`, latched over an episode; for comparison with published figures only.
      privileged: `(data, context) -> array [n]`, what the critic sees besides the observation.
      proprioception: name and unit of each entry of `feel`, in the order in which they are concatenated.
      feel: `data -> {name: array}`, what a robot feels of itself: joints, forces, commands. Students know nothing else
        but pictures, so that it must not tell what only cameras can.
      cameras: by name; what students see.
      workspace: where point clouds are cropped to, and in whose frame their points are.
      final_pose: `(data, context) -> {name: scalar}` (SI), whose quantiles over final states tell how it succeeded.
      preset: settings that this task needs other than the defaults, as `{"steer": {"episodes": 20000}}`.
      hold: control steps for which `success` must hold.
      max_delay: the longest delay that `reset` draws (control steps).
      camera: `(lookat [3], distance, azimuth, elevation)` of the video (m, degrees).
    """

    name: str
    scene: Callable[[], mujoco.MjSpec]
    control_dt: float
    horizon: int
    action_size: int
    observation: Mapping[str, str]
    reset: Callable[..., Start]
    observe: Callable[[Any, Context], Mapping[str, jax.Array]]
    control: Callable[[Any, jax.Array], jax.Array]
    success: Callable[[Any, Context], jax.Array]
    script: Script
    sizes: Any = None
    variants: tuple[str, ...] = ()
    nominal_reset: Callable[..., Start] | None = None
    strong_script: Script | None = None
    disassembly: Disassembly | None = None
    lenient: Callable[[Any, Context], jax.Array] | None = None
    privileged: Callable[[Any, Context], jax.Array] | None = None
    proprioception: Mapping[str, str] | None = None
    feel: Callable[[Any], Mapping[str, jax.Array]] | None = None
    cameras: Mapping[str, View] | None = None
    workspace: Box | None = None
    final_pose: Callable[[Any, Context], Mapping[str, jax.Array]] | None = None
    preset: Mapping[str, Any] | None = None
    hold: int = 5
    max_delay: int = 0
    camera: tuple[tuple[float, float, float], float, float, float] = ((0.0, 0.0, 0.03), 0.3, 135.0, -25.0)


def observe(task: Task, data: Any, context: Context) -> jax.Array:
    """The observation as one vector `[obs_size] float32`, entries in the order of `task.observation`."""
    parts = task.observe(data, context)
    return jnp.concatenate([jnp.ravel(parts[name]) for name in task.observation]).astype(jnp.float32)


def feel(task: Task, data: Any) -> jax.Array:
    """Proprioception as one vector `[n] float32`, entries in the order of `task.proprioception`."""
    assert task.feel is not None and task.proprioception is not None
    parts = task.feel(data)
    return jnp.concatenate([jnp.ravel(parts[name]) for name in task.proprioception]).astype(jnp.float32)


def privileged(task: Task, data: Any, context: Context) -> jax.Array:
    """What only the critic sees `[privileged_size] float32`; empty if the task has nothing to add."""
    if task.privileged is None:
        return jnp.zeros((0,))
    return jnp.ravel(task.privileged(data, context)).astype(jnp.float32)
