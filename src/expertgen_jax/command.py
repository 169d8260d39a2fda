"""What every command line shares: parsing, errors as one line, the compilation cache."""

import logging
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import jax
import tyro

from expertgen_jax.errors import UserError

T = TypeVar("T")


def run(settings: type[T], main: Callable[[T], None]) -> None:
    """Parses the command line into `settings` and runs `main`.

    Exit code 0 when the job is done; 1 if a file cannot be read or written; 2 with one line on stderr for a user's
    mistake; 130 when interrupted.
    """
    args = tyro.cli(settings, config=(tyro.conf.ConsolidateSubcommandArgs, tyro.conf.FlagConversionOff))
    enable_compilation_cache()
    logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax comments on every left-over of an interrupted save
    warnings.showwarning = lambda message, *_, **__: print(f"warning: {message}", file=sys.stderr)
    try:
        main(args)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:  # disk full, rights
        print(f"error: {error}; the same command goes on from what was saved", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on from here", file=sys.stderr)
        sys.exit(130)


def enable_compilation_cache() -> None:
    """Keeps compiled programs in the user's cache folder, unless JAX was told of another."""
    if jax.config.jax_compilation_cache_dir is None:  # type: ignore[attr-defined]
        cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
        jax.config.update("jax_compilation_cache_dir", str(cache / "expertgen_jax"))
