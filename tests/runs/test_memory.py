import jax
import jax.numpy as jnp
import pytest

from expertgen_jax.errors import UserError
from expertgen_jax.runs import memory


def test_what_fits_passes():
    shapes = jax.eval_shape(lambda key: (key, jnp.zeros(1000)), jax.random.key(0))
    memory.check(shapes, "")
    assert 1e6 < memory.available() < 1e15


def test_what_does_not_is_said_with_the_remedy():
    with pytest.raises(UserError, match=r"needs 4000000\.0 GB of memory, and .* GB are free: take less"):
        memory.check({"buffer": jax.ShapeDtypeStruct((10**9, 10**6), jnp.float32)}, "take less")
