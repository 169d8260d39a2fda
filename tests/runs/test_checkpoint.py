"""Checkpoints: what is saved comes back, and what is broken is noticed."""

import gc
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from expertgen_jax.learning.replay import Transition
from expertgen_jax.runs import checkpoint
from expertgen_jax.runs.checkpoint import Series


def tree(seed=0):
    key = jax.random.key(seed)
    return {
        "key": key,
        "keys": jax.random.split(key, 3),
        "weights": {"a": jax.random.normal(key, (2, 3)), "b": jnp.float32(seed)},
        "flags": jnp.array([True, False]),
        "count": jnp.int32(7 + seed),
        "bytes": jnp.arange(4, dtype=jnp.uint8),
        "host": np.arange(3.0, dtype=np.float32) + seed,
        "nothing": jnp.zeros((4, 0)),  # as the state of a model without muscles has it
        "tuple": Transition(*(jnp.full(2, float(i)) for i in range(7))),
    }


def assert_same(ours, theirs):
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert a.dtype == b.dtype
        if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        np.testing.assert_array_equal(a, b)


def test_any_tree_comes_back_as_it_was(tmp_path):
    checkpoint.save(tmp_path / "state", tree(1))
    restored = checkpoint.restore(tmp_path / "state", tree(2))
    assert_same(restored, tree(1))
    np.testing.assert_array_equal(jax.random.normal(restored["key"]), jax.random.normal(tree(1)["key"]))


def test_shapes_alone_are_enough_to_restore(tmp_path):
    checkpoint.save(tmp_path / "state", tree(1))
    assert_same(checkpoint.restore(tmp_path / "state", jax.eval_shape(tree)), tree(1))


def test_saving_again_replaces(tmp_path):
    checkpoint.save(tmp_path / "state", tree(1))
    checkpoint.save(tmp_path / "state", tree(2))
    assert_same(checkpoint.restore(tmp_path / "state", tree()), tree(2))


@pytest.mark.parametrize(
    "like",
    [
        {"a": jnp.zeros(3)},
        {"a": jnp.zeros(3), "b": jnp.zeros(2), "c": jnp.zeros(1)},
        {"a": jnp.zeros(3), "c": jnp.zeros(2)},
        {"a": jnp.zeros(4), "b": jnp.zeros(2)},
        {"a": jnp.zeros((3, 1)), "b": jnp.zeros(2)},
        [jnp.zeros(3), jnp.zeros(2)],
    ],
    ids=["fewer", "more", "other name", "other size", "other rank", "other structure"],
)
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")  # Orbax drops the other reads
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_another_structure_is_refused(tmp_path, like):
    checkpoint.save(tmp_path / "state", {"a": jnp.ones(3), "b": jnp.ones(2)})
    with pytest.raises(checkpoint.DamagedError, match="damaged or of another version"):
        checkpoint.restore(tmp_path / "state", like)
    gc.collect()  # they warn here, not in another test


def test_a_missing_checkpoint_is_told_from_a_damaged_one(tmp_path):
    with pytest.raises(FileNotFoundError):
        checkpoint.restore(tmp_path / "state", tree())
    (tmp_path / "state").mkdir()
    with pytest.raises(checkpoint.DamagedError, match="damaged"):
        checkpoint.restore(tmp_path / "state", tree())


def small(step):
    return {"key": jax.random.key(step), "x": jnp.full(1000, float(step))}


def damage(folder):
    """Cuts every file of a checkpoint in half."""
    files = [p for p in folder.rglob("*") if p.is_file()]
    assert files
    for file in files:
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def test_a_series_keeps_the_newest_two(tmp_path):
    series = Series(tmp_path / "training")
    assert series.steps() == []
    assert series.restore(small(0)) is None
    for step in (1, 5, 30, 200):
        series.save(step, small(step))
    assert series.steps() == [30, 200]
    assert sorted(p.name for p in (tmp_path / "training").iterdir()) == ["200", "30"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        step, restored = Series(tmp_path / "training").restore(small(0))
    assert step == 200
    assert_same(restored, small(200))


def test_a_damaged_newest_checkpoint_gives_way_to_the_one_before(tmp_path):
    series = Series(tmp_path)
    series.save(9, small(9))
    series.save(10, small(10))
    damage(tmp_path / "10")
    with pytest.warns(UserWarning, match=r"10 is damaged.*the one before"):
        step, restored = series.restore(small(0))
    assert step == 9
    assert_same(restored, small(9))
    series.save(10, small(11))  # and training goes on
    step, restored = series.restore(small(0))
    assert step == 10
    assert_same(restored, small(11))


def test_a_series_of_damaged_checkpoints_is_none(tmp_path):
    series = Series(tmp_path)
    series.save(1, small(1))
    damage(tmp_path / "1")
    with pytest.warns(UserWarning, match="damaged"):
        assert series.restore(small(0)) is None


def test_an_interrupted_save_is_ignored(tmp_path):
    series = Series(tmp_path)
    series.save(1, small(1))
    leftover = tmp_path / "2.orbax-checkpoint-tmp"  # Orbax renames it when all is written
    (leftover / "d").mkdir(parents=True)
    (leftover / "d" / "part").write_bytes(b"half a file")
    assert series.steps() == [1]
    step, restored = series.restore(small(0))
    assert step == 1
    assert_same(restored, small(1))
    series.save(2, small(2))
    assert series.steps() == [1, 2]
    assert series.restore(small(0))[0] == 2
