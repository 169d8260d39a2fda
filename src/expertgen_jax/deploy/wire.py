"""The protocol between a policy's process and a robot's: requests and answers over a stream of bytes.

A message is one line of JSON, an object with `op`, whose entry `arrays` gives names and shapes of the arrays that
follow it as float32, little endian, one after another. Requests and their answers:

=======  =========================================  ========================================================
request  with                                       answer
=======  =========================================  ========================================================
`start`  `seed`: of the episode                     `ok`, once the episode has begun
`read`                                              `state`, arrays by MuJoCo's names and `context.0`, ...;
                                                    `done`: the task is finished; `stopped`: why it stands still
`look`                                              `pictures`, the array `pictures`
`send`   array `target`: `[nu]`                     `ok`
`stop`                                              `ok`; the robot holds its place until the next `start`
=======  =========================================  ========================================================

An answer `error` has `message`. Who sends nothing for longer than the robot's heartbeat finds it stopped.
"""

import json
from collections.abc import Mapping
from io import BufferedIOBase
from typing import Any

import numpy as np

LONGEST = 1 << 16
"""Bytes of a line at most."""
LARGEST = 1 << 26
"""Numbers of a message at most."""


def send(stream: BufferedIOBase, op: str, arrays: Mapping[str, Any] | None = None, **values: Any) -> None:
    """Writes a message."""
    flat = {name: np.asarray(x, "<f4") for name, x in (arrays or {}).items()}
    line = {"op": op, **values, "arrays": {name: x.shape for name, x in flat.items()}}
    stream.write(json.dumps(line).encode() + b"\n" + b"".join(x.tobytes() for x in flat.values()))
    stream.flush()


def receive(stream: BufferedIOBase) -> tuple[str, dict[str, Any], dict[str, np.ndarray]]:
    """Reads a message: its `op`, the other entries, and the arrays.

    Raises:
      EOFError: the other side has hung up.
      ValueError: what came is no message.
    """
    line = stream.readline(LONGEST)
    if not line:
        raise EOFError("the connection was closed")
    try:
        values = json.loads(line)
        op, shapes = str(values.pop("op")), dict(values.pop("arrays"))
        sizes = {name: [int(n) for n in shape] for name, shape in shapes.items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"no message: {line[:40]!r}") from error
    if any(n < 0 for shape in sizes.values() for n in shape) or sum(map(_count, sizes.values())) > LARGEST:
        raise ValueError(f"no message: arrays of shapes {sizes}")
    arrays = {}
    for name, shape in sizes.items():
        content = stream.read(4 * _count(shape))
        if len(content) < 4 * _count(shape):
            raise EOFError("the connection was closed inside a message")
        arrays[name] = np.frombuffer(content, "<f4").reshape(shape)
    return op, values, arrays


def _count(shape: list[int]) -> int:
    return int(np.prod(shape, dtype=object))
