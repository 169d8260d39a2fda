"""Programs as ONNX, for C++, ROS and whatever else does not speak JAX."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.extend.core import jaxpr_as_fun

from expertgen_jax.errors import one_line
from expertgen_jax.files import atomic

CLOSE = 1e-4
"""How far ONNX may be from JAX on a random input, relative to the largest number."""


def write(path: Path, function: Callable[..., jax.Array], inputs: Mapping[str, Any], output: str) -> str:
    """Writes a program, after trying it against JAX with onnxruntime.

    It is traced before jax2onnx sees it, which else replaces functions of JAX and Flax by ones of its own that do not
    know every case.

    Args:
      path: the `.onnx` file.
      function: of arrays.
      inputs: shapes and dtypes of its arguments, by the names that they get.
      output: the name of what it returns.

    Returns:
      Why it could not be written; "" where it was.
    """
    import jax2onnx
    import onnxruntime

    closed = jax.make_jaxpr(function)(*inputs.values())
    rng = np.random.default_rng(0)
    tried = {name: rng.uniform(0.1, 0.9, x.shape).astype(x.dtype) for name, x in inputs.items()}
    onnxruntime.set_default_logger_severity(3)  # it warns of constants that it leaves out
    try:
        model = jax2onnx.to_onnx(
            lambda *args: jaxpr_as_fun(closed)(*args)[0],
            list(inputs.values()),
            input_names=list(inputs),
            output_names=[output],
        ).SerializeToString()
        session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        kept = {x.name for x in session.get_inputs()}
        (there,) = session.run([output], {name: x for name, x in tried.items() if name in kept})
    except Exception as error:  # each operator that jax2onnx or onnxruntime lacks fails in its own way
        return one_line(error)
    here = np.asarray(jax.jit(function)(*tried.values()))
    if not np.allclose(there, here, atol=CLOSE * max(1.0, np.abs(here).max())):
        return f"it would be {np.abs(there - here).max():.2g} off"
    with atomic(path) as temporary:
        temporary.write_bytes(model)
    return ""
