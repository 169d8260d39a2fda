"""What a task is, whatever its file's text: a digest of what each of its functions computes.

A comment, another name or cameras for students change nothing of it; a number in a helper module does.
"""

import hashlib
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from expertgen_jax.sim import episode
from expertgen_jax.task import Task


def identity(task: Task) -> dict[str, str]:
    """Digests of the parts of a task on which what is learnt depends, by name.

    They hold for one version of JAX and of MuJoCo, whose names are among them as `traced_by`: others may trace the same
    function to other operations.
    """
    env = episode.make_env(task, "native", actions_seen=0)
    world = jax.eval_shape(lambda k: episode.reset(env, k), jax.random.key(0))
    data, context, key = world.data, world.context, jax.random.key(0)
    memory = jax.eval_shape(task.script.init, key)
    action = jnp.zeros(task.action_size)
    functions: dict[str, tuple[Callable[..., Any] | None, tuple[Any, ...]]] = {
        "reset": (lambda k, p: task.start(k, p)._replace(variant=0), (key, env.parameters)),
        "observe": (task.observed, (data, context)),
        "update": (task.update, (data, context, key)),
        "privileged": (task.privileged, (data, context)),
        "control": (task.control, (data, action)),
        "success": (task.success, (data, context)),
        "script": (task.script.act, (memory, data, context, key)),
        "script.init": (task.script.init, (key,)),
    }
    sizes = [task.horizon, task.hold, task.control_dt, task.action_size, task.max_delay, list(task.observation)]
    scene = np.empty(mujoco.mj_sizeModel(env.model.mj), np.uint8)
    mujoco.mj_saveModel(env.model.mj, None, scene)
    return {
        "traced_by": f"jax {jax.__version__}, mujoco {mujoco.mj_versionString()}",
        "sizes": _digest(repr(sizes).encode()),
        "scene": _digest(scene.tobytes()),
        "parameters": _digest(*(np.asarray(x).tobytes() for x in jax.tree.leaves(env.parameters))),
        **{name: _traced(function, *args) for name, (function, args) in functions.items() if function is not None},
    }


def changed(old: dict[str, str], new: dict[str, str]) -> list[str]:
    """Names of the parts in which two identities differ; empty where other versions traced them, so that none can be
    told apart."""
    if old.get("traced_by") != new.get("traced_by"):
        return []
    return [name for name in dict.fromkeys((*old, *new)) if old.get(name) != new.get(name)]


def _traced(function: Callable[..., Any], *args: Any) -> str:
    """A digest of the operations and the constants of a function."""
    closed = jax.make_jaxpr(function)(*args)
    text = re.sub(r"0x[0-9a-f]+|\bname=\w+", "", str(closed.jaxpr))  # where functions lie in memory; their names
    constants = [np.asarray(x).tobytes() for x in closed.consts if not jnp.issubdtype(x.dtype, jax.dtypes.prng_key)]
    return _digest(text.encode(), *constants)


def _digest(*parts: bytes) -> str:
    return hashlib.sha256(b"|".join(parts)).hexdigest()[:16]
