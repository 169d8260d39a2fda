"""Messages come as they were sent, and what is no message is said to be none."""

import io

import numpy as np
import pytest

from expertgen_jax.deploy import wire


def test_messages_come_as_they_were_sent():
    stream = io.BytesIO()
    arrays = {"qpos": np.arange(3.0), "xmat": np.ones((2, 3, 3)), "time": np.float32(0.5), "none": np.zeros((0, 3))}
    wire.send(stream, "state", arrays, done=True, stopped="why")
    wire.send(stream, "ok")
    stream.seek(0)
    op, values, got = wire.receive(stream)
    assert (op, values) == ("state", {"done": True, "stopped": "why"})
    for name, x in arrays.items():
        np.testing.assert_array_equal(got[name], np.asarray(x, np.float32))
        assert got[name].shape == np.shape(x)
    assert wire.receive(stream) == ("ok", {}, {})
    with pytest.raises(EOFError, match="closed"):
        wire.receive(stream)


@pytest.mark.parametrize(
    "content",
    [
        b"\n",
        b"hello\n",
        b"\xff\xfe\x00\n",
        b"5\n",
        b"[]\n",
        b"{}\n",
        b'{"op": "ok"}\n',
        b'{"op": "ok", "arrays": 3}\n',
        b'{"op": "ok", "arrays": {"x": 3}}\n',
        b'{"op": "ok", "arrays": {"x": ["a"]}}\n',
        b'{"op": "ok", "arrays": {"x": [-1]}}\n',
        b'{"op": "ok", "arrays": {"x": [100000, 100000, 100000, 100000, 100000]}}\n',
        b"x" * (wire.LONGEST + 1),
    ],
)
def test_what_is_no_message_is_said_to_be_none(content):
    with pytest.raises(ValueError, match="no message"):
        wire.receive(io.BytesIO(content))


def test_a_message_that_breaks_off_is_an_end():
    stream = io.BytesIO(b'{"op": "ok", "arrays": {"x": [3]}}\n\x00\x00\x00\x00')
    with pytest.raises(EOFError, match="inside a message"):
        wire.receive(stream)
