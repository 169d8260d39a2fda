"""`expertgen hub`: exported policies and datasets to Hugging Face's Hub, and from there."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from expertgen_jax.cli import command
from expertgen_jax.runs import hub


@dataclasses.dataclass(frozen=True)
class Push:
    """Uploads an exported policy or a LeRobotDataset; HF_TOKEN, or `hf auth login`, says who you are."""

    folder: Annotated[Path, tyro.conf.Positional]
    """An exported policy, or a LeRobotDataset."""
    repo: Annotated[str, tyro.conf.Positional]
    """OWNER/NAME; made if it is not there."""
    private: bool = False
    """Only its owner, or the members of its organisation, may see it."""


@dataclasses.dataclass(frozen=True)
class Pull:
    """Downloads a policy, for `deploy`, or a dataset, for `demos import`."""

    repo: Annotated[str, tyro.conf.Positional]
    """OWNER/NAME."""
    out: Path
    """Folder to write."""
    kind: hub.Kind = "model"
    """An exported policy, or a dataset."""
    revision: str | None = None
    """Branch, tag or commit; the newest by default."""


@dataclasses.dataclass(frozen=True)
class Hub:
    """Exported policies and datasets to Hugging Face's Hub, and from there."""

    what: tyro.conf.OmitSubcommandPrefixes[
        Annotated[Push, tyro.conf.subcommand("push")] | Annotated[Pull, tyro.conf.subcommand("pull")]
    ]


def main(argv: command.Arguments = None) -> None:
    """Runs the command; see `command.run`."""
    command.run("hub", Hub, run, argv)


def run(args: Hub) -> None:
    """Uploads or downloads."""
    what = args.what
    if isinstance(what, Push):
        print(hub.push(what.folder, what.repo, what.private))
        return
    command.prepare(what.out, folder=True)
    hub.pull(what.repo, what.out, what.kind, what.revision)
    print(f"{what.out}: {', '.join(sorted(path.name for path in what.out.iterdir() if path.name[0] != '.'))}")
