"""Policies that leave the laboratory: `jax.export` artefacts that need nothing of this package.

A folder holds `card.json`, which says what goes in and comes out, `scene.xml`, and one serialised program each:

==========  ====================================================================================================
`reset`     `seed uint32 -> {qpos, ctrl, mocap_pos, mocap_quat, fields, context}`: how an episode starts
`sense`     `(state, context) -> vector [inputs.vector.size]`: proprioception of a student, the expert's observation
`policy`    `(vectors [history, size], pictures [history, ...], key uint32 [2]) -> actions [chunk, action_size]`
`control`   `(state, action) -> ctrl`, at every control step
`success`   `(state, context) -> bool`, strict, of one control step
==========  ====================================================================================================

`state` is a dictionary of MuJoCo's `qpos qvel ctrl time xpos xquat xmat site_xpos site_xmat sensordata mocap_pos
mocap_quat` (float32), `context` a list of arrays. Weights and normalisers are constants of the programs.
"""

import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.export
import jax.numpy as jnp

from expertgen_jax import task as task_lib
from expertgen_jax.learning import steering, student
from expertgen_jax.learning.student import Percept
from expertgen_jax.runs.distillation import StudentRun
from expertgen_jax.runs.pipeline import Phases
from expertgen_jax.runs.runlog import provenance, write_json
from expertgen_jax.sim import rollout
from expertgen_jax.sim.rollout import World
from expertgen_jax.task import Task, feel

VERSION = 1
"""Of the artefact's format."""
STATE = (
    *("qpos", "qvel", "ctrl", "time", "xpos", "xquat", "xmat", "site_xpos", "site_xmat", "sensordata", "mocap_pos"),
    "mocap_quat",
)
UNITS = {"depth": "m along the optical axis, at most 1, 0 where there is none", "rgb": "1", "points": "m"}
"""Of pictures, by what they show."""


def export(phases: Phases, student_run: StudentRun | None, folder: Path) -> dict[str, Any]:
    """Writes the artefact of a run's expert, or of one of its students; returns its card.

    Raises:
      UserError: the run has not come that far.
    """
    env, task, chunk = phases.env, phases.env.task, phases.settings.prior.chunk
    world = jax.eval_shape(lambda k: rollout.reset(env, k), jax.random.key(0))
    context, structure = jax.tree.flatten(world.context)
    by_state = student_run is None or student_run.settings.student.modality == "state"

    def reset(seed: jax.Array) -> dict[str, Any]:
        key = jax.random.key(seed)
        start = task.reset(key) if env.sizes is None else task.reset(key, env.sizes)
        names = ("qpos", "ctrl", "mocap_pos", "mocap_quat")
        given = {name: x for name in names if (x := getattr(start, name)) is not None}
        return {**given, "fields": dict(start.fields), "context": jax.tree.leaves(start.context)}

    def sense(state: dict[str, jax.Array], context: list[jax.Array]) -> jax.Array:
        data = SimpleNamespace(**state)
        return task_lib.observe(task, data, jax.tree.unflatten(structure, context)) if by_state else feel(task, data)

    def control(state: dict[str, jax.Array], action: jax.Array) -> jax.Array:
        return task.control(SimpleNamespace(**state), action)

    def success(state: dict[str, jax.Array], context: list[jax.Array]) -> jax.Array:
        return task.success(SimpleNamespace(**state), jax.tree.unflatten(structure, context))

    if student_run is None:
        prior, expert = phases.needed("expert")
        act = steering.expert_policy(chunk, phases.settings.steer).act
        percept, history, kind = Percept(world.obs, jnp.zeros(0)), 1, "state"

        def policy(vectors: jax.Array, pictures: jax.Array, key: jax.Array) -> jax.Array:
            seeing: Any = SimpleNamespace(obs=vectors[0])
            return act((prior, expert), (), seeing, key)[1]
    else:
        learnt, config = student_run.student(), student_run.settings.student
        percept = jax.tree.map(lambda x: x[0], student_run.learner().eyes.init(jax.random.key(0)).percepts)
        history, kind = config.history, config.modality

        def policy(vectors: jax.Array, pictures: jax.Array, key: jax.Array) -> jax.Array:
            return student.act(learnt, Percept(vectors, pictures), jax.random.wrap_key_data(key))

    state = {name: jax.ShapeDtypeStruct(getattr(world.data, name).shape, jnp.float32) for name in STATE}
    percepts = [jax.ShapeDtypeStruct((history, *x.shape), jnp.float32) for x in percept]
    seed, key = jax.ShapeDtypeStruct((), jnp.uint32), jax.ShapeDtypeStruct((2,), jnp.uint32)
    programs: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
        "reset": (reset, (seed,)),
        "sense": (sense, (state, context)),
        "policy": (policy, (*percepts, key)),
        "control": (control, (state, jax.ShapeDtypeStruct((task.action_size,), jnp.float32))),
        "success": (success, (state, context)),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, (function, arguments) in programs.items():
        exported = jax.export.export(jax.jit(function), platforms=("cpu", "cuda"))(*arguments)
        (folder / f"{name}.jax").write_bytes(exported.serialize())
    spec = task.scene()
    spec.compile()
    (folder / "scene.xml").write_text(spec.to_xml())
    card = {
        "version": VERSION,
        "task": task.name,
        "policy": "expert" if student_run is None else f"student {student_run.name}",
        **provenance(),
        "inputs": {
            "history": history,
            "vector": {
                "size": percept.felt.shape[0],
                "entries": _entries(task, world, by_state),
            },
            "pictures": {
                "kind": kind,
                "shape": list(percept.seen.shape),
                "unit": UNITS.get(kind, ""),
                "cameras": {name: view._asdict() for name, view in (task.cameras or {}).items()},
            },
        },
        "output": {"shape": [chunk, task.action_size], "range": [-1, 1]},
        "control_dt": task.control_dt,
        "decision_dt": task.control_dt * chunk,
        "substeps": env.nstep,
        "horizon": task.horizon,
        "hold": task.hold,
    }
    write_json(folder / "card.json", card)
    return card


def _entries(task: Task, world: World, by_state: bool) -> dict[str, Any]:
    """Name, unit and size of each part of the vector, in order."""
    if by_state:
        units, parts = task.observation, jax.eval_shape(task.observe, world.data, world.context)
    else:
        assert task.proprioception is not None and task.feel is not None
        units, parts = task.proprioception, jax.eval_shape(task.feel, world.data)
    sizes = {name: math.prod(parts[name].shape) for name in units}
    return {name: {"unit": units[name], "size": size} for name, size in sizes.items() if size}
