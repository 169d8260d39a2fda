"""The command `expertgen`: what it can do, and the way to each of its commands.

It imports nothing but what the chosen command needs, so that `expertgen --help` answers at once.
"""

import difflib
import importlib
import os
import sys
from collections.abc import Sequence
from importlib import metadata

COMMANDS = {
    "tasks": "List the tasks.",
    "check": "Check a task, or a task file of your own, and try its script.",
    "view": "Look at a task or a run: a window, a web page, or a video file.",
    "demos": "Demonstrations from the files of others, and episodes for them.",
    "steer": "From nothing to an expert: demonstrations, diffusion prior, steering, evaluation.",
    "pretrain": "The first part of steer: demonstrations and the diffusion prior.",
    "distill": "From an expert to a student that sees only what a robot sees.",
    "evaluate": "Evaluate a policy of a run, on any physics engine.",
    "export": "Write an expert or a student as programs that run without this package.",
    "hub": "Upload an exported policy or a dataset to Hugging Face's Hub, or download one.",
    "deploy": "Let an exported policy drive a robot, or a simulated one in a process of its own.",
    "reproduce": "Make the figures that the documentation quotes.",
}


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command that the arguments name; exit codes as of `command.run`."""
    try:
        _run(*((sys.argv[1:] if argv is None else argv) or ["--help"]))
    except BrokenPipeError:  # whoever reads the output has seen enough, as in `expertgen steer --help | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _run(name: str, *arguments: str) -> None:
    if name in ("-h", "--help"):
        print(usage())
    elif name == "--version":
        print(metadata.version("expertgen-jax"))
    elif name in COMMANDS:
        importlib.import_module(f"expertgen_jax.cli.{name}").main(arguments)
    else:
        near = difflib.get_close_matches(name, COMMANDS, n=2) or list(COMMANDS)
        print(f"error: expertgen {name}: no such command; did you mean {' or '.join(near)}?", file=sys.stderr)
        sys.exit(2)


def usage() -> str:
    """The commands, a line each."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name.ljust(width)}  {text}" for name, text in COMMANDS.items()]
    return "\n".join(
        [
            "usage: expertgen COMMAND [OPTIONS]",
            "",
            "Expert robot policies from imperfect demonstrations, without reward engineering.",
            "",
            *lines,
            "",
            "expertgen COMMAND --help lists the options of a command.",
        ]
    )
