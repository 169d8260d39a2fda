"""ExpertGen in JAX: expert robot policies from imperfect demonstrations, without reward engineering.

The names below are all that a program usually needs; each says in its docstring where it leads. They are imported when
they are first used, so that `import expertgen_jax` costs nothing.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from expertgen_jax.errors import UserError
    from expertgen_jax.runs.expert import ExpertRun
    from expertgen_jax.runs.opening import load_run
    from expertgen_jax.runs.student import StudentRun, load_student
    from expertgen_jax.sim.episode import Env, World, advance, make_env, reset
    from expertgen_jax.sim.evaluation import evaluate
    from expertgen_jax.sim.rollout import Agent, Policy, play, record
    from expertgen_jax.task import Script, Senses, Start, Task, View
    from expertgen_jax.tasks.check import check_task
    from expertgen_jax.tasks.registry import load_task

    __version__: str

__all__ = [
    "Agent",
    "Env",
    "ExpertRun",
    "Policy",
    "Script",
    "Senses",
    "Start",
    "StudentRun",
    "Task",
    "UserError",
    "View",
    "World",
    "__version__",
    "advance",
    "check_task",
    "evaluate",
    "load_run",
    "load_student",
    "load_task",
    "make_env",
    "play",
    "record",
    "reset",
]

_HOMES = {
    **dict.fromkeys(("Script", "Senses", "Start", "Task", "View"), "task"),
    **dict.fromkeys(("Env", "World", "advance", "make_env", "reset"), "sim.episode"),
    **dict.fromkeys(("Agent", "Policy", "play", "record"), "sim.rollout"),
    "ExpertRun": "runs.expert",
    "load_run": "runs.opening",
    **dict.fromkeys(("StudentRun", "load_student"), "runs.student"),
    **{"UserError": "errors", "check_task": "tasks.check", "evaluate": "sim.evaluation", "load_task": "tasks.registry"},
}
"""Where each name is defined."""

# XLA reports each program that it loads from the compilation cache as built for another machine (openxla/xla#44565).
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# XLA's thread pool on the CPU is as large as NPROC says. jaxlib 0.10 shares each batched Cholesky out over the pool
# that it runs on, and waits: as many at once as there are threads, two in MJX, wait for ever.
_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
os.environ.setdefault("NPROC", str(max(4, _cores)))


def __getattr__(name: str) -> Any:
    if name == "__version__":
        value: Any = importlib.import_module("importlib.metadata").version("expertgen-jax")
    elif name in _HOMES:
        value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
