"""What every command line shares: parsing, errors as one line, the compilation cache."""

import dataclasses
import logging
import os
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import jax
import tyro

from expertgen_jax.errors import UserError
from expertgen_jax.runs.settings import RunSettings, with_preset
from expertgen_jax.tasks import registry

T = TypeVar("T")


def run(settings: type[T], main: Callable[[T], None]) -> None:
    """Parses the command line into `settings` and runs `main`; for a family of tasks once for each, one after another.

    A task's preset replaces the defaults, and what the command line says replaces both.

    Exit code 0 when the job is done; 2 with one line on stderr for a mistake that the user can mend; 1 with one line
    where the machine is at fault (files, memory); 130 when interrupted.
    """
    signal.signal(signal.SIGINT, interrupt)
    config = (tyro.conf.ConsolidateSubcommandArgs,)
    args = tyro.cli(settings, config=config)
    enable_compilation_cache()
    logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax comments on every left-over of an interrupted save
    warnings.showwarning = lambda message, *_, **__: print(f"warning: {message}", file=sys.stderr)
    try:
        if not isinstance(args, RunSettings):
            main(args)
            return
        family = registry.FAMILIES.get(args.task, (args.task,))
        for number, task in enumerate(family):
            preset = registry.load(task, args.randomization).preset or {}
            one = tyro.cli(settings, default=with_preset(settings(), preset), config=config)
            if len(family) > 1:
                print(f"\n{number + 1} of {len(family)}: ", end="", file=sys.stderr, flush=True)
                folder = args.run_dir and args.run_dir / task
                one = dataclasses.replace(one, task=task, run_dir=folder)
            main(one)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        fail(f"{error}; the same command goes on from what was saved")
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        fail("out of memory: take fewer worlds, episodes or a smaller buffer")


def interrupt(*_: Any) -> NoReturn:
    """Ends the process at once, as a kill would, which loses nothing that was saved.

    An exception would be lost where it strikes in a weak reference's callback, of which tracing has many; and a program
    that still runs on the device calls the C engine, which needs the interpreter.
    """
    print("\ninterrupted; the same command goes on from here", file=sys.stderr, flush=True)
    os._exit(130)


def fail(problem: str) -> NoReturn:
    """Ends the command with one line and exit code 1."""
    print(f"error: {problem}", file=sys.stderr)
    sys.exit(1)


def enable_compilation_cache() -> None:
    """Keeps compiled programs in the user's cache folder, unless JAX was told of another."""
    if jax.config.values["jax_compilation_cache_dir"] is None:
        cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
        jax.config.update("jax_compilation_cache_dir", str(cache / "expertgen_jax"))
