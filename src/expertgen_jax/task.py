"""What a task is: sizes and a handful of pure, unbatched functions.

The functions read a world's state through `Data`, the fields that every back end has. Each kind of function has a
protocol here, whose `__call__` says what it takes and returns; plain functions and lambdas fit them.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import mujoco

Context = Any
"""A pytree of arrays of an episode: calibration errors, goals, ...; constant but for what `Task.update` changes."""

Level = Literal["off", "default", "strong"]
"""How much is randomised, of physics or of what cameras see."""

StartsName = Literal["own", "automate"]
"""Where episodes start: a task's own ranges, or those of AutoMate in Isaac Lab."""

GraspName = Literal["fixed", "held"]
"""How a plug sits in the fingers: as one piece with them, or held by friction, so that it can slip."""


class Data(Protocol):
    """The portable fields of a world's state: `mjx.Data` on every back end has them, under MuJoCo's names.

    As after `mj_step`, what derives from the positions (`xpos` to `sensordata`) is one substep old.
    """

    @property
    def qpos(self) -> jax.Array:
        """Positions of the joints, `[nq]` (m, rad)."""

    @property
    def qvel(self) -> jax.Array:
        """Velocities of the joints, `[nv]` (m/s, rad/s)."""

    @property
    def ctrl(self) -> jax.Array:
        """Commands to the actuators, `[nu]`."""

    @property
    def time(self) -> jax.Array:
        """Since the episode's start, scalar (s)."""

    @property
    def xpos(self) -> jax.Array:
        """Origins of the bodies, `[nbody, 3]` (m)."""

    @property
    def xquat(self) -> jax.Array:
        """Orientations of the bodies, `[nbody, 4]`, w-x-y-z."""

    @property
    def xmat(self) -> jax.Array:
        """The same as rotation matrices, `[nbody, 3, 3]`."""

    @property
    def site_xpos(self) -> jax.Array:
        """Positions of the sites, `[nsite, 3]` (m)."""

    @property
    def site_xmat(self) -> jax.Array:
        """Orientations of the sites, `[nsite, 3, 3]`."""

    @property
    def sensordata(self) -> jax.Array:
        """Readings of the sensors, `[nsensordata]`."""

    @property
    def mocap_pos(self) -> jax.Array:
        """Positions of the mocap bodies, `[nmocap, 3]` (m)."""

    @property
    def mocap_quat(self) -> jax.Array:
        """Orientations of the mocap bodies, `[nmocap, 4]`, w-x-y-z."""


PORTABLE = tuple(name for name, field in vars(Data).items() if isinstance(field, property))
"""Names of the fields of `Data`."""


class Start(NamedTuple):
    """How an episode starts.

    Attributes:
      qpos: `[nq]`; ctrl: `[nu]`; mocap_pos: `[nmocap, 3]`; mocap_quat: `[nmocap, 4]`; see `physics.init`.
      context: of the episode.
      fields: model fields of its own (friction, sizes, masses, gains, ...); see `physics.Model.fields`.
      variant: which of the task's variants it is.
      delays: by how many control steps observations, and actions, come late: whole numbers up to `Task.max_delay`.
    """

    qpos: jax.Array
    context: Context
    ctrl: jax.Array | None = None
    mocap_pos: jax.Array | None = None
    mocap_quat: jax.Array | None = None
    fields: Mapping[str, jax.Array] = {}
    variant: jax.Array | int = 0
    delays: jax.Array | tuple[int, int] = (0, 0)


Reset = Callable[..., Start]
"""`key -> Start`, a random start of an episode; `(key, parameters) -> Start` for a task with `parameters`."""


class Observe(Protocol):
    """What is observed of a state."""

    def __call__(self, data: Data, context: Context, /) -> Mapping[str, jax.Array]:
        """The parts of an observation, by name."""


class Control(Protocol):
    """The controller between actions and actuators."""

    def __call__(self, data: Data, action: jax.Array, /) -> jax.Array:
        """Commands to the actuators, `[nu]`, for an action `[action_size]` in [-1, 1]."""


class Predicate(Protocol):
    """A rule of success."""

    def __call__(self, data: Data, context: Context, /) -> jax.Array:
        """Whether the state fulfils it: a scalar bool."""


class Sense(Protocol):
    """What a robot measures of itself."""

    def __call__(self, data: Data, /) -> Mapping[str, jax.Array]:
        """The parts of its proprioception, by name."""


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
      retrace: `(data, qpos [nq], beside) -> action`, tracks a path that was recorded, or what lies beside it.
      bias: `key -> beside`, how far beside the path an imperfect demonstrator goes, constant over an episode: an array
        that may be scaled.
      nominal_script: like `script` without the spread of where it ends, for the ablation on start noise.
    """

    steps: int
    reset: Reset
    script: Script
    retrace: Callable[[Any, jax.Array, jax.Array], jax.Array]
    bias: Callable[[jax.Array], jax.Array]
    nominal_script: Script | None = None


class Follow(NamedTuple):
    """How to do what a recording of states shows, for demonstrations that come without actions.

    Attributes:
      ctrl: `qpos -> ctrl`, controls under which a state stays as it is.
      act: `(data, here, there) -> action`, which takes the robot to `there: [nq]` where it should be `here: [nq]` now.
    """

    ctrl: Callable[[jax.Array], jax.Array]
    act: Callable[[Any, jax.Array, jax.Array], jax.Array]


class View(NamedTuple):
    """A camera of a student.

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

    def pixel(self, size: int) -> float:
        """How much of what it looks at a pixel covers (m), in pictures of `size` pixels."""
        return 2 * math.dist(self.eye, self.target) * math.tan(self.fovy / 2) / size


class Box(NamedTuple):
    """An upright box in the frame of `body`, or of the world if "" (m)."""

    low: tuple[float, float, float]
    high: tuple[float, float, float]
    body: str = ""


CLUTTER = (0.12, 0.25)
"""Where things that do not matter lie unless a task says otherwise, from so far to so far from the origin (m)."""


class Senses(NamedTuple):
    """What a student perceives, and nothing else: it must not tell what only cameras can.

    Attributes:
      proprioception: name and unit of each part of `sense`, in the order in which they are concatenated.
      sense: what the robot measures of itself: joints, forces, commands.
      cameras: by name.
      workspace: where point clouds are cropped to, and in whose frame their points are.
      clutter: from how far to how far from the origin things that do not matter lie under visual randomisation (m);
        none is seen within 8 cm of something that moves.
    """

    proprioception: Mapping[str, str]
    sense: Sense
    cameras: Mapping[str, View] = {}
    workspace: Box | None = None
    clutter: tuple[float, float] = CLUTTER


class Spectator(NamedTuple):
    """The camera of videos, as MuJoCo's free camera.

    Attributes:
      lookat: what it looks at (m).
      distance: from there (m).
      azimuth, elevation: in degrees, as in MuJoCo.
    """

    lookat: tuple[float, float, float] = (0.0, 0.0, 0.03)
    distance: float = 0.3
    azimuth: float = 135.0
    elevation: float = -25.0


SPECTATOR = Spectator()


@dataclasses.dataclass(frozen=True, eq=False)
class Task:
    """A manipulation task with a 0/1 reward.

    Functions are unbatched and pure: `jit` and `vmap` are applied outside.

    Attributes:
      name: how tables call it.
      scene: `() -> MjSpec`.
      control_dt: seconds between two actions, a multiple of the scene's timestep.
      horizon: control steps until an episode is cut off.
      action_size: numbers in an action; each in [-1, 1].
      observation: name and unit of each part of `observe`, in the order in which they are concatenated.
      reset: `key -> Start`; `(key, parameters) -> Start` for a task with `parameters`.
      observe: `(data, context) -> {name: array}`; all a policy sees.
      control: `(data, action) -> ctrl [nu]`.
      success: `(data, context) -> bool`, strict. An episode succeeds, and ends, once this has held for `hold` control
        steps in a row.
      script: the imperfect demonstrator.
      parameters: a pytree of numbers that `reset` turns into model fields and context. They are data of the compiled
        programs and not code: tasks that differ in nothing else share them.
      variants: names of the kinds of episodes, for which success is told apart too.
      nominal_reset: like `reset` without the spread of starting positions, for the ablation on start noise.
      strong_script: a better one, to compare with.
      disassembly: how to take the finished work apart, for demonstrations that are made backwards.
      follow: how recorded states are followed, for demonstrations from elsewhere.
      lenient: `(data, context) -> bool`, latched over an episode; for comparison with published figures only.
      update: `(data, context, key) -> context`, what of the context changes, at the start and after each control
        step: what a sensor reports, late and with errors, or what has happened so far.
      privileged: `(data, context) -> array [n]`, what the critic sees besides the observation.
      true_observe: like `observe`, as if nothing were misjudged, late or noisy: what a teacher of students acts on, who
        see the truth themselves; by default `observe`.
      senses: what a student perceives.
      final_pose: `(data, context) -> {name: scalar}` (SI), whose quantiles over final states tell how it succeeded.
      preset: settings that this task needs other than the defaults, as `{"steer": {"episodes": 20000}}`.
      hold: control steps for which `success` must hold.
      max_delay: the longest delay that `reset` draws (control steps).
      spectator: the camera of videos.
      version: counts up when success, starts or observation change, so that figures of before are told apart.
    """

    name: str
    scene: Callable[[], mujoco.MjSpec]
    control_dt: float
    horizon: int
    action_size: int
    observation: Mapping[str, str]
    reset: Reset
    observe: Observe
    control: Control
    success: Predicate
    script: Script
    parameters: Any = None
    variants: tuple[str, ...] = ()
    nominal_reset: Reset | None = None
    strong_script: Script | None = None
    disassembly: Disassembly | None = None
    follow: Follow | None = None
    lenient: Predicate | None = None
    update: Callable[[Any, Context, jax.Array], Context] | None = None
    privileged: Callable[[Any, Context], jax.Array] | None = None
    true_observe: Observe | None = None
    senses: Senses | None = None
    final_pose: Callable[[Any, Context], Mapping[str, jax.Array]] | None = None
    preset: Mapping[str, Any] | None = None
    hold: int = 5
    max_delay: int = 0
    spectator: Spectator = SPECTATOR
    version: int = 1

    @property
    def cameras(self) -> Mapping[str, View]:
        """Cameras of its students; none without `senses`."""
        return {} if self.senses is None else self.senses.cameras

    def start(self, key: jax.Array, parameters: Any = None) -> Start:
        """How the episode of a key starts; `parameters` of a task that has them, by default its own."""
        if self.parameters is None:
            return self.reset(key)
        return self.reset(key, self.parameters if parameters is None else parameters)

    def observed(self, data: Data, context: Context) -> jax.Array:
        """The observation as one vector `[obs_size] float32`, parts in the order of `observation`."""
        return _joined(self.observation, self.observe(data, context))

    def truly_observed(self, data: Data, context: Context) -> jax.Array:
        """Like `observed`, of what is true."""
        return _joined(self.observation, (self.true_observe or self.observe)(data, context))

    def sensed(self, data: Data) -> jax.Array:
        """Proprioception as one vector `[n] float32`, parts in the order of `senses.proprioception`; empty without."""
        return jnp.zeros((0,)) if self.senses is None else _joined(self.senses.proprioception, self.senses.sense(data))

    def known(self, data: Data, context: Context) -> jax.Array:
        """What only the critic sees `[privileged_size] float32`; empty if the task has nothing to add."""
        if self.privileged is None:
            return jnp.zeros((0,))
        return jnp.ravel(self.privileged(data, context)).astype(jnp.float32)


def _joined(names: Mapping[str, str], parts: Mapping[str, jax.Array]) -> jax.Array:
    return jnp.concatenate([jnp.ravel(parts[name]) for name in names]).astype(jnp.float32)
