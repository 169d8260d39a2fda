"""Settings of runs and students: defaults, a task's preset on top, and to and from `config.json`."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

from expertgen_jax import bounds
from expertgen_jax.bounds import Count, Seed, Whole
from expertgen_jax.errors import UserError
from expertgen_jax.learning.dagger import DaggerConfig
from expertgen_jax.learning.demos import DemoConfig
from expertgen_jax.learning.diffusion import DiffusionConfig
from expertgen_jax.learning.steering import SteerConfig
from expertgen_jax.learning.student import StudentConfig
from expertgen_jax.learning.td3 import TD3Config
from expertgen_jax.sim.robots import RobotName
from expertgen_jax.task import GraspName, Level, StartsName, Task
from expertgen_jax.tasks import registry

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")


@dataclasses.dataclass(frozen=True)
class RunSettings:
    """What makes a run what it is; stored in its `config.json`."""

    task: str = "peg"
    """Name of a task (`expertgen tasks` lists them), or the path of a .py file with a task of your own."""
    seed: Seed = 0
    """Random seed of the run."""
    num_seeds: Count = 1
    """Number of steering runs in parallel from the same prior; the best expert of all is kept."""
    randomization: Level = "off"
    """Domain randomisation of the physics: friction, stiffness, mass, play, errors of what is seen, delays."""
    robot: RobotName = "hand"
    """What carries the plug or the gripper: a floating hand, or a Franka Emika Panda, an arm of seven joints."""
    starts: StartsName = "own"
    """Where episodes start: the task's own ranges, or, for the shapes, those of AutoMate in Isaac Lab."""
    grasp: GraspName = "fixed"
    """How a plug sits in the fingers: as one piece with them, or held by friction, so that it can slip."""
    physics: Literal["auto", "mjx", "warp", "native"] = "auto"
    """Physics engine: MJX-JAX, MJX-Warp, or MuJoCo's C engine on all cores (native). By default mjx where there is an
    accelerator, else native."""
    demos: Path | None = None
    """An .npz file of your own demonstrations; by default the task's script demonstrates."""
    init_from: Path | None = None
    """Run directory of a run, as one with the other robot, whose demonstrations and prior are taken over and whose
    learner steering goes on with."""
    eval_episodes: Count = 1024
    """Number of episodes behind the reported figures."""
    transfer_episodes: Whole = 256
    """Number of episodes on the other physics engine (sim-to-sim transfer); 0 for no such evaluation."""
    demo: DemoConfig = dataclasses.field(default_factory=DemoConfig)
    """Demonstrations."""
    prior: DiffusionConfig = dataclasses.field(default_factory=DiffusionConfig)
    """The diffusion prior and its training."""
    steer: SteerConfig = dataclasses.field(default_factory=SteerConfig)
    """Steering the prior's noise by reinforcement learning."""


@dataclasses.dataclass(frozen=True)
class StudentSettings:
    """What makes a student what it is; stored in its `config.json`."""

    seed: Seed = 0
    """Random seed of the distillation."""
    visual: Level = "default"
    """Visual randomisation in training: camera poses, colours, light, clutter, errors of depth."""
    eval_episodes: Count = 1024
    """Number of episodes behind the reported figures."""
    student: StudentConfig = dataclasses.field(default_factory=StudentConfig)
    """What the student sees, and its network."""
    dagger: DaggerConfig = dataclasses.field(default_factory=DaggerConfig)
    """Distillation by DAgger."""


SHAPES = ("atoms", "actor_hidden", "critic_hidden")
"""Settings of the learner that are sizes of its networks."""
GROWING = {
    *("eval_episodes", "transfer_episodes", "steer.target", "steer.episodes", "steer.patience", "steer.eval_period"),
    *("steer.eval_episodes", "steer.confirm_episodes", "steer.noise_bound", "steer.noise_cost"),
    *("steer.updates", "steer.sigma_min", "steer.sigma_max"),
    *(f"steer.learner.{field.name}" for field in dataclasses.fields(TD3Config) if field.name not in SHAPES),
}
"""Settings of a run that may change on the way, by dotted names: steering then goes on with the new ones."""
GROWING_STUDENT = {
    "eval_episodes",
    *(f"dagger.{field.name}" for field in dataclasses.fields(DaggerConfig) if field.name not in ("labels", "worlds")),
}
"""Settings of a student that may change on the way: distillation then goes on with the new ones."""
Phase = Literal["demos", "prior", "steer", "evaluation"]
PHASES: tuple[Phase, ...] = get_args(Phase)
"""Of a run, in order; what a phase makes depends on the settings of those before it too."""


def phase(name: str) -> Phase:
    """The phase that a setting belongs to, by its dotted name; the first for those of the whole run."""
    if name in ("eval_episodes", "transfer_episodes"):
        return "evaluation"
    if name == "num_seeds" or name.startswith("steer."):
        return "steer"
    return "prior" if name.startswith("prior.") else "demos"


def load_task(settings: RunSettings, randomization: Level | None = None) -> Task:
    """The task of a run, by default under its randomisation; see `registry.load_task` for the errors."""
    level = randomization or settings.randomization
    return registry.load_task(settings.task, level, settings.robot, settings.starts, settings.grasp)


def check(settings: RunSettings, task: Task) -> None:
    """Checks a run's settings against their bounds, each other and the task.

    Raises:
      UserError: naming the field and the remedy.
    """
    bounds.check(settings)
    prior, steer = settings.prior, settings.steer
    if prior.chunk > task.horizon:
        raise UserError(f"--prior.chunk {prior.chunk} is longer than the task's horizon of {task.horizon}")
    if prior.sample_steps > prior.train_timesteps:
        raise UserError(
            f"--prior.sample-steps {prior.sample_steps} exceeds --prior.train-timesteps {prior.train_timesteps}"
        )
    if steer.sigma_min > steer.sigma_max:
        raise UserError("--steer.sigma-min must not exceed --steer.sigma-max")


def to_json(settings: Any) -> dict[str, Any]:
    """A settings dataclass as JSON holds it."""
    return json.loads(json.dumps(dataclasses.asdict(settings), default=str))


def from_json(default: T, stored: Mapping[str, Any]) -> T:
    """The settings dataclass that `stored` describes, of the type of `default`.

    Raises:
      KeyError, TypeError: it is not of this version.
    """
    values: dict[str, Any] = {}
    for field in dataclasses.fields(default):
        old, new = getattr(default, field.name), stored[field.name]
        if dataclasses.is_dataclass(old) and not isinstance(old, type):
            values[field.name] = from_json(old, new)
        else:
            values[field.name] = tuple(new) if isinstance(old, tuple) else new
    for name in ("demos", "init_from"):
        if values.get(name) is not None:
            values[name] = Path(values[name])
    return dataclasses.replace(default, **values)


def with_preset(settings: T, preset: Mapping[str, Any]) -> T:
    """The settings dataclass with the fields of a (nested) `preset` replaced.

    Raises:
      UserError: the preset names a field that does not exist, or holds something of another type.
    """
    if not isinstance(preset, Mapping):
        raise UserError(f"the task's preset is {preset!r}, expected settings by name, such as {{'steer': {{...}}}}")
    values: dict[str, Any] = {}
    for name, value in preset.items():
        old = getattr(settings, str(name), None)
        if old is None and name not in {field.name for field in dataclasses.fields(settings)}:
            raise UserError(f"the task's preset: there is no setting '{name}' among those of {type(settings).__name__}")
        if dataclasses.is_dataclass(old) and not isinstance(old, type):
            values[name] = with_preset(old, value)
        else:
            values[name] = value
        if old is not None and not isinstance(values[name], (int, float) if isinstance(old, float) else type(old)):
            raise UserError(f"the task's preset: '{name}' is {value!r}, expected {type(old).__name__}")
    return dataclasses.replace(settings, **values)
