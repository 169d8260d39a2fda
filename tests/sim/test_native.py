"""The C engine as a custom call; what it computes is tested in `test_physics`."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from expertgen_jax.sim import native, physics

PROGRAM = """
import sys
import jax, jax.numpy as jnp
from expertgen_jax.sim import episode, physics
from expertgen_jax.tasks import registry
jax.config.update("jax_compilation_cache_dir", sys.argv[1])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_persistent_cache_enable_xla_caches", "none")
hits = []
jax.monitoring.register_event_listener(lambda name, **_: hits.append(name) if name.endswith("/cache_hits") else None)
model = episode.make_env(registry.load_task("peg"), "native").model
fall = jax.jit(lambda q: physics.step(model, physics.init(model, q), jnp.zeros(6), 20).qpos)
start = jnp.array([0, 0, 0.09, 0, 0, 0])
executable = fall.lower(start).compile()
print(len(hits), executable(start))
"""


@pytest.mark.slow
def test_a_compiled_program_is_found_again_in_another_process(tmp_path):
    def play() -> tuple[int, str]:
        env = os.environ | {"PYTHONHASHSEED": "random"}
        args = [sys.executable, "-c", PROGRAM, str(tmp_path)]
        hits, qpos = subprocess.run(args, capture_output=True, text=True, check=True, env=env).stdout.split(" ", 1)
        return int(hits), qpos

    first, second = play(), play()
    assert first[0] == 0
    assert second[0] > 0
    assert second[1] == first[1]
    assert "nan" not in first[1]


def test_one_model_field_for_all_worlds_or_one_each(envs):
    model = envs("peg", "native").model
    mass = 2 * np.float32(model.mj.body_mass)
    qpos = np.float32([[0, 0, 0.09, 0, 0, 0], [0, 0, 0.08, 0.1, 0, 0]])

    def fall(mass, qpos):
        heavy = physics.with_fields(model, {"body_mass": mass})
        return physics.step(heavy, physics.init(heavy, qpos, ctrl=qpos), jnp.full(6, 0.05), 30).qpos

    shared = jax.jit(jax.vmap(fall, (None, 0)))(mass, qpos)
    each = jax.jit(jax.vmap(fall))(np.stack([mass, mass]), qpos)
    np.testing.assert_array_equal(shared, each)
    np.testing.assert_array_equal(shared[1], jax.jit(fall)(mass, qpos[1]))


def test_a_program_on_another_device_calls_the_same_engine(envs, monkeypatch):
    model = envs("peg", "native").model
    qpos = np.float32([[0, 0, 0.09, 0, 0, 0], [0, 0, 0.08, 0.1, 0, 0]])

    def fall(qpos):
        return physics.step(model, physics.init(model, qpos, ctrl=qpos), jnp.full(6, 0.05), 30).qpos

    expected = jax.jit(jax.vmap(fall))(qpos)
    here = jax.jit(jax.vmap(fall)).lower(qpos).as_text()
    assert native._TARGET in here
    assert "callback" not in here, "copies, and no compilation cache"
    monkeypatch.setattr(jax.lax, "platform_dependent", lambda *operands, cpu, default: default(*operands))
    np.testing.assert_array_equal(jax.jit(jax.vmap(lambda q: fall(q)))(qpos), expected)


def test_programs_are_told_apart(envs):
    mj, other = envs("peg", "native").model.mj, envs("peg", "native").task.scene().compile()
    base = native._Program(mj, (), 10)
    assert native._number(base) == native._number(native._Program(mj, (), 10))
    other.opt.disableflags = mj.opt.disableflags
    assert native._number(base) == native._number(native._Program(other, (), 10)), "the same model compiled again"
    other.geom_friction[0, 0] *= 2
    changed = native._Program(other, (), 9)
    assert len({native._number(p) for p in (base, changed, base._replace(fields=("geom_size",)))}) == 3


def test_an_error_in_the_engine_ends_the_program_and_names_itself(envs, monkeypatch):
    model = envs("peg", "native").model

    def broken(*_):
        raise MemoryError("no room for so many worlds")

    monkeypatch.setattr(native, "_worlds", broken)
    with pytest.raises(jax.errors.JaxRuntimeError, match="MemoryError: no room for so many worlds"):
        jax.block_until_ready(jax.jit(lambda q: physics.init(model, q))(np.zeros(6, np.float32)))


@pytest.mark.slow
def test_leaving_while_a_program_runs_is_no_crash():
    program = """
import jax
from expertgen_jax import load_task, make_env, play
from expertgen_jax.sim.rollout import scripted_agent
env = make_env(load_task("peg"), "native")
worlds = play(env, scripted_agent(env.task), jax.random.key(0), 256)
"""
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
