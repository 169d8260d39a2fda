"""Programs as ONNX do what they do in JAX. Runs where jax2onnx is installed, in an environment of its own in CI."""

import jax
import jax.numpy as jnp
import numpy as np
import onnxruntime
import pytest

from expertgen_jax.learning import diffusion, student
from expertgen_jax.learning.diffusion import DiffusionConfig
from expertgen_jax.learning.student import Percept, StudentConfig
from expertgen_jax.runs import onnx


def played(path, *args):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {x.name: arg for x, arg in zip(session.get_inputs(), args, strict=True)})[0]


def shape(*sizes):
    return jax.ShapeDtypeStruct(sizes, jnp.float32)


def test_a_program_is_written_and_tried(tmp_path):
    weights = jnp.asarray(np.random.default_rng(0).normal(size=(3, 3)), jnp.float32)

    def function(x, y):
        return jax.lax.scan(lambda z, _: (jnp.tanh(weights @ z) + y, None), x, None, length=4)[0]

    path = tmp_path / "policy.onnx"
    assert onnx.write(path, function, {"x": shape(3), "y": shape(3)}, "z") == ""
    x, y = np.float32([[0.1, -0.2, 0.3], [1, 2, 3]])
    np.testing.assert_allclose(played(path, x, y), function(x, y), atol=1e-6)


def test_what_onnx_cannot_say_is_told_and_nothing_is_written(tmp_path):
    path = tmp_path / "policy.onnx"
    assert "solve" in onnx.write(path, jnp.linalg.solve, {"a": shape(3, 3), "b": shape(3)}, "x")
    assert not path.exists()


def test_one_that_does_something_else_is_told_and_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx, "jaxpr_as_fun", lambda closed: lambda *args: [args[0] + 1])
    assert "1 off" in onnx.write(tmp_path / "policy.onnx", lambda x: x * 1, {"x": shape(3)}, "y")
    assert not list(tmp_path.iterdir())


def test_an_expert_does_the_same(tmp_path):
    prior = diffusion.untrained(DiffusionConfig(width=64), 20, 6)
    learnt = jax.tree.map(lambda x: x + 0.05 * jnp.sin(jnp.arange(x.size)).reshape(x.shape), prior.params)
    prior = prior.replace(params=learnt)
    noise = jnp.sin(jnp.arange(24.0)).reshape(4, 6)

    def act(vectors):
        return diffusion.sample(prior, vectors[0], noise * vectors[0, :6])

    obs = np.float32(np.random.default_rng(0).normal(size=(1, 20)))
    assert onnx.write(tmp_path / "policy.onnx", act, {"vectors": shape(1, 20)}, "actions") == ""
    np.testing.assert_allclose(played(tmp_path / "policy.onnx", obs), act(jnp.asarray(obs)), atol=1e-5)


@pytest.mark.parametrize("modality", ["depth", "rgb", "points"])
def test_a_student_does_the_same(modality, tmp_path):
    config = StudentConfig(modality=modality)
    seen = {"depth": (2, 64, 64, 1), "rgb": (2, 64, 64, 3), "points": (256, 3)}[modality]
    percept = Percept(jnp.zeros((1, 18)), jnp.zeros((1, *seen)))
    learnt = student.untrained(config, percept, (4, 6), 9, jax.random.key(0))

    def act(vectors, pictures):
        return student.act(learnt, Percept(vectors, pictures), jax.random.key(0))

    rng = np.random.default_rng(0)
    felt, pictures = (np.float32(rng.uniform(0.1, 0.9, x.shape)) for x in percept)
    inputs = {"vectors": shape(*felt.shape), "pictures": shape(*pictures.shape)}
    assert onnx.write(tmp_path / "policy.onnx", act, inputs, "actions") == ""
    there = played(tmp_path / "policy.onnx", felt, pictures)
    np.testing.assert_allclose(there, act(felt, pictures), atol=1e-5)
    assert there.shape == (4, 6) and np.abs(there).max() > 0
