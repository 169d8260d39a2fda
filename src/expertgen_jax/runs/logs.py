"""Where the rows of `metrics.jsonl` go besides: TensorBoard, Weights & Biases, trackio.

A run's settings go with them, and its video. What is kept on this machine lies in the run directory's folder `logs`,
but for trackio, which has a place of its own. `WANDB_MODE=offline` keeps Weights & Biases from the network.
"""

import importlib.util
import io
import json
import uuid
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

import imageio.v3 as imageio
from PIL import Image

from expertgen_jax.errors import UserError, one_line
from expertgen_jax.files import atomic

LogName = Literal["tensorboard", "wandb", "trackio"]
"""What can be logged to."""
PHASES = ("demos", "pretrain", "steer", "steered", "distil", "distilled")
"""Of the rows of `metrics.jsonl`."""
PROJECT = "expertgen"
"""What Weights & Biases and trackio call the project of all runs."""


class Log(Protocol):
    """A place that is logged to."""

    def write(self, row: Mapping[str, Any], step: int) -> None:
        """Takes a row of `metrics.jsonl`, whose `phase` has come to `step`."""

    def video(self, path: Path) -> None:
        """Takes an .mp4."""


class TensorBoard:
    """Files for TensorBoard, in `logs/tensorboard`; a video becomes an animated GIF among its images."""

    def __init__(self, place: Path, name: str, identity: str, settings: Mapping[str, Any]):
        from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(str(place / "tensorboard"))
        text = json.dumps(settings, indent=2).replace("\n", "\n    ")
        self._writer.add_text("settings", f"    {text}", 0)  # indented, it is code

    def write(self, row: Mapping[str, Any], step: int) -> None:
        """See `Log`."""
        for name, value in _scalars(row).items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def video(self, path: Path) -> None:
        """See `Log`."""
        from tensorboardX.proto.summary_pb2 import Summary

        frames, fps = imageio.imread(path, plugin="FFMPEG"), imageio.immeta(path, plugin="FFMPEG")["fps"]
        first, *others = map(Image.fromarray, frames)
        with io.BytesIO() as buffer:
            first.save(buffer, "GIF", save_all=True, append_images=others, duration=round(1000 / fps), loop=0)
            picture = Summary.Image(
                height=first.height, width=first.width, colorspace=3, encoded_image_string=buffer.getvalue()
            )
        self._writer.file_writer.add_summary(Summary(value=[Summary.Value(tag=path.stem, image=picture)]), 0)
        self._writer.flush()


class Tracker:
    """A run of Weights & Biases, or of trackio, which has the same calls. Each phase has steps of its own."""

    def __init__(self, run: Any, video: Callable[[str], Any]):
        self._run, self._video = run, video

    def write(self, row: Mapping[str, Any], step: int) -> None:
        """See `Log`."""
        self._run.log({f"{row['phase']}/step": step} | _scalars(row))

    def video(self, path: Path) -> None:
        """See `Log`."""
        self._run.log({path.stem: self._video(str(path))})


def on_wandb(place: Path, name: str, identity: str, settings: Mapping[str, Any]) -> Tracker:
    """A run of Weights & Biases, whose files lie in `logs/wandb`."""
    import wandb

    quiet = wandb.Settings(console="off", silent=True)
    more: dict[str, Any] = {"name": name, "id": identity, "resume": "allow", "reinit": "create_new"}
    run = wandb.init(project=PROJECT, dir=str(place), config=dict(settings), settings=quiet, **more)
    for phase in PHASES:
        run.define_metric(f"{phase}/*", step_metric=f"{phase}/step")
    return Tracker(run, wandb.Video)


def on_trackio(place: Path, name: str, identity: str, settings: Mapping[str, Any]) -> Tracker:
    """A run of trackio, which keeps its files where `trackio show` finds them."""
    import trackio

    run = trackio.init(PROJECT, name=f"{name}-{identity}", config=dict(settings), resume="allow")
    return Tracker(run, trackio.Video)


KINDS: dict[LogName, Callable[[Path, str, str, Mapping[str, Any]], Log]] = {
    "tensorboard": TensorBoard,
    "wandb": on_wandb,
    "trackio": on_trackio,
}
"""By name; made of the folder of logs, the run's name, an identifier that nothing else has, and its settings."""
_MODULES = {"tensorboard": "tensorboardX"}


def check(names: Iterable[LogName]) -> None:
    """Raises a UserError where a package is missing."""
    for name in names:
        if importlib.util.find_spec(_MODULES.get(name, name)) is None:
            raise UserError(f"--log {name} needs: pip install 'expertgen-jax[{name}]'")


def begin(names: Iterable[LogName], folder: Path, settings: Mapping[str, Any]) -> list[Log]:
    """Begins to log, or goes on where the run in `folder` was logged before.

    Raises:
      UserError: one of them refuses, as Weights & Biases without a key.
    """
    logs: list[Log] = []
    folder = folder.resolve()
    place, identity = folder / "logs", folder / "logs" / "id"
    title = f"{folder.parents[1].name} {folder.name}" if folder.parent.name == "students" else folder.name
    for name in dict.fromkeys(names):
        place.mkdir(exist_ok=True)
        if not identity.exists():
            with atomic(identity) as temporary:
                temporary.write_text(uuid.uuid4().hex[:8])
        try:
            logs.append(KINDS[name](place, title, identity.read_text(), settings))
        except Exception as error:  # each has errors of its own, of the network, of keys, of versions
            raise UserError(f"--log {name}: {one_line(error)}") from error
    return logs


def _scalars(row: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a row, as `PHASE/NAME`."""
    return {f"{row['phase']}/{name}": value for name, value in row.items() if isinstance(value, int | float)}
