"""MuJoCo on three back ends behind one pure `step`.

=========  ==================================================  ===========================
back end   engine                                              runs on
=========  ==================================================  ===========================
`mjx`      MJX-JAX, the reference (float32)                    any XLA device
`warp`     MJX-Warp (`pip install 'expertgen-jax[warp]'`)      NVIDIA GPUs, and CPUs
                                                               for tests
`native`   MuJoCo's C engine on all cores, called from inside  CPU; from a program on
           the jitted program (float64 within a call)          another device by copies
=========  ==================================================  ===========================

`init` and `step` are unbatched and compose with `jit`, `vmap` and `scan` on every back end. As with `mj_step`,
derived fields (`xpos`, `site_xpos`, `sensordata`, ...) describe the state before the last substep.
"""

import contextlib
import importlib.util
import io
from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from flax import struct
from jaxtyping import Array, ArrayLike, Bool, Float, Float32
from mujoco import batch as mujoco_batch

from expertgen_jax.errors import UserError
from expertgen_jax.sim import native

with contextlib.redirect_stdout(io.StringIO()):  # it prints that Warp is absent, which is nothing to worry about
    from mujoco import mjx

Backend = Literal["mjx", "warp", "native"]
BACKENDS = ("auto", "mjx", "warp", "native")

MAX_SPEED = 100.0
"""A joint faster than this (m/s or rad/s) has left physics: the world counts as diverged."""

_LONGEST_CHAIN = 4  # of bodies, that XLA compiles well
_WARP_CONTACTS_PER_WORLD = 48
_UNKNOWN_TO_WARP = mujoco.mjtDisableBit.mjDSBL_AUTORESET.value | mujoco.mjtDisableBit.mjDSBL_MIDPHASE.value


class Model(struct.PyTreeNode):
    """A compiled MuJoCo model on a back end.

    Attributes:
      fields: model fields that replace the compiled ones, by MuJoCo's names (`geom_friction`, `body_mass`,
        `actuator_gainprm`, ...), each of the compiled field's shape. Under `vmap` they can differ from world to
        world. Constants that the compiler derives from them (`dof_invweight0`, `geom_rbound`, ...) keep their
        compiled values unless they are given here too, as `variants` does. What MJX has no use for (`bvh_aabb`) is
        left out there.
      device: the `mjx.Model`; None on `native`.
      mj: the compiled model on the host.
      backend: which engine steps it.
      max_worlds: `warp` only: contact memory is allocated for this many worlds.
    """

    fields: dict[str, Float[Array, "..."]]
    device: mjx.Model | None
    mj: mujoco.MjModel = struct.field(pytree_node=False)
    backend: Backend = struct.field(pytree_node=False)
    max_worlds: int = struct.field(pytree_node=False, default=4096)

    @property
    def timestep(self) -> float:
        """Length of a substep (s)."""
        return float(self.mj.opt.timestep)


def resolve(backend: str) -> Backend:
    """The back end that `backend` means on this machine; `auto` is `mjx` on an accelerator and else `native`.

    Raises:
      UserError: an unknown name, or a back end that this machine cannot run.
    """
    accelerator = jax.default_backend() != "cpu"
    if backend == "auto":
        return "mjx" if accelerator else "native"
    if backend == "warp":
        if importlib.util.find_spec("warp") is None:
            raise UserError("--physics warp needs the Warp package: pip install 'expertgen-jax[warp]'")
        if jax.default_backend() not in ("gpu", "cuda", "cpu"):
            raise UserError(
                f"--physics warp needs an NVIDIA GPU, and JAX runs on {jax.default_backend()}: use --physics auto"
            )
        return "warp"
    if backend not in BACKENDS:
        raise UserError(f"--physics {backend} is unknown: choose one of {', '.join(BACKENDS)}")
    return cast(Backend, backend)


def load(mj: mujoco.MjModel, backend: str = "auto", max_worlds: int = 4096) -> Model:
    """Puts a compiled model on a back end; see `resolve` for the errors.

    It turns MuJoCo's automatic reset off, because a world that diverges must show and not start again, and its log
    (`MUJOCO_LOG.TXT`), because divergence is counted here and not news.
    """
    backend = resolve(backend)
    log = mujoco.MjLogConfig.get()
    log.logto_file = log.logto_console = False
    mujoco.MjLogConfig.set(log)
    mj.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_AUTORESET.value
    device = None
    if backend == "mjx":
        device = mjx.put_model(mj)
    elif backend == "warp":
        device = _put_on_warp(mj)
    return Model(fields={}, device=device, mj=mj, backend=backend, max_worlds=max_worlds)


def _put_on_warp(mj: mujoco.MjModel) -> mjx.Model:
    import warp
    from mujoco.mjx.third_party.mujoco_warp import OverflowType
    from mujoco.mjx.warp.types import GraphMode

    warp.config.log_level = warp.LOG_WARNING
    mj.opt.disableflags &= ~_UNKNOWN_TO_WARP
    mode = GraphMode.NONE if jax.default_backend() == "cpu" else GraphMode.WARP_STAGED
    device = mjx.put_model(mj, impl="warp", graph_mode=mode)
    # A scene that bounds the solver's iterations means it; the other engines are silent about that too.
    warned = OverflowType.ALL & ~(OverflowType.ITERATIONS | OverflowType.LS_ITERATIONS)
    return device.replace(opt=device.opt.replace(_impl=device.opt._impl.replace(warn_overflow=int(warned))))


def variants(models: Sequence[mujoco.MjModel]) -> dict[str, Float32[np.ndarray, "models ..."]]:
    """The fields in which compiled models of one structure differ, `{name: [models, ...]}`.

    A row of them turns any of the models into another; see `Model.fields`.

    Raises:
      ValueError: the models differ in more than numbers.
    """
    fields = {}
    for name in sorted(mujoco_batch.MODEL_FIELDS):
        values = [np.asarray(getattr(mj, name)) for mj in models if hasattr(mj, name)]
        if not values or all(np.array_equal(value, values[0]) for value in values):
            continue
        if values[0].dtype.kind != "f" or any(value.shape != values[0].shape for value in values):
            raise ValueError(f"the models differ in {name}, which is not an array of numbers")
        fields[name] = np.stack(values).astype(np.float32)
    return fields


def with_fields(model: Model, fields: Mapping[str, Float[ArrayLike, "..."]]) -> Model:
    """The model with `fields` replaced; see `Model.fields`."""
    return model.replace(fields={**model.fields, **fields})


def init(
    model: Model,
    qpos: Float[ArrayLike, "nq"],
    qvel: Float[ArrayLike, "nv"] | None = None,
    ctrl: Float[ArrayLike, "nu"] | None = None,
    mocap_pos: Float[ArrayLike, "nmocap 3"] | None = None,
    mocap_quat: Float[ArrayLike, "nmocap 4"] | None = None,
) -> Any:
    """A world at rest in the given state, derived fields computed.

    Args:
      model: the model.
      qpos: `[nq]`; qvel: `[nv]`, zero by default; ctrl: `[nu]`, zero by default.
      mocap_pos: `[nmocap, 3]`; mocap_quat: `[nmocap, 4]`; the compiled poses by default.

    Returns:
      An `mjx.Data` (`mjx`, `warp`) or a `native.Data`.
    """
    mj = model.mj
    mocap = mj.body_mocapid >= 0
    state = dict(
        qpos=_float(qpos),
        qvel=jnp.zeros(mj.nv) if qvel is None else _float(qvel),
        ctrl=jnp.zeros(mj.nu) if ctrl is None else _float(ctrl),
        mocap_pos=_float(mj.body_pos[mocap] if mocap_pos is None else mocap_pos),
        mocap_quat=_float(mj.body_quat[mocap] if mocap_quat is None else mocap_quat),
    )
    if model.backend == "native":
        rest = {name: jnp.zeros(shape) for name, shape in native.shapes(mj).items() if name not in state}
        return native.call(mj, model.fields, native.Data(**state, **rest), nstep=0)
    with jax.default_matmul_precision("highest"):
        if model.backend == "warp":
            contacts = _WARP_CONTACTS_PER_WORLD
            data = mjx.make_data(mj, impl="warp", naconmax=contacts * model.max_worlds, njmax=6 * contacts)
        else:
            data = mjx.make_data(model.device)
        # Without sensors, kinematics is all that a first observation needs; the rest takes 10 s more to compile.
        forward = mjx.forward if mj.nsensor or model.backend == "warp" else mjx.kinematics
        data = data.replace(**state)
        return forward(_mjx_model(model, data), data)


def step(model: Model, data: Any, ctrl: Float[ArrayLike, "nu"], nstep: int) -> Any:
    """Advances one world by `nstep` substeps under constant controls `ctrl: [nu]`."""
    data = data.replace(ctrl=_float(ctrl))
    if model.backend == "native":
        return native.call(model.mj, model.fields, data, nstep)
    device = _mjx_model(model, data)
    with jax.default_matmul_precision("highest"):
        return jax.lax.fori_loop(0, nstep, lambda _, d: mjx.step(device, d), data)


def where(condition: Bool[Array, ""], new: Any, old: Any) -> Any:
    """`new` where `condition` (scalar bool), else `old`: a masked reset that works on every back end."""
    if isinstance(old, mjx.Data):
        return old.where(condition, new)
    return jax.tree.map(lambda n, o: jnp.where(condition, n, o), new, old)


def diverged(data: Any) -> Bool[Array, ""]:
    """Scalar bool: state or controls are not finite, or a joint is faster than `MAX_SPEED`."""
    finite = jnp.isfinite(data.qpos).all() & jnp.isfinite(data.qvel).all() & jnp.isfinite(data.ctrl).all()
    return ~(finite & (jnp.abs(data.qvel) < MAX_SPEED).all())


def compiler_options(model: Model) -> dict[str, str | bool]:
    """What a program that steps this model must be compiled with.

    On a CPU XLA's fusion emitters compute a chain of bodies on MJX anew for each body of it: an arm of seven joints
    takes 300 times as long with them (jax issue 33761). JAX 0.12 needs no such option, and does not take it.
    """
    depth = np.zeros(model.mj.nbody, int)
    for body in range(1, model.mj.nbody):
        depth[body] = depth[model.mj.body_parentid[body]] + 1
    slow = model.backend == "mjx" and depth.max() > _LONGEST_CHAIN and jax.default_backend() == "cpu"
    return {"xla_cpu_use_fusion_emitters": False} if slow and jax.__version_info__ < (0, 12) else {}


def _float(x: Any) -> Float32[Array, "..."]:
    return jnp.asarray(x, jnp.float32)


def _mjx_model(model: Model, data: Any) -> mjx.Model:
    device, mj = model.device, model.mj
    assert device is not None
    compiled = {name: getattr(device, name, None) for name in model.fields}
    # Warp has some fields in other shapes: `geom_aabb` is [ngeom, 2, 3] there, else [ngeom, 6].
    fields = {name: model.fields[name].reshape(x.shape) for name, x in compiled.items() if isinstance(x, jax.Array)}
    if model.backend == "mjx" and (mj.body_mocapid[mj.body_parentid] >= 0).any():
        # MJX places the children of mocap bodies first, as if these were where they were compiled.
        mocap = mj.body_mocapid >= 0
        pos, quat = fields.get("body_pos", device.body_pos), fields.get("body_quat", device.body_quat)
        unit = data.mocap_quat / jnp.linalg.norm(data.mocap_quat, axis=-1, keepdims=True)
        fields["body_pos"], fields["body_quat"] = pos.at[mocap].set(data.mocap_pos), quat.at[mocap].set(unit)
    return device.tree_replace(fields) if fields else device
