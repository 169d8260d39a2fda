"""What tests share. Compiling an MJX program takes seconds, so programs are built once a session."""

import functools
import os
from collections.abc import Callable

os.environ.setdefault("MUJOCO_GL", "egl")  # before MuJoCo is imported: its renderer needs no display then

import jax
import numpy as np
import pytest
from pressing import Path, press_program

from expertgen_jax.sim import rollout
from expertgen_jax.tasks.registry import TASKS


@pytest.fixture(scope="session")
def envs() -> Callable[[str, str], rollout.Env]:
    """`(task name, back end) -> Env`, cached."""
    return functools.cache(lambda task, backend: rollout.make_env(TASKS[task](), backend))


@pytest.fixture(scope="session")
def world(envs) -> rollout.World:
    """The peg at the start of an episode."""
    env = envs("peg", "native")
    return jax.jit(lambda key: rollout.reset(env, key))(jax.random.key(3))


@pytest.fixture(scope="session")
def press(envs) -> Callable[..., Callable[[np.ndarray, np.ndarray], Path]]:
    """`press_program` by back end and task (the peg), cached."""
    return functools.cache(lambda backend, task="peg": press_program(envs(task, backend)))
