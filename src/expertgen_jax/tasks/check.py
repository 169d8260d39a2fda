"""The contract check: runs each function of a task once and says in words what is wrong."""

import math
import re
import traceback
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from expertgen_jax.errors import UserError
from expertgen_jax.sim import episode, physics, rollout
from expertgen_jax.task import Script, Senses, Start, Task, View
from expertgen_jax.vision import camera

_SYMBOL = r"(?:[mkuc]?(?:m|g|s|N|Pa|J|W|V|A)|rad|deg|Hz|K|px)(?:\^?\d)?"
_LIBRARIES = re.compile(r"site-packages|[/\\\\]expertgen_jax[/\\\\]|<frozen")
_UNIT = re.compile(rf"1|%|(?:1|{_SYMBOL})(?:[ /]{_SYMBOL})*")


def check_task(task: Task) -> None:
    """Runs each function of `task` once, on the C engine.

    Raises:
      UserError: one line that names the function, what it returned (shape, dtype, NaN) and what was expected.
    """
    mj = _compile(task)
    key = jax.random.key(0)
    parameters = () if task.parameters is None else (task.parameters,)
    if task.nominal_reset is not None:
        _call(task, "nominal_reset", task.nominal_reset, key, *parameters)
    start = _call(task, "reset", task.reset, key, *parameters)
    if not isinstance(start, Start):
        raise _wrong(task, "reset", f"returned {type(start).__name__}, expected a Start")
    _check_pure(task, "reset", start, task.reset(key, *parameters))
    for name, shape in (
        ("qpos", (mj.nq,)),
        ("ctrl", (mj.nu,)),
        ("mocap_pos", (mj.nmocap, 3)),
        ("mocap_quat", (mj.nmocap, 4)),
    ):
        value = getattr(start, name)
        if value is not None:
            _expect(task, f"reset().{name}", value, shape)
        elif name == "qpos":
            raise _wrong(task, "reset().qpos", "is None")

    for name, value in _mapping(task, "reset().fields", start.fields):
        if not isinstance(getattr(mj, name, None), np.ndarray):
            raise _wrong(task, "reset().fields", f"has '{name}', which is no field of a MuJoCo model")
        _expect(task, f"reset().fields['{name}']", value, getattr(mj, name).shape)

    delays = np.asarray(start.delays)
    if delays.shape != (2,) or delays.dtype.kind != "i" or delays.min() < 0 or delays.max() > task.max_delay:
        raise _wrong(task, "reset().delays", f"is {delays}, expected two integers from 0 to max_delay={task.max_delay}")

    env = episode.make_env(task, "native")
    model = physics.with_fields(env.model, start.fields)
    data = physics.init(model, start.qpos, None, start.ctrl, start.mocap_pos, start.mocap_quat)
    context = start.context
    if task.update is not None:
        context = _call(task, "update", task.update, data, start.context, key)
        _check_structure(task, "update", "context", start.context, context)
    _check_entries(
        task, "observe", _call(task, "observe", task.observe, data, context), "observation", task.observation
    )

    action = jnp.zeros(task.action_size)
    _expect(task, "control", _call(task, "control", task.control, data, action), (mj.nu,))
    for predicate in ("success", "lenient"):
        function = getattr(task, predicate)
        if function is not None:
            _expect(task, predicate, _call(task, predicate, function, data, context), (), kind="b")
    if task.privileged is not None:
        value = _call(task, "privileged", task.privileged, data, context)
        _expect(task, "privileged", value, (np.size(value),))
    if task.final_pose is not None:
        for name, value in _mapping(task, "final_pose", _call(task, "final_pose", task.final_pose, data, context)):
            _expect(task, f"final_pose()['{name}']", value, ())
    if task.senses is not None:
        _check_senses(task, task.senses, mj, data)
    for name in ("script", "strong_script"):
        if getattr(task, name) is not None:
            _check_script(task, name, getattr(task, name), data, context, key)
    if task.disassembly is not None:
        how = task.disassembly
        _call(task, "disassembly.reset", how.reset, key, *parameters)
        for name in ("script", "nominal_script"):
            if getattr(how, name) is not None:
                _check_script(task, f"disassembly.{name}", getattr(how, name), data, context, key)
        beside = _call(task, "disassembly.bias", how.bias, key)
        _expect(task, "disassembly.bias", beside, np.shape(beside))
        retraced = _call(task, "disassembly.retrace", how.retrace, data, data.qpos, beside)
        _expect(task, "disassembly.retrace", retraced, (task.action_size,))
    _check_traceable(env, key)


def _mapping(task: Task, name: str, value: Any) -> Any:
    if not isinstance(value, Mapping):
        raise _wrong(task, name, f"returned {type(value).__name__}, expected a dict")
    return value.items()


def _check_senses(task: Task, senses: Senses, mj: mujoco.MjModel, data: Any) -> None:
    if not isinstance(senses, Senses):
        raise _wrong(task, "senses", f"is a {type(senses).__name__}, expected a Senses(proprioception, sense, ...)")
    found = _call(task, "senses.sense", senses.sense, data)
    _check_entries(task, "senses.sense", found, "senses.proprioception", senses.proprioception)
    for name, view in senses.cameras.items():
        if not isinstance(view, View):
            raise _wrong(task, f"senses.cameras['{name}']", f"is a {type(view).__name__}, expected a View(eye, target)")
    frames = {f"senses.cameras['{name}']": view.body for name, view in senses.cameras.items()}
    frames |= {} if senses.workspace is None else {"senses.workspace": senses.workspace.body}
    for name, body in frames.items():
        _call(task, name, camera.frame, mj, data, body)
        if mj.body(body or "world").mocapid[0] >= 0:
            raise _wrong(task, name, f"moves with '{body}', whose place only pictures may tell")


def _check_entries(task: Task, function: str, found: Any, listed: str, names: Mapping[str, str]) -> None:
    """What `function` returned has the entries `names`, which the task's field `listed` holds, and no others."""
    for name, unit in names.items():
        for part in str(unit).split(", "):
            if not _UNIT.fullmatch(part):
                raise _wrong(task, listed, f"gives '{name}' the unit '{unit}', expected one such as m, rad/s, N m or 1")
        if not hasattr(found, "keys") or name not in found:
            raise _wrong(task, function, f"returned no entry '{name}', which `{listed}` lists")
        _expect(task, f"{function}()['{name}']", found[name], np.shape(found[name]))
    for name in found:
        if name not in names:
            raise _wrong(task, function, f"returned '{name}', which `{listed}` does not list")


def _compile(task: Task) -> mujoco.MjModel:
    spec = _call(task, "scene", task.scene)
    if not isinstance(spec, mujoco.MjSpec):
        raise _wrong(task, "scene", f"returned {type(spec).__name__}, expected a mujoco.MjSpec")
    mj = _call(task, "scene().compile", spec.compile)
    for name, least in (("horizon", 1), ("action_size", 1), ("hold", 1), ("max_delay", 0), ("version", 1)):
        value = getattr(task, name)
        if not isinstance(value, int) or value < least:
            raise _wrong(task, name, f"is {value!r}, expected an integer of at least {least}")
    if task.hold > task.horizon:
        raise _wrong(task, "hold", f"is {task.hold}, longer than the horizon of {task.horizon}: nothing can succeed")
    if not isinstance(task.control_dt, int | float) or not math.isfinite(task.control_dt):
        raise _wrong(task, "control_dt", f"is {task.control_dt!r}, expected seconds")
    ratio = task.control_dt / mj.opt.timestep
    if round(ratio) < 1 or abs(ratio - round(ratio)) > 1e-6:
        raise _wrong(task, "control_dt", f"is {task.control_dt} s, not a multiple of the timestep {mj.opt.timestep} s")
    if not task.observation:
        raise _wrong(task, "observation", "is empty")
    angles = _call(task, "spectator", lambda: np.array([*task.spectator[0], *task.spectator[1:]], float))
    _expect(task, "spectator (lookat, distance, azimuth, elevation)", angles, (6,))
    return mj


def _check_script(task: Task, name: str, script: Script, data: Any, context: Any, key: jax.Array) -> None:
    if not isinstance(script, Script):
        raise _wrong(task, name, f"is a {type(script).__name__}, expected a Script(init, act)")
    memory = _call(task, f"{name}.init", script.init, key)
    _check_pure(task, f"{name}.init", memory, script.init(key))
    result = _call(task, f"{name}.act", script.act, memory, data, context, key)
    if not isinstance(result, tuple) or len(result) != 2:
        raise _wrong(task, f"{name}.act", "must return (memory, action)")
    _expect(task, f"{name}.act action", result[1], (task.action_size,))
    _check_structure(task, f"{name}.act", "memory", memory, result[0])


def _check_structure(task: Task, name: str, what: str, old: Any, new: Any) -> None:
    """What a function hands on has the structure, shapes and dtypes that it was given."""
    before, after = (jax.tree.map(lambda x: (jnp.shape(x), jnp.result_type(x)), tree) for tree in (old, new))
    if before != after:
        raise _wrong(task, name, f"changed the {what} from {before} to {after}: keep structure and dtypes")


def _check_pure(task: Task, name: str, one: Any, other: Any) -> None:
    """Two calls with one key give the same."""
    same = jax.tree.map(lambda x, y: np.array_equal(_plain(x), _plain(y), equal_nan=True), one, other)
    if not all(jax.tree.leaves(same)):
        raise _wrong(task, name, "gives another result for the same key: draw from the key only, and keep no state")


def _plain(x: Any) -> np.ndarray:
    """Numbers, also of random keys."""
    return np.asarray(jax.random.key_data(x) if jnp.issubdtype(jnp.result_type(x), jax.dtypes.prng_key) else x, float)


def _check_traceable(env: episode.Env, key: jax.Array) -> None:
    """Side effects and Python branches on arrays show only under `jit`."""
    task = env.task

    def play(key: jax.Array) -> episode.World:
        return episode.advance(env, episode.reset(env, key), jnp.zeros((1, task.action_size)))[0]

    script = rollout.scripted_agent(task)
    _call(task, "one step under jit and vmap", jax.jit(jax.vmap(play)), jax.random.split(key))
    _call(task, "script under jit", jax.eval_shape, lambda k: rollout.play(env, script, k, 2), key)


def _call(task: Task, name: str, function: Callable[..., Any], *args: Any) -> Any:
    try:
        return function(*args)
    except Exception as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else ""
        own = [f for f in traceback.extract_tb(error.__traceback__) if not _LIBRARIES.search(f.filename)]
        where = f" in {own[-1].name}, line {own[-1].lineno}" if own else ""
        if isinstance(error, jax.errors.ConcretizationTypeError):
            first = "a branch on an array, which has no value yet under jit: use jnp.where or jax.lax.cond"
        raise _wrong(task, name, f"raised {type(error).__name__}{where}: {first}") from error


def _expect(task: Task, name: str, value: Any, shape: tuple[int, ...], kind: str = "f") -> None:
    array = np.asarray(value)
    if array.shape != shape:
        raise _wrong(task, name, f"has shape {array.shape}, expected {shape}")
    if array.dtype.kind != kind:
        raise _wrong(task, name, f"has dtype {array.dtype}, expected {'bool' if kind == 'b' else 'float32'}")
    if not np.isfinite(array).all():
        raise _wrong(task, name, f"holds {'NaN' if np.isnan(array).any() else 'infinite numbers'}")


def _wrong(task: Task, name: str, problem: str) -> UserError:
    return UserError(f"task '{task.name}': {name} {problem}")
