"""What every command shares: parsing, errors as one line, the compilation cache."""

import contextlib
import logging
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import jax
import tyro

from expertgen_jax.errors import UserError

T = TypeVar("T")
Arguments = Sequence[str] | None
"""Of a command line, without the command; None for those of this process."""


def run(name: str, arguments: type[T], main: Callable[[T], None], argv: Arguments) -> None:
    """Parses a command line and runs `main` on it.

    Exit code 0 when the job is done; 2 with one line on stderr for a mistake that the user can mend; 1 with one line
    where the machine is at fault (files, memory); 130 when interrupted.
    """
    args = parsed(name, arguments, argv)
    with conversation():
        main(args)


def parsed(name: str, arguments: type[T], argv: Arguments, default: T | None = None) -> T:
    """The arguments of a command line, beside which `default` may give defaults of its own."""
    missing = tyro.MISSING_NONPROP if default is None else default
    return tyro.cli(arguments, prog=f"expertgen {name}", args=argv, default=missing)


@contextlib.contextmanager
def conversation() -> Iterator[None]:
    """Talks to a person: errors and warnings are a line each, an interrupt ends the process at once."""
    signal.signal(signal.SIGINT, _interrupt)
    enable_compilation_cache()
    logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax comments on every left-over of an interrupted save
    warnings.showwarning = lambda message, *_, **__: print(f"warning: {message}", file=sys.stderr)
    try:
        _check_device()
        yield
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        _fail(f"{error}; the same command goes on from what was saved")
    except jax.errors.JaxRuntimeError as error:
        if not any(words in str(error) for words in ("RESOURCE_EXHAUSTED", "Out of memory")):
            raise
        _fail("out of memory: take fewer worlds, episodes or a smaller buffer")


def prepare(out: Path, *, folder: bool = False) -> None:
    """Makes the folder for a file that a command writes at its end, or with `folder` the folder that it fills.

    Raises:
      UserError: it cannot be written.
    """
    if not folder and out.is_dir():
        raise UserError(f"--out {out}: is a folder; give a file in it")
    try:
        (out if folder else out.parent).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {out}: cannot be written ({error.strerror})") from error
    if not os.access(out if folder else out.parent, os.W_OK):
        raise UserError(f"--out {out}: cannot be written (no right to)")


def _interrupt(*_: Any) -> NoReturn:
    """Ends the process at once, as a kill would, which loses nothing that was saved.

    An exception would be lost where it strikes in a weak reference's callback, of which tracing has many; and a program
    that still runs on the device calls the C engine, which needs the interpreter.
    """
    print("\ninterrupted; the same command goes on from here", file=sys.stderr, flush=True)
    os._exit(130)


def _fail(problem: str) -> NoReturn:
    print(f"error: {problem}", file=sys.stderr)
    sys.exit(1)


def _check_device() -> None:
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:
        asked, why = os.environ.get("JAX_PLATFORMS", ""), str(error).partition("\n")[0]
        raise UserError(f"JAX_PLATFORMS={asked}: JAX finds no such device{why and f' ({why})'}") from error


def enable_compilation_cache() -> None:
    """Keeps compiled programs in the user's cache folder, unless JAX was told of another."""
    if jax.config.values["jax_compilation_cache_dir"] is None:
        with contextlib.suppress(RuntimeError):  # a user without a home folder
            cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
            jax.config.update("jax_compilation_cache_dir", str(cache / "expertgen_jax"))
