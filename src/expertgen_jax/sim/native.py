"""MuJoCo's C engine inside a jitted program: `mujoco.batch.Batch` as a custom call of XLA on CPUs.

A custom call and not `jax.pure_callback`, because programs with callbacks are barred from JAX's compilation cache, and
because a callback copies every operand. Here XLA calls a Python function by XLA's foreign function interface (the C
structures of `xla/ffi/api/c_api.h`, in `jax.ffi.include_dir()`), which steps all worlds on all cores and reads and
writes XLA's own memory. The program knows its model by a digest, so that a cached one finds it again. A program on
another device, a GPU say, calls the same function by `jax.pure_callback`.
"""

import ctypes
import functools
import hashlib
import math
import threading
from collections.abc import Mapping, Sequence
from ctypes import POINTER, c_char_p, c_int, c_int64, c_size_t, c_void_p
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from flax import struct
from jaxtyping import Array, ArrayLike, Float, Float32
from mujoco import batch as mujoco_batch

STATE = ("time", "qpos", "qvel", "act", "qacc_warmstart", "ctrl", "mocap_pos", "mocap_quat")
DERIVED = ("xpos", "xquat", "xmat", "site_xpos", "site_xmat", "sensordata")


class Data(struct.PyTreeNode):
    """State of one world: the portable fields of `mjx.Data`, with its names and shapes."""

    time: Float[Array, "*batch"]
    qpos: Float[Array, "*batch nq"]
    qvel: Float[Array, "*batch nv"]
    act: Float[Array, "*batch na"]
    qacc_warmstart: Float[Array, "*batch nv"]
    ctrl: Float[Array, "*batch nu"]
    mocap_pos: Float[Array, "*batch nmocap 3"]
    mocap_quat: Float[Array, "*batch nmocap 4"]
    xpos: Float[Array, "*batch nbody 3"]
    xquat: Float[Array, "*batch nbody 4"]
    xmat: Float[Array, "*batch nbody 3 3"]
    site_xpos: Float[Array, "*batch nsite 3"]
    site_xmat: Float[Array, "*batch nsite 3 3"]
    sensordata: Float[Array, "*batch nsensordata"]


@functools.lru_cache(maxsize=64)
def shapes(mj: mujoco.MjModel) -> dict[str, tuple[int, ...]]:
    """Shapes of the fields of `Data`; rotation matrices are `[n, 3, 3]` as in MJX, where `MjData` has `[n, 9]`."""
    data = mujoco.MjData(mj)
    shapes = {name: np.shape(getattr(data, name)) for name in (*STATE, *DERIVED)}
    return shapes | {name: (len(getattr(data, name)), 3, 3) for name in ("xmat", "site_xmat")}


def call(mj: mujoco.MjModel, fields: Mapping[str, Float[ArrayLike, "..."]], data: Any, nstep: int) -> Data:
    """Advances a world by `nstep` substeps; with 0 it computes what derives from the state.

    Args:
      mj: the model.
      fields: model fields of this world, of the compiled fields' shapes.
      data: has the fields of `Data` named in `STATE`; read as float32, computed in float64.
      nstep: substeps.
    """
    names = tuple(sorted(fields))
    if {"geom_pos", "geom_quat"} & fields.keys():  # by the compiler's shortcut a geom stays where its body is
        mj.geom_sameframe[:] = mujoco.mjtSameFrame.mjSAMEFRAME_NONE
    program = _Program(mj, names, nstep)
    operands = [getattr(data, name) for name in STATE] + [fields[name] for name in names]
    operands = [jnp.asarray(x, jnp.float32) for x in operands]
    results = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes(mj).values()]
    number = _number(program)
    _register()

    # `vmap` gives all operands the same leading axes, so that the engine sees every world at once, as one batch.
    def on_cpu(*operands: Float32[Array, "..."]) -> Sequence[Float32[Array, "..."]]:
        call = jax.ffi.ffi_call(_TARGET, results, vmap_method="broadcast_all")
        out: Sequence[Array] = call(*operands, program=np.int64(number))
        return out

    def elsewhere(*operands: Float32[Array, "..."]) -> Sequence[Float32[Array, "..."]]:
        copies = functools.partial(_by_copies, number)
        out: Sequence[Array] = jax.pure_callback(copies, results, *operands, vmap_method="broadcast_all")
        return out

    out = jax.lax.platform_dependent(*operands, cpu=on_cpu, default=elsewhere)
    return Data(**dict(zip(shapes(mj), out, strict=True)))


class _Program(NamedTuple):
    mj: mujoco.MjModel
    fields: tuple[str, ...]
    nstep: int


_programs: dict[int, _Program] = {}


@functools.lru_cache(maxsize=256)
def _number(program: _Program) -> int:
    """A number that stands for the program in compiled code, the same in every process."""
    model = np.empty(mujoco.mj_sizeModel(program.mj), np.uint8)
    mujoco.mj_saveModel(program.mj, None, model)
    text = f"{mujoco.mj_versionString()} {program.fields} {program.nstep}"
    digest = hashlib.sha256(model.tobytes() + text.encode()).digest()
    number = int.from_bytes(digest[:7], "little")
    _programs[number] = program
    return number


class _Worlds:
    """A `Batch` with its live views; one caller at a time."""

    def __init__(self, mj: mujoco.MjModel, fields: tuple[str, ...], count: int):
        self.batch = mujoco_batch.Batch(mj, count)
        self.inputs = [self.batch.bind(name) for name in STATE] + [self.batch.expand(name) for name in fields]
        self.outputs = [self.batch.bind(name) for name in shapes(mj)]
        # Without sensors, what is reported derives from the positions.
        self.stage = (mujoco.mjtStage.mjSTAGE_ACC if mj.nsensor else mujoco.mjtStage.mjSTAGE_POS).value
        self.lock = threading.Lock()

    def advance(
        self, operands: list[Float32[np.ndarray, "..."]], results: list[Float32[np.ndarray, "..."]], nstep: int
    ) -> None:
        with self.lock:
            for view, operand in zip(self.inputs, operands, strict=True):
                view[...] = operand.reshape(view.shape)
            if nstep:
                self.batch.step(nstep=nstep)
            else:
                self.batch.forward(stage=self.stage)
            for view, result in zip(self.outputs, results, strict=True):
                result.reshape(view.shape)[...] = view


def _run(number: int, operands: list[Float32[np.ndarray, "..."]], results: list[Float32[np.ndarray, "..."]]) -> None:
    """Runs a program on all worlds of `operands`, into `results`."""
    mj, fields, nstep = _programs[number]
    count = math.prod(operands[STATE.index("time")].shape)
    _worlds(mj, fields, count).advance(operands, results, nstep)


def _by_copies(number: int, *operands: ArrayLike) -> list[Float32[np.ndarray, "..."]]:
    arrays = [np.asarray(x) for x in operands]
    worlds = arrays[STATE.index("time")].shape
    results = [np.empty(worlds + shape, np.float32) for shape in shapes(_programs[number].mj).values()]
    _run(number, arrays, results)
    return results


@functools.lru_cache(maxsize=16)
def _worlds(mj: mujoco.MjModel, fields: tuple[str, ...], count: int) -> _Worlds:
    return _Worlds(mj, fields, count)


# --- XLA's foreign function interface ---------------------------------------------------------------------------

# A program that runs on while Python exits would call a function that is gone.
jax.config.update("jax_cpu_enable_async_dispatch", False)

_TARGET = "expertgen_jax.native"
_METADATA, _EXECUTE = 1, 3


class _Extension(ctypes.Structure):
    _fields_ = (("struct_size", c_size_t), ("type", c_int), ("next", c_void_p))


class _Version(ctypes.Structure):
    _fields_ = (("struct_size", c_size_t), ("extension", c_void_p), ("major", c_int), ("minor", c_int))


class _Metadata(ctypes.Structure):
    _fields_ = (("struct_size", c_size_t), ("version", _Version))


class _MetadataExtension(ctypes.Structure):
    _fields_ = (("base", _Extension), ("metadata", POINTER(_Metadata)))


class _Error(ctypes.Structure):
    _fields_ = (("struct_size", c_size_t), ("extension", c_void_p), ("message", c_char_p), ("code", c_int))


class _Api(ctypes.Structure):
    _fields_ = (
        *(("struct_size", c_size_t), ("extension", c_void_p), ("version", _Version), ("internal", c_void_p)),
        ("create_error", ctypes.CFUNCTYPE(c_void_p, POINTER(_Error))),
    )


class _Buffer(ctypes.Structure):
    _fields_ = (
        *(("struct_size", c_size_t), ("extension", c_void_p), ("dtype", c_int), ("data", c_void_p)),
        *(("rank", c_int64), ("dims", POINTER(c_int64))),
    )

    def array(self) -> Float32[np.ndarray, "..."]:
        """XLA's memory as float32."""
        shape = self.dims[: self.rank]
        size = math.prod(shape)
        if not size:
            return np.empty(shape, np.float32)
        return np.frombuffer((ctypes.c_float * size).from_address(self.data), np.float32).reshape(shape)


class _Buffers(ctypes.Structure):
    _fields_ = (
        *(("struct_size", c_size_t), ("extension", c_void_p), ("size", c_int64), ("types", c_void_p)),
        ("buffers", POINTER(POINTER(_Buffer))),
    )

    def arrays(self) -> list[Float32[np.ndarray, "..."]]:
        return [self.buffers[i].contents.array() for i in range(self.size)]


class _Scalar(ctypes.Structure):
    _fields_ = (("dtype", c_int), ("value", POINTER(c_int64)))


class _Attributes(ctypes.Structure):
    _fields_ = (
        *(("struct_size", c_size_t), ("extension", c_void_p), ("size", c_int64), ("types", c_void_p)),
        *(("names", c_void_p), ("values", POINTER(POINTER(_Scalar)))),
    )


class _CallFrame(ctypes.Structure):
    _fields_ = (
        *(("struct_size", c_size_t), ("extension", POINTER(_MetadataExtension)), ("api", POINTER(_Api))),
        *(("context", c_void_p), ("stage", c_int), ("operands", _Buffers), ("results", _Buffers)),
        ("attributes", _Attributes),
    )


@ctypes.CFUNCTYPE(c_void_p, POINTER(_CallFrame))
def _handler(pointer: Any) -> int | None:
    """Answers XLA: what interface this is, or a call. Returns an error or None."""
    frame = pointer.contents
    try:
        if frame.extension and frame.extension.contents.base.type == _METADATA:
            # These structures are of major version 0; minor ones only append to them.
            metadata, version = frame.extension.contents.metadata.contents, frame.api.contents.version
            metadata.version.major, metadata.version.minor = 0, version.minor
        elif frame.stage == _EXECUTE:
            number = frame.attributes.values[0].contents.value[0]
            _run(number, frame.operands.arrays(), frame.results.arrays())
    except BaseException as error:  # nothing may pass through C, not even an interrupt
        message = f"{type(error).__name__}: {error}".encode()
        args = _Error(ctypes.sizeof(_Error), None, message, 13)  # INTERNAL
        return frame.api.contents.create_error(ctypes.byref(args))
    return None


@functools.lru_cache(maxsize=1)
def _register() -> None:
    jax.ffi.register_ffi_target(_TARGET, jax.ffi.pycapsule(_handler), platform="cpu")
