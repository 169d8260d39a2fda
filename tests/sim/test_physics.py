"""Back ends against the plain C engine and against each other."""

import importlib.util
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from pressing import BACKENDS, CONTROL_STEPS

from expertgen_jax import scenes
from expertgen_jax.errors import UserError
from expertgen_jax.sim import episode, physics
from expertgen_jax.tasks import registry

PORTABLE = [
    "time",
    "qpos",
    "qvel",
    "ctrl",
    "xpos",
    "xquat",
    "xmat",
    "site_xpos",
    "site_xmat",
    "sensordata",
    "mocap_pos",
    "mocap_quat",
]
NSTEP = 10
FREE, SLIDE, ROUGH, STRONG, HEAVY = range(5)  # the worlds of `sled`


def sled_model() -> mujoco.MjModel:
    """A ball on two slides, pulled over the table; a flag on a mocap body; a sensor."""
    spec = scenes.empty_scene()
    body = spec.worldbody.add_body(name="ball")
    body.add_joint(name="x", type=mujoco.mjtJoint.mjJNT_SLIDE, axis=[1, 0, 0])
    body.add_joint(name="z", type=mujoco.mjtJoint.mjJNT_SLIDE, axis=[0, 0, 1])
    body.add_geom(name="ball", type=mujoco.mjtGeom.mjGEOM_SPHERE, size=[0.02, 0, 0], mass=0.5)
    spec.add_actuator(name="x", target="x", trntype=mujoco.mjtTrn.mjTRN_JOINT).set_to_position(kp=20.0, kv=8.0)
    flag = spec.worldbody.add_body(name="flag", mocap=True, pos=[0, 0, 0.5])
    flag.add_site(name="flag", pos=[0.1, 0, 0])
    spec.add_sensor(name="x", type=mujoco.mjtSensor.mjSENS_JOINTPOS, objtype=mujoco.mjtObj.mjOBJ_JOINT, objname="x")
    return spec.compile()


@pytest.fixture(scope="module")
def sled():
    """Final worlds of the sled on each back end, and their starts: `{back end: (model, starts, ends)}`."""
    mj = sled_model()
    ball, geom = mj.body("ball").id, mj.geom("ball").id
    fields = {
        name: np.repeat(np.float32(getattr(mj, name))[None], 5, axis=0)
        for name in ("geom_friction", "actuator_gainprm", "actuator_biasprm", "body_mass")
    }
    fields["geom_friction"][ROUGH, geom, 0] = 0.8
    fields["actuator_gainprm"][STRONG, 0, 0] *= 2.0
    fields["actuator_biasprm"][STRONG, 0, 1] *= 2.0
    fields["body_mass"][HEAVY, ball] *= 1.5
    qpos = np.tile(np.float32([0.0, 0.02]), (5, 1))
    qpos[FREE, 1] = 5.0

    def play(model, fields, qpos):
        model = physics.with_fields(model, fields)
        start = physics.init(model, qpos, mocap_pos=jnp.array([[0.1, 0.2, 0.3]]), mocap_quat=_TURNED)
        end = jax.lax.fori_loop(0, 20, lambda _, d: physics.step(model, d, jnp.array([0.5]), NSTEP), start)
        return start, end

    def on(backend):
        model = physics.load(mj, backend)
        return model, *jax.jit(jax.vmap(lambda f, q: play(model, f, q)))(fields, qpos)

    return {backend: on(backend) for backend in BACKENDS}


_TURNED = np.float32([[np.sqrt(0.5), 0, 0, np.sqrt(0.5)]])  # 90 degrees about z


def peg_worlds(count: int):
    """Starts and commands of pegs in the air, on the block and in the hole."""
    rng = np.random.default_rng(0)
    qpos = np.concatenate([rng.uniform(-0.01, 0.01, (count, 3)), rng.uniform(-0.05, 0.05, (count, 3))], axis=1)
    qpos[:, 2] += 0.07
    qpos[0] = [0, 0, 0.045, 0, 0, 0]
    ctrl = qpos + rng.uniform(-1, 1, (count, 6)) * ([0.01] * 3 + [0.1] * 3)
    ctrl[1:3, 2] = 0.05
    return np.float32(qpos), np.float32(ctrl)


def native_steps(envs, nstep=50):
    model = envs("peg", "native").model
    return lambda q, c: physics.step(model, physics.init(model, q, ctrl=q), c, nstep)


def test_native_is_mujoco(envs):
    qpos, ctrl = peg_worlds(8)
    got = jax.jit(jax.vmap(native_steps(envs)))(qpos, ctrl)
    mj = envs("peg", "native").model.mj
    touched = 0
    for i in range(8):
        data = mujoco.MjData(mj)
        data.qpos, data.ctrl = qpos[i], ctrl[i]
        for _ in range(50):
            mujoco.mj_step(mj, data)
            touched += data.ncon > 0
        for name in PORTABLE:
            want = np.asarray(getattr(data, name))
            np.testing.assert_allclose(np.reshape(getattr(got, name)[i], want.shape), want, atol=2e-6, err_msg=name)
    assert touched > 50, "the comparison must include contacts"


def test_native_worlds_are_independent_of_the_batch(envs):
    qpos, ctrl = peg_worlds(8)
    step = native_steps(envs)
    flat = jax.jit(jax.vmap(step))(qpos, ctrl)
    nested = jax.jit(jax.vmap(jax.vmap(step)))(qpos.reshape(2, 4, 6), ctrl.reshape(2, 4, 6))
    alone = jax.jit(step)(qpos[1], ctrl[1])
    for name in PORTABLE:
        whole = np.asarray(getattr(flat, name))
        np.testing.assert_array_equal(np.reshape(getattr(nested, name), whole.shape), whole, err_msg=name)
        np.testing.assert_array_equal(getattr(alone, name), whole[1], err_msg=name)


@pytest.mark.slow
def test_mjx_moves_like_native(press):
    start = np.array([0.0, 0, 0.09, 0, 0.05, 0])
    free = start + np.linspace(0, 1, CONTROL_STEPS)[:, None] * [0.03, -0.02, 0.02, 0.3, -0.2, 0.1]
    landing = np.array([0.018, 0, 0.0605, 0, 0, 0])
    onto_block = landing - [0, 0, 0.01, 0, 0, 0] + np.linspace(0, 1, CONTROL_STEPS)[:, None] * [0.01, 0, 0, 0, 0, 0]
    native, mjx = (press(b)([start, landing], [free, onto_block]).qpos for b in BACKENDS)
    assert np.ptp(native[0], axis=0).max() > 0.02
    np.testing.assert_allclose(mjx[0, : 20 * NSTEP], native[0, : 20 * NSTEP], atol=1e-5)
    assert native[1, -1, 2] == pytest.approx(0.06, abs=1e-4)  # it rests on the block, 20 mm high
    # It slides over the block by stick and slip; contacts of less than 1 um are seen by one engine only.
    np.testing.assert_allclose(mjx[1, :, :3], native[1, :, :3], atol=3e-4)
    np.testing.assert_allclose(mjx[1, :, 3:], native[1, :, 3:], atol=1e-3)  # 0.04 mm at the tip


def test_fields_take_effect_in_their_world_only(sled):
    ends = {backend: np.asarray(sled[backend][2].qpos) for backend in BACKENDS}
    np.testing.assert_allclose(ends["mjx"][FREE], ends["native"][FREE], atol=1e-5)
    np.testing.assert_allclose(ends["mjx"], ends["native"], atol=0.01)
    for x in (ends[backend][:, 0] for backend in BACKENDS):
        assert x[ROUGH] < x[HEAVY] < x[SLIDE] < min(x[STRONG], x[FREE])
        assert min(np.diff(np.sort(x))) > 0.015, "each field must matter by more than the back ends differ"


@pytest.mark.parametrize("backend", BACKENDS)
def test_init_computes_derived_fields(sled, backend):
    model, starts, _ = sled[backend]
    flag = model.mj.body("flag").id
    np.testing.assert_allclose(starts.xpos[:, flag], np.tile([0.1, 0.2, 0.3], (5, 1)), atol=1e-6)
    np.testing.assert_allclose(starts.site_xpos[:, 0], np.tile([0.1, 0.3, 0.3], (5, 1)), atol=1e-6)
    np.testing.assert_allclose(starts.xpos[FREE, model.mj.body("ball").id], [0, 0, 5.0], atol=1e-6)
    assert starts.xmat.shape[1:] == (model.mj.nbody, 3, 3)


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_hangs_on_a_mocap_body_goes_with_it(backend):
    """A bead on a rail along x, which the start turns downwards: it falls freely."""
    spec = scenes.empty_scene()
    rail = spec.worldbody.add_body(name="rail", mocap=True)
    bead = rail.add_body(name="bead", pos=[0, 0.1, 0])
    bead.add_joint(name="bead", type=mujoco.mjtJoint.mjJNT_SLIDE, axis=[1, 0, 0])
    bead.add_geom(type=mujoco.mjtGeom.mjGEOM_SPHERE, size=[0.01, 0, 0], contype=0, conaffinity=0)
    model = physics.load(spec.compile(), backend)
    pos, down = jnp.array([[0.1, 0.2, 1.0]]), jnp.array([[1.0, 0.0, 1.0, 0.0]])  # engines normalise it

    def fall(q):
        data = physics.init(model, q, mocap_pos=pos, mocap_quat=down)
        return data, physics.step(model, data, jnp.zeros(0), NSTEP)

    start, end = jax.jit(fall)(jnp.array([0.05]))
    number = model.mj.body("bead").id
    np.testing.assert_allclose(start.xpos[number], [0.1, 0.3, 0.95], atol=1e-6)
    travel = 9.81 * model.timestep**2 * NSTEP * (NSTEP + 1) / 2
    np.testing.assert_allclose(end.qpos, [0.05 + travel], atol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_time_and_controls_advance(sled, backend):
    model, starts, ends = sled[backend]
    np.testing.assert_array_equal(starts.time, 0.0)
    np.testing.assert_allclose(ends.time, 20 * NSTEP * model.timestep, rtol=1e-5)
    np.testing.assert_allclose(ends.ctrl, 0.5)
    # Derived fields lag one substep, as with mj_step.
    late = np.asarray(ends.qpos[:, 0] - model.timestep * ends.qvel[:, 0])
    np.testing.assert_allclose(ends.sensordata[:, 0], late, atol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_where_selects_whole_worlds(sled, backend):
    _, starts, ends = sled[backend]
    condition = np.array([True, False, True, False, False])
    mixed = jax.jit(jax.vmap(physics.where))(condition, starts, ends)
    for name in PORTABLE:
        new, old, got = (np.asarray(getattr(x, name)) for x in (starts, ends, mixed))
        np.testing.assert_array_equal(got[condition], new[condition], err_msg=name)
        np.testing.assert_array_equal(got[~condition], old[~condition], err_msg=name)
    assert not np.isclose(starts.xpos, ends.xpos).all(), "new and old must differ for this test to mean anything"


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("qvel", 0.99 * physics.MAX_SPEED, False),
        ("qvel", 1.01 * physics.MAX_SPEED, True),
        ("qvel", -1.01 * physics.MAX_SPEED, True),
        ("qvel", np.nan, True),
        ("qvel", np.inf, True),
        ("qpos", np.nan, True),
        ("qpos", np.inf, True),
        ("ctrl", np.nan, True),  # the C engine ignores such a command and goes on, with NaN in the observation
    ],
)
def test_diverged(sled, backend, field, value, expected):
    world = jax.tree.map(lambda x: x[SLIDE], sled[backend][2])
    assert not physics.diverged(world)
    assert bool(physics.diverged(world.replace(**{field: getattr(world, field).at[-1].set(value)}))) is expected


@pytest.mark.parametrize(
    ("device", "backend", "resolved"),
    [
        ("cpu", "auto", "native"),
        ("gpu", "auto", "mjx"),
        ("cpu", "mjx", "mjx"),
        ("gpu", "mjx", "mjx"),
        ("gpu", "warp", "warp"),
        ("cpu", "native", "native"),
    ],
)
def test_resolve(monkeypatch, device, backend, resolved):
    monkeypatch.setattr(jax, "default_backend", lambda: device)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    assert physics.resolve(backend) == resolved


@pytest.mark.parametrize(
    ("device", "backend", "has_warp", "remedy"),
    [
        ("cpu", "bullet", True, "choose one of auto, mjx, warp, native"),
        ("gpu", "warp", False, r"pip install 'expertgen-jax\[warp\]'"),
        ("tpu", "warp", True, "use --physics auto"),
    ],
)
def test_resolve_names_the_remedy(monkeypatch, device, backend, has_warp, remedy):
    monkeypatch.setattr(jax, "default_backend", lambda: device)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if has_warp else None)
    with pytest.raises(UserError, match=remedy):
        physics.resolve(backend)


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("warp") is None and "CI" not in os.environ,
    reason="MJX-Warp is an extra: pip install -e '.[warp]'",
)
def test_warp_moves_like_native():
    """The generalist's parts differ from world to world, in size, bounds and mass."""
    task = registry.load_task("assembly")

    def play(backend: str) -> np.ndarray:
        env = episode.make_env(task, backend, max_worlds=8)
        begin = jax.vmap(lambda key: episode.reset(env, key))
        actions = jax.random.uniform(jax.random.key(1), (8, 4, task.action_size), minval=-1.0)
        after = jax.vmap(lambda world, chunk: episode.advance(env, world, chunk)[0])
        return np.asarray(jax.jit(lambda k: after(begin(k), actions).obs)(jax.random.split(jax.random.key(0), 8)))

    native, warp = play("native"), play("warp")
    np.testing.assert_allclose(warp, native, atol=1e-5)


FACTORIZATIONS = """
import os
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
import expertgen_jax
import jax, jax.numpy as jnp

def step(pair, _):
    one, other = (jnp.linalg.cholesky(20 * jnp.eye(14) + x @ x.T) for x in pair)
    return jnp.stack([jnp.sin(one), jnp.cos(other)]), None

pairs = jax.random.normal(jax.random.key(0), (256, 2, 14, 14))
print(jax.jit(jax.vmap(lambda pair: jax.lax.scan(step, pair, None, length=2000)[0]))(pairs).shape)
"""


def test_two_factorizations_at_once_on_two_cores_do_not_wait_for_each_other():
    """As in MJX with 14 degrees of freedom and 256 worlds, where both cores waited for ever."""
    env = {name: value for name, value in os.environ.items() if name != "NPROC"}
    args = [sys.executable, "-c", FACTORIZATIONS]
    done = subprocess.run(args, capture_output=True, text=True, check=True, env=env, timeout=120)
    assert done.stdout.strip() == "(256, 2, 14, 14)"
