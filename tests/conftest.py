"""What tests share. Compiling an MJX program takes seconds, so programs are built once a session."""

# ruff: noqa: E402
import fcntl
import functools
import importlib.util
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # as the package does; JAX would set another, also for children
os.environ.setdefault("MUJOCO_GL", "egl")  # before MuJoCo is imported: its renderer needs no display then
# Most programs here run for milliseconds and compile for seconds, also those of commands in processes of their own.
# Where nothing is optimised, XLA:CPU's fusion emitters more than double the time.
FAST = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true --xla_cpu_use_fusion_emitters=false"
os.environ.setdefault("XLA_FLAGS", FAST)

from flax.struct import PyTreeNode
from jaxtyping import install_import_hook

# Calls are checked against the types of shapes and dtypes; pytrees are not, which JAX also builds of other leaves.
install_import_hook(["expertgen_jax.learning", "expertgen_jax.sim"], "beartype.beartype")
PyTreeNode.__no_type_check__ = True

import jax
import numpy as np
import pytest
from commands import call
from pressing import Path, press_program
from small import SMALL, SMALL_STUDENT

from expertgen_jax.sim import episode
from expertgen_jax.tasks.registry import load_task

# jax2onnx asks for an older Orbax; what needs it, or another large library, runs in an environment of its own: see
# `.ci/run`.
APART = {
    **{"runs/test_onnx.py": "jax2onnx", "envs/test_brax.py": "brax", "envs/test_playground.py": "mujoco_playground"},
    "viewer/test_rerun.py": "rerun",
}
collect_ignore = [path for path, package in APART.items() if importlib.util.find_spec(package) is None]
SLOW_FIXTURES = {"small_run", "student_run", "workplace"}
"""Whole runs, which many tests look at."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever compiles for MJX, or needs a whole run, is slow."""
    for item in items:
        params = item.callspec.params.values() if hasattr(item, "callspec") else ()
        if "mjx" in params or SLOW_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="module", autouse=True)
def few_programs() -> Iterator[None]:
    """Linux maps at most 65,530 areas of memory for a process; a compiled program takes 18, one too many ends it."""
    yield
    maps = pathlib.Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > 20_000:
        jax.clear_caches()


@pytest.fixture(scope="session")
def made_once(tmp_path_factory) -> Callable[[str, Callable[[pathlib.Path], None]], pathlib.Path]:
    """`(name, make) -> folder` of this process's own, a copy of one that `make` fills once for all processes."""
    own = tmp_path_factory.getbasetemp()
    shared = own.parent if "PYTEST_XDIST_WORKER" in os.environ else tmp_path_factory.mktemp("shared")

    def copied(name: str, make: Callable[[pathlib.Path], None]) -> pathlib.Path:
        with (shared / f"{name}.lock").open("w") as lock:
            fcntl.lockf(lock, fcntl.LOCK_EX)
            if not (shared / name).exists():
                make(shared / f"{name}.part")
                (shared / f"{name}.part").rename(shared / name)
        return shutil.copytree(shared / name, own / name)

    return copied


@pytest.fixture(scope="session")
def small_run(made_once) -> pathlib.Path:
    """A finished run of peg."""

    def make(folder: pathlib.Path) -> None:
        code, out, err = call("steer", "--run-dir", str(folder), *SMALL)
        assert code == 0, err
        assert "expert" in out and "strict success" in out

    return made_once("peg", make)


@pytest.fixture(scope="session")
def student_run(small_run, made_once) -> pathlib.Path:
    """A copy of the small run with a student that its hardly trained expert made."""

    def make(folder: pathlib.Path) -> None:
        shutil.copytree(small_run, folder)
        code, out, err = call("distill", "--run-dir", str(folder), *SMALL_STUDENT)
        assert code == 0, err
        assert "depth student, visual default" in out

    return made_once("taught", make)


@pytest.fixture(scope="session")
def envs() -> Callable[..., episode.Env]:
    """`(task name, back end, robot) -> Env`, with the floating hand by default, cached."""
    return functools.cache(lambda task, backend, robot="hand": episode.make_env(load_task(task, robot=robot), backend))


@pytest.fixture(scope="session")
def world(envs) -> episode.World:
    """The peg at the start of an episode."""
    env = envs("peg", "native")
    return jax.jit(lambda key: episode.reset(env, key))(jax.random.key(3))


@pytest.fixture(scope="session")
def press(envs) -> Callable[..., Callable[[np.ndarray, np.ndarray], Path]]:
    """`press_program` by back end, task (the peg) and robot (the hand), cached."""
    return functools.cache(lambda backend, task="peg", robot="hand": press_program(envs(task, backend, robot)))
