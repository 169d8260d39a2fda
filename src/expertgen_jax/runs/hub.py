"""Artefacts and datasets to Hugging Face's Hub, and from there.

`HF_TOKEN`, or `hf auth login`, says who you are.
"""

import contextlib
import json
from pathlib import Path
from typing import Any, Literal

from expertgen_jax.errors import UserError, one_line

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
      private: only its owner, or the members of its organisation, may see it.

    Raises:
      UserError: see `kind`; a repository that should be private is public; or the Hub refuses.
    """
    what = kind(folder)
    hub = _hub()
    try:
        repo = hub.create_repo(repo, repo_type=what, private=private or None, exist_ok=True).repo_id
        if private and not hub.repo_info(repo, repo_type=what).private:
            raise UserError(f"{repo}: is there already, and public; make it private there, or choose another name")
        old = ["*.jax", "*.onnx", "*.safetensors"] if what == "model" else ["*.parquet"]
        hub.upload_folder(
            repo_id=repo, folder_path=folder, repo_type=what, commit_message="expertgen", delete_patterns=old
        )
        if what == "dataset":
            _tag(hub, repo, json.loads((folder / "meta" / "info.json").read_text())["codebase_version"])
        return f"{hub.endpoint}/{'datasets/' if what == 'dataset' else ''}{repo}"
    except UserError:
        raise
    except Exception as error:  # of the network, of rights, of names
        raise UserError(f"{repo}: {one_line(error)}") from error


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
        raise UserError(f"{repo}: {one_line(error)}") from error
    kind(folder)


def _tag(hub: Any, repo: str, version: str) -> None:
    """Tags what was just uploaded with the version of LeRobot's format, by which LeRobot asks for it."""
    from huggingface_hub.errors import RevisionNotFoundError

    with contextlib.suppress(RevisionNotFoundError):
        hub.delete_tag(repo, tag=version, repo_type="dataset")
    hub.create_tag(repo, tag=version, repo_type="dataset")


def _hub() -> Any:
    try:
        from huggingface_hub import HfApi
    except ImportError as error:
        raise UserError("the Hub needs: pip install 'expertgen-jax[hub]'") from error
    return HfApi()
