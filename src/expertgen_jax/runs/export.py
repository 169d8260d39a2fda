"""Policies for elsewhere: `jax.export` artefacts that need nothing of this package.

A folder holds `card.json`, which says what goes in and comes out, `scene.xml`, and one serialised program each, whose
digests the card gives:

==========  ====================================================================================================
`reset`     `seed uint32 -> {qpos, ctrl, mocap_pos, mocap_quat, fields, context}`: how an episode starts
`sense`     `(state, context) -> vector [inputs.vector.size]`: proprioception of a student, the expert's observation
`policy`    `(vectors [history, size], pictures [history, ...], key uint32 [2]) -> actions [chunk, action_size]`
`control`   `(state, action) -> ctrl`, at every control step
`success`   `(state, context) -> bool`, strict, of one control step
`update`    `(state, context, key uint32 [2]) -> context`, at the start and after every control step; only where a task
            has one, as under randomisation
==========  ====================================================================================================

On request there are besides `policy.onnx`, `sense.onnx` and `control.onnx`, whose inputs are named as above, the
fields of a state each by its name, and `policy.safetensors`, the weights by name.

`state` is a dictionary of MuJoCo's `qpos qvel ctrl time xpos xquat xmat site_xpos site_xmat sensordata mocap_pos
mocap_quat` (float32), `context` a list of arrays. Weights and normalisers are constants of the programs. Where
`inputs.past_actions` of the card is not 0, the last so many actions follow what `sense` returns, the newest first, at
first zeros.
"""

import functools
import hashlib
import importlib.util
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, NamedTuple

import jax
import jax.export
import jax.numpy as jnp
import mujoco
import numpy as np

from expertgen_jax.deploy.artefact import VERSION
from expertgen_jax.errors import UserError
from expertgen_jax.files import atomic, write_json
from expertgen_jax.learning import student
from expertgen_jax.learning.student import Percept
from expertgen_jax.runs import onnx
from expertgen_jax.runs.card import page
from expertgen_jax.runs.expert import ExpertRun
from expertgen_jax.runs.provenance import provenance
from expertgen_jax.runs.student import StudentRun
from expertgen_jax.sim import episode
from expertgen_jax.sim.episode import Env, World
from expertgen_jax.task import PORTABLE, Task

UNITS = {"depth": "m along the optical axis, at most 1, 0 where there is none", "rgb": "1", "points": "m"}
"""Of pictures, by what they show."""
PICTURES = {
    "depth": "camera, row from the top, column from the left, 1",
    "rgb": "camera, row from the top, column from the left, red green blue",
    "points": "point, x y z in the frame of the workspace",
}
"""What the axes of pictures are."""


Form = Literal["onnx", "safetensors"]
"""What a policy is written as besides."""
FORMS: dict[Form, str] = {"onnx": "jax2onnx", "safetensors": "safetensors"}
"""The package that writes each."""
ONNX, WEIGHTS = ("policy", "sense", "control"), "policy.safetensors"
OnnxProgram = tuple[Callable[..., jax.Array], dict[str, Any]]
"""A function of arrays, and their shapes by name."""


class Brain(NamedTuple):
    """What of a policy is exported.

    Attributes:
      name: as the card calls it.
      policy: `(vectors [history, n], pictures [history, ...], key data uint32 [2]) -> actions [chunk, action_size]`.
      percept: an example of one.
      history: percepts that it acts on.
      kind: of its pictures, a student's modality; an expert's is `state`.
      weights: a pytree of what was learnt.
    """

    name: str
    policy: Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
    percept: Percept
    history: int
    kind: str
    weights: Any


def of_expert(run: ExpertRun) -> Brain:
    """The expert of a run."""
    agent = run.agent("expert")
    world = jax.eval_shape(lambda k: episode.reset(run.env, k), jax.random.key(0))

    def policy(vectors: jax.Array, pictures: jax.Array, key: jax.Array) -> jax.Array:
        seeing = world.replace(obs=vectors[0], steps=jnp.int32(1))  # an expert sees nothing else
        return agent.act(jnp.concatenate([vectors[1:], vectors[-1:]]), seeing, key)[1]

    obs = jnp.zeros(world.obs.shape)
    return Brain("expert", policy, Percept(obs, jnp.zeros(0)), run.settings.steer.history, "state", agent.params)


def of_student(run: StudentRun) -> Brain:
    """A student of a run."""
    learnt, config = run.student(), run.settings.student

    def policy(vectors: jax.Array, pictures: jax.Array, key: jax.Array) -> jax.Array:
        return student.act(learnt, Percept(vectors, pictures), jax.random.wrap_key_data(key))

    percept = jax.tree.map(lambda x: x[0], run.dagger().eyes.init(jax.random.key(0)).percepts)
    return Brain(f"student {run.name}", policy, percept, config.history, config.modality, learnt)


def export(run: ExpertRun | StudentRun, folder: Path, also: Sequence[Form] = ()) -> dict[str, Any]:
    """Writes the artefact of a run's expert, or of one of its students; returns its card.

    Args:
      run: whose policy.
      folder: to write.
      also: other forms of it.

    Raises:
      UserError: the run has not come that far, or a form needs a package that is missing.
    """
    for form in also:
        if importlib.util.find_spec(FORMS[form]) is None:
            raise UserError(f"--also {form} needs: pip install 'expertgen-jax[{form}]'")
    expert_run, brain = (run, of_expert(run)) if isinstance(run, ExpertRun) else (run.run, of_student(run))
    env, task, chunk = expert_run.env, expert_run.env.task, expert_run.settings.prior.chunk
    mj = env.model.mj
    world = jax.eval_shape(lambda k: episode.reset(env, k), jax.random.key(0))
    context, structure = jax.tree.flatten(world.context)
    by_state = brain.kind == "state"
    past = env.actions_seen if by_state else 0

    def reset(seed: jax.Array) -> dict[str, Any]:
        start = task.start(jax.random.key(seed), env.parameters)
        names = ("qpos", "ctrl", "mocap_pos", "mocap_quat")
        given = {name: x for name in names if (x := getattr(start, name)) is not None}
        return {**given, "fields": dict(start.fields), "context": jax.tree.leaves(start.context)}

    def sense(state: dict[str, jax.Array], context: list[jax.Array]) -> jax.Array:
        data = SimpleNamespace(**state)
        return task.observed(data, jax.tree.unflatten(structure, context)) if by_state else task.sensed(data)

    def control(state: dict[str, jax.Array], action: jax.Array) -> jax.Array:
        return task.control(SimpleNamespace(**state), action)

    def success(state: dict[str, jax.Array], context: list[jax.Array]) -> jax.Array:
        return task.success(SimpleNamespace(**state), jax.tree.unflatten(structure, context))

    state = {name: jax.ShapeDtypeStruct(getattr(world.data, name).shape, jnp.float32) for name in PORTABLE}
    read = sorted(_read(sense, state, context) | _read(control, state, jnp.zeros(task.action_size)))
    percepts = [jax.ShapeDtypeStruct((brain.history, *x.shape), jnp.float32) for x in brain.percept]
    action = jax.ShapeDtypeStruct((task.action_size,), jnp.float32)
    seed, key = jax.ShapeDtypeStruct((), jnp.uint32), jax.ShapeDtypeStruct((2,), jnp.uint32)
    programs: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
        "reset": (reset, (seed,)),
        "sense": (sense, (state, context)),
        "policy": (brain.policy, (*percepts, key)),
        "control": (control, (state, action)),
        "success": (success, (state, context)),
    }
    if task.update is not None:
        programs["update"] = (functools.partial(_updated, task, structure), (state, context, key))
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("update.jax", *(f"{name}.onnx" for name in ONNX), WEIGHTS):  # of a policy that was here before
        (folder / name).unlink(missing_ok=True)
    digests = {}
    for name, (function, arguments) in programs.items():
        program = jax.export.export(jax.jit(function), platforms=("cpu", "cuda"))(*arguments).serialize()
        digests[name] = hashlib.sha256(program).hexdigest()
        (folder / f"{name}.jax").write_bytes(program)
    write_scene(task.scene(), folder)
    kept: list[str] = []
    if "safetensors" in also:
        kept.append(_write_weights(folder, brain))
    if "onnx" in also:
        seen = {f"context_{i}": x for i, x in enumerate(context)} if by_state else {}
        sensing = _by_field(lambda state, *seen: sense(state, list(seen)), state, seen)
        kept += _write_onnx(folder, brain, percepts, sensing, _by_field(control, state, {"action": action}))
    card = {
        "version": VERSION,
        "task": task.name,
        "policy": brain.name,
        **provenance(),
        "inputs": {
            "history": brain.history,
            "vector": {
                "size": brain.percept.felt.shape[0],
                "entries": _entries(task, world, by_state)
                | ({"past_actions": {"unit": "1", "size": past * task.action_size}} if past else {}),
            },
            "past_actions": past,
            "pictures": {
                "kind": brain.kind,
                "shape": list(brain.percept.seen.shape),
                "unit": UNITS.get(brain.kind, ""),
                "size": run.settings.student.image_size if isinstance(run, StudentRun) else 0,
                "points": run.settings.student.points if isinstance(run, StudentRun) else 0,
                "order": PICTURES.get(brain.kind, ""),
                "workspace": None if (box := task.senses and task.senses.workspace) is None else box._asdict(),
                "cameras": {name: view._asdict() for name, view in task.cameras.items()},
            },
        },
        "state": {
            "shapes": {name: list(x.shape) for name, x in state.items()},
            "read": read,
            "context": [[list(x.shape), x.dtype.name] for x in context],
        },
        "joints": [mj.joint(i).name for i in range(mj.njnt)],
        "actuators": [mj.actuator(i).name for i in range(mj.nu)],
        "limits": {"largest_step": largest_step(env)},
        "measured": _measured(run),
        "output": {"shape": [chunk, task.action_size], "range": [-1, 1]},
        "control_dt": task.control_dt,
        "decision_dt": task.control_dt * chunk,
        "substeps": env.nstep,
        "horizon": task.horizon,
        "hold": task.hold,
        "sha256": digests,
        "also": kept,
    }
    write_json(folder / "card.json", card)
    (folder / "README.md").write_text(page(card))
    return card


def _write_weights(folder: Path, brain: Brain) -> str:
    """Writes the weights, each under its name, and returns the file's."""
    from safetensors.numpy import save_file

    leaves, _ = jax.tree_util.tree_flatten_with_path(brain.weights)
    named = {jax.tree_util.keystr(path, simple=True, separator="."): np.asarray(x) for path, x in leaves}
    with atomic(folder / WEIGHTS) as temporary:
        save_file(named, temporary, metadata={"policy": brain.name})
    return WEIGHTS


def _write_onnx(
    folder: Path, brain: Brain, percepts: Sequence[Any], sense: OnnxProgram, control: OnnxProgram
) -> list[str]:
    """Writes `policy`, `sense` and `control` as far as ONNX has their operators; returns the names of the files."""
    written, programs = [], (policy_of_arrays(brain, percepts), sense, control)
    for name, (function, arguments), output in zip(ONNX, programs, ("actions", "vector", "commands"), strict=True):
        if why := onnx.write(folder / f"{name}.onnx", function, arguments, output):
            print(f"warning: no {name}.onnx: {why}", file=sys.stderr)
        else:
            written.append(f"{name}.onnx")
    return written


def policy_of_arrays(brain: Brain, percepts: Sequence[Any]) -> OnnxProgram:
    """A policy, with percepts of these shapes, without what it does not use: a key, and pictures where it sees none."""
    vectors, pictures = percepts

    def policy(vectors: jax.Array, *seen: jax.Array) -> jax.Array:
        return brain.policy(vectors, seen[0] if seen else jnp.zeros(pictures.shape), jnp.zeros(2, jnp.uint32))

    return policy, {"vectors": vectors} | ({} if brain.kind == "state" else {"pictures": pictures})


def _by_field(function: Callable[..., jax.Array], state: Mapping[str, Any], others: Mapping[str, Any]) -> OnnxProgram:
    """A program of a state and other things, given those fields of the state that it reads one by one."""
    fields = {name: state[name] for name in sorted(_read(function, dict(state), *others.values()))}

    def call(*args: jax.Array) -> jax.Array:
        return function(dict(zip(fields, args, strict=False)), *args[len(fields) :])

    return call, {**fields, **others}


def largest_step(env: Env, worlds: int = 64) -> list[float]:
    """How far a command of each actuator may move in a control step: half as far again as it did under random actions,
    bolder than any policy's, that lead each world another way."""

    def play(key: jax.Array) -> jax.Array:
        world, shape = episode.reset(env, key), (1, env.task.action_size)
        way = jax.random.uniform(jax.random.fold_in(key, 1), shape, minval=-1.0)

        def step(world: World, key: jax.Array) -> tuple[World, jax.Array]:
            action = jnp.sign(way + jax.random.normal(key, shape))
            after, _ = episode.advance(env, world, action)
            return after, jnp.abs(after.data.ctrl - world.data.ctrl)

        return jax.lax.scan(step, world, jax.random.split(key, 32))[1].max(0)

    steps = jax.jit(jax.vmap(play))(jax.random.split(jax.random.key(0), worlds)).max(0)
    return [round(1.5 * float(x), 6) for x in steps]


def _read(function: Callable[..., Any], state: dict[str, Any], *args: Any) -> set[str]:
    """Names of the fields of a state that a function reads."""

    found: set[str] = set()
    for name in state:
        try:
            jax.eval_shape(function, {key: x for key, x in state.items() if key != name}, *args)
        except AttributeError:  # it asked for what is not there
            found.add(name)
    return found


def _measured(run: ExpertRun | StudentRun) -> dict[str, Any]:
    """What evaluations of the policy have found, by what was played."""
    name = "expert" if isinstance(run, ExpertRun) else run.name
    found = run.directory.read_json("evaluations.json") or {}
    kept = ("success", "ci95", "episodes", "physics")
    own = {label: x for label, x in found.items() if x["policy"].startswith(name) and "success" in x}
    return {label: {k: x[k] for k in kept} for label, x in own.items()}


def write_scene(spec: mujoco.MjSpec, folder: Path) -> None:
    """Writes `scene.xml`, with its meshes and pictures beside it in `assets`."""
    assets = folder.resolve() / "assets"
    for kind, files in (("meshdir", (*spec.meshes, *spec.hfields)), ("texturedir", spec.textures)):
        for number, asset in enumerate(files):
            if asset.file:
                source = Path(spec.modelfiledir) / getattr(spec, kind) / asset.file
                content = spec.assets[asset.file] if asset.file in spec.assets else source.read_bytes()
                assets.mkdir(exist_ok=True)
                asset.file = f"{kind}_{number}_{source.name}"  # files of one name may lie in several folders
                (assets / asset.file).write_bytes(content)
        setattr(spec, kind, str(assets))
    spec.compile()
    (folder / "scene.xml").write_text(spec.to_xml().replace(str(assets), "assets"))


def _updated(
    task: Task, structure: Any, state: dict[str, jax.Array], context: list[jax.Array], key: jax.Array
) -> list[jax.Array]:
    assert task.update is not None
    old: Any = jax.tree.unflatten(structure, context)
    return jax.tree.leaves(task.update(SimpleNamespace(**state), old, jax.random.wrap_key_data(key)))


def _entries(task: Task, world: World, by_state: bool) -> dict[str, Any]:
    """Name, unit and size of each part of the vector, in order."""
    if by_state:
        units, parts = task.observation, jax.eval_shape(task.observe, world.data, world.context)
    else:
        assert task.senses is not None
        units, parts = task.senses.proprioception, jax.eval_shape(task.senses.sense, world.data)
    sizes = {name: math.prod(parts[name].shape) for name in units}
    return {name: {"unit": units[name], "size": size} for name, size in sizes.items() if size}
