"""Commands in this process: starting another takes five seconds, of which none tests anything."""

import contextlib
import io
import signal
import warnings

import pytest

from expertgen_jax.cli.main import main
from expertgen_jax.runs import recording


def call(name: str, *args: str) -> tuple[int, str, str]:
    """Runs `expertgen NAME ARGS`, with small videos; returns its exit code, and what it writes to stdout and stderr."""
    out, err = io.StringIO(), io.StringIO()
    before, code = signal.getsignal(signal.SIGINT), 0
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.MonkeyPatch.context() as patch,
    ):
        warnings.simplefilter("default")
        patch.setattr(recording, "HEIGHT", 48)
        try:
            main([name, *args])
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        finally:
            signal.signal(signal.SIGINT, before)
    return code, out.getvalue(), err.getvalue()
