"""A robot behind a socket, such as the simulated one; see `wire` for what is said."""

import contextlib
import socket
import threading
from typing import Any

import numpy as np

from expertgen_jax.deploy import wire


class Client:
    """A robot in another process, as `loop.Robot`. Pictures come over a connection of their own."""

    def __init__(self, port: int, host: str = "127.0.0.1"):
        """Connects; raises OSError where nobody listens."""
        self._sockets = [socket.create_connection((host, port), timeout=10.0) for _ in range(2)]
        self._streams = [one.makefile("rwb") for one in self._sockets]
        self._locks = [threading.Lock(), threading.Lock()]

    def start(self, seed: int) -> None:
        """Begins the episode of a seed."""
        self._ask("start", seed=seed)

    def read(self) -> dict[str, Any]:
        """See `loop.Robot`, as for the rest."""
        values, arrays = self._ask("read")
        numbers = sorted((name for name in arrays if name.startswith("context.")), key=lambda name: int(name[8:]))
        context = [arrays.pop(name) for name in numbers]
        return {**arrays, "context": context, "done": values.get("done"), "stopped": values.get("stopped")}

    def look(self) -> np.ndarray:
        return self._ask("look", connection=1)[1]["pictures"]

    def send(self, target: np.ndarray) -> None:
        self._ask("send", {"target": target})

    def stop(self) -> None:
        self._ask("stop", connection=1)

    def close(self) -> None:
        """Hangs up."""
        for stream, one in zip(self._streams, self._sockets, strict=True):
            with contextlib.suppress(OSError):  # what was not sent any more
                stream.close()
            one.close()

    def _ask(
        self, op: str, arrays: dict[str, Any] | None = None, connection: int = 0, **values: Any
    ) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        with self._locks[connection]:
            stream = self._streams[connection]
            wire.send(stream, op, arrays, **values)
            answer, said, told = wire.receive(stream)
        if answer == "error":
            raise ValueError(said.get("message", "an error"))
        return said, told
