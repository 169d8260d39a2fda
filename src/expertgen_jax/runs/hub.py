"""Artefacts and datasets to Hugging Face's Hub, and from there.

`HF_TOKEN`, or `hf auth login`, says who you are.
"""

from pathlib import Path
from typing import Any, Literal

from expertgen_jax.errors import UserError

Kind = Literal["model", "dataset"]


def kind(folder: Path) -> Kind:
    """What a folder holds: the artefact of a policy, or a LeRobotDataset.

    Raises:
      UserError: neither.
    """
    if (folder / "card.json").exists():
        return "model"
    if (folder / "meta" / "info.json").exists():
        return "dataset"
    raise UserError(f"{folder}: neither an exported policy nor a LeRobotDataset: no card.json, no meta/info.json")


def push(folder: Path, repo: str, private: bool = False) -> str:
    """Uploads a folder, with all files that it holds, and returns its address.

    Args:
      folder: see `kind`.
      repo: `OWNER/NAME`; made if it is not there.
      private: make it so that only its owner sees it.

    Raises:
      UserError: see `kind`; or the Hub refuses.
    """
    what = kind(folder)
    hub = _hub()
    try:
        hub.create_repo(repo, repo_type=what, private=private, exist_ok=True)
        hub.upload_folder(repo_id=repo, folder_path=folder, repo_type=what, commit_message="expertgen")
        return f"{hub.endpoint}/{'datasets/' if what == 'dataset' else ''}{repo}"
    except Exception as error:  # of the network, of rights, of names
        raise UserError(f"{repo}: {_line(error)}") from error


def pull(repo: str, folder: Path, what: Kind = "model", revision: str | None = None) -> None:
    """Downloads what `push` uploaded.

    Args:
      repo: `OWNER/NAME`.
      folder: where to; it may be there.
      what: an exported policy, or a dataset.
      revision: a branch, tag or commit; the newest by default.

    Raises:
      UserError: the Hub refuses, or what came is neither, see `kind`.
    """
    hub = _hub()
    try:
        hub.snapshot_download(repo, repo_type=what, revision=revision, local_dir=folder)
    except Exception as error:
        raise UserError(f"{repo}: {_line(error)}") from error
    kind(folder)


def _hub() -> Any:
    try:
        from huggingface_hub import HfApi
    except ImportError as error:
        raise UserError("the Hub needs: pip install 'expertgen-jax[hub]'") from error
    return HfApi()


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
