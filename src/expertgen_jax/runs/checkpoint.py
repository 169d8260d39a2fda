"""Orbax checkpoints of any pytree: policies, and the whole state of a training.

Each holds a digest of its arrays, because a file system returns a flipped bit without a word.
"""

import hashlib
import re
import shutil
import warnings
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from expertgen_jax.errors import UserError

T = TypeVar("T")


class DamagedError(UserError):
    """A checkpoint that cannot be read."""


def save(path: Path, tree: Any) -> None:
    """Writes `tree` to the folder `path`, whole or not at all.

    Raises:
      UserError: it cannot be written (disk full, no right).
    """
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            leaves = _leaves(tree)
            checkpointer.save(path.resolve(), leaves | {_DIGEST: _digest(leaves)}, force=True)
    except Exception as error:  # Orbax and TensorStore raise what they like
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"checkpoint {path} cannot be written, earlier ones stay ({reason})") from error


def restore(path: Path, like: T) -> T:
    """Reads a tree of the structure, shapes and dtypes of `like` (arrays or `jax.ShapeDtypeStruct`s).

    Raises:
      DamagedError: it cannot be read, or holds something else.
      FileNotFoundError: there is none.
    """
    if not path.exists():
        raise FileNotFoundError(path)
    templates, structure = jax.tree.flatten(like)
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])  # whatever device it was saved from
    abstract = jax.eval_shape(_leaves, like) | {_DIGEST: jax.ShapeDtypeStruct((32,), jnp.uint8)}
    abstract = {name: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here) for name, x in abstract.items()}
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            stored = checkpointer.restore(path.resolve(), abstract)
    except Exception as error:  # Orbax and TensorStore raise what they like on damaged files
        raise DamagedError(f"checkpoint {path} is damaged or of another version") from error
    if (stored.pop(_DIGEST) != _digest(stored)).any():
        raise DamagedError(f"checkpoint {path} is damaged: its numbers are not those that were saved")
    found = iter(stored[name] for name in sorted(stored))
    leaves = [_unstored(t, next(found)) if t.size else jnp.zeros(t.shape, t.dtype) for t in templates]
    return jax.tree.unflatten(structure, leaves)


class Series:
    """Numbered checkpoints of a growing training in one folder; the newest two are kept."""

    def __init__(self, folder: Path):
        self.folder = folder

    def steps(self) -> list[int]:
        """Numbers of the complete checkpoints, ascending."""
        if not self.folder.exists():
            return []
        return sorted(int(p.name) for p in self.folder.iterdir() if re.fullmatch(r"\d+", p.name))

    def save(self, step: int, tree: Any) -> None:
        """Writes checkpoint `step`, then removes all but the newest two."""
        save(self.folder / str(step), tree)
        for old in self.steps()[:-2]:
            shutil.rmtree(self.folder / str(old))

    def restore(self, like: T) -> tuple[int, T] | None:
        """The newest checkpoint that can be read, with its number; damaged ones are reported and set aside."""
        for step in reversed(self.steps()):
            try:
                return step, restore(self.folder / str(step), like)
            except DamagedError as error:
                warnings.warn(f"{error}; set aside, going on from the one before", stacklevel=2)
                shutil.rmtree(self.folder / f"{step}.unreadable", ignore_errors=True)
                (self.folder / str(step)).rename(self.folder / f"{step}.unreadable")
        return None


def _leaves(tree: Any) -> dict[str, jax.Array]:
    """The tree's leaves by number and path; random keys as their numbers, without empty arrays (Orbax refuses both)."""
    flat = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {
        f"{i:04d}.{jax.tree_util.keystr(path, simple=True, separator='.')}": _stored(x)
        for i, (path, x) in enumerate(flat)
        if x.size
    }


_DIGEST = "digest"


def _digest(leaves: dict[str, jax.Array]) -> np.ndarray:
    """SHA-256 of named arrays, `[32] uint8`."""
    digest = hashlib.sha256()
    for name in sorted(leaves):
        digest.update(name.encode())
        digest.update(np.asarray(leaves[name]).tobytes())
    return np.frombuffer(digest.digest(), np.uint8)


def _stored(x: Any) -> jax.Array:
    return jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else jnp.asarray(x)


def _unstored(template: Any, x: jax.Array) -> jax.Array:
    return jax.random.wrap_key_data(x) if jnp.issubdtype(template.dtype, jax.dtypes.prng_key) else x
