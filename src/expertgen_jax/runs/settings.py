"""Settings of a run: defaults, a task's preset on top, and back from `config.json`."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from expertgen_jax.errors import UserError
from expertgen_jax.learning.demos import DemoConfig
from expertgen_jax.learning.diffusion import DiffusionConfig
from expertgen_jax.learning.steering import SteerConfig
from expertgen_jax.runs.runlog import check_settings
from expertgen_jax.task import Level, Task


@dataclasses.dataclass(frozen=True)
class Settings:
    """What makes a run what it is; stored in `config.json`."""

    task: str = "peg"
    """Name of a task, or a path to a .py file of your own."""
    seed: int = 0
    """Of all randomness in the run."""
    num_seeds: int = 1
    """Steering runs side by side from the same prior; the best expert of all is kept."""
    randomization: Level = "off"
    """Domain randomisation: friction, stiffness, mass, play, errors in what is seen and in how it is held."""
    physics: Literal["auto", "mjx", "warp", "native"] = "auto"
    """Engine: MJX-JAX, MJX-Warp, MuJoCo's C engine on all cores; auto is mjx on an accelerator and else native."""
    demos: Path | None = None
    """An .npz file of your own demonstrations; by default the task's script makes them."""
    eval_episodes: int = 1024
    """Episodes behind the reported figures."""
    transfer_episodes: int = 256
    """Episodes on the other back end (sim-to-sim)."""
    demo: DemoConfig = dataclasses.field(default_factory=DemoConfig)
    """Scripted demonstrations."""
    prior: DiffusionConfig = dataclasses.field(default_factory=DiffusionConfig)
    """Diffusion prior."""
    steer: SteerConfig = dataclasses.field(default_factory=SteerConfig)
    """Steering."""


@dataclasses.dataclass(frozen=True)
class RunSettings(Settings):
    """What a command that makes a run is told."""

    run_dir: Path | None = None
    """Where everything goes; runs/TASK-SEED by default. The same command goes on where it stopped."""
    overwrite: bool = False
    """Start afresh, removing the run directory."""
    tensorboard: bool = False
    """Write TensorBoard scalars too."""


def check(settings: Settings, task: Task) -> None:
    """Checks settings against their ranges, each other and the task.

    Raises:
      UserError: naming the field and the remedy.
    """
    check_settings(dataclasses.replace(settings, seed=1))  # any seed will do
    if settings.prior.chunk > task.horizon:
        raise UserError(f"--prior.chunk {settings.prior.chunk} is longer than the task's horizon of {task.horizon}")
    if settings.prior.sample_steps > settings.prior.train_timesteps:
        raise UserError(
            f"--prior.sample-steps {settings.prior.sample_steps} exceeds "
            f"--prior.train-timesteps {settings.prior.train_timesteps}"
        )
    learner = settings.steer.learner
    if settings.steer.updates % learner.actor_period:
        raise UserError(
            f"--steer.updates {settings.steer.updates} must be a multiple of "
            f"--steer.learner.actor-period {learner.actor_period}"
        )
    if learner.atoms < 2:
        raise UserError(f"--steer.learner.atoms {learner.atoms}: a distribution needs at least 2")
    if settings.steer.sigma_min > settings.steer.sigma_max:
        raise UserError("--steer.sigma-min must not exceed --steer.sigma-max")


def from_stored(default: Any, stored: dict[str, Any]) -> Any:
    """The settings dataclass that `stored` (JSON) describes."""
    values: dict[str, Any] = {}
    for field in dataclasses.fields(default):
        old, new = getattr(default, field.name), stored[field.name]
        if dataclasses.is_dataclass(old):
            values[field.name] = from_stored(old, new)
        else:
            values[field.name] = tuple(new) if isinstance(old, tuple) else new
    if values.get("demos") is not None:
        values["demos"] = Path(values["demos"])
    return dataclasses.replace(default, **values)


def with_preset(settings: Any, preset: Mapping[str, Any]) -> Any:
    """The settings dataclass with the fields of a (nested) `preset` replaced.

    Raises:
      UserError: the preset names a field that does not exist.
    """
    values = {
        name: with_preset(getattr(settings, name, None), value) if isinstance(value, Mapping) else value
        for name, value in preset.items()
    }
    try:
        return dataclasses.replace(settings, **values)
    except TypeError as error:
        raise UserError(f"the task's preset: {error}") from error
