"""The nine shapes: one model, honest contact, predicates that hold nowhere else, demonstrators."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from pressing import BACKENDS, deepest

from expertgen_jax.learning import demos
from expertgen_jax.sim import episode, physics, rollout
from expertgen_jax.tasks.assembly import shapes
from expertgen_jax.tasks.assembly.fit import Context
from expertgen_jax.tasks.assembly.shapes import PLUG_LENGTH, SHAPES
from expertgen_jax.tasks.registry import load_task

NAMES = list(SHAPES)
SUBSTEPS, SETTLED = 200, 100


def own_model(name):
    """The shape's scene compiled by itself, without batched fields."""
    return shapes._scene(SHAPES[name]).compile()


def fields_of(name):
    return {field: values[NAMES.index(name)] for field, values in shapes._fields()[0].items()}


@pytest.fixture(scope="module")
def env(envs):
    """All shapes on the C engine."""
    return envs("assembly", "native")


@pytest.fixture(scope="module")
def press(envs):
    """`(back end, names, qpos [n, 6], ctrl [n, 6]) -> qpos [n, SUBSTEPS, 6]`; one program a back end."""
    programs = {}
    worlds = 4 * len(NAMES)

    def program(backend):
        model = envs("assembly", backend).model

        def play(fields, qpos, ctrl):
            own = physics.with_fields(model, fields)
            data = physics.init(own, qpos, ctrl=qpos, mocap_pos=jnp.zeros((1, 3)))

            def substep(data, _):
                data = physics.step(own, data, ctrl, 1)
                return data, data.qpos

            return jax.lax.scan(substep, data, None, length=SUBSTEPS)[1]

        return jax.jit(jax.vmap(play))

    def press(backend, names, qpos, ctrl):
        if backend not in programs:
            programs[backend] = program(backend)
        rows = np.arange(worlds) % len(names)
        chosen = [fields_of(names[i]) for i in rows]
        fields = {name: np.stack([row[name] for row in chosen]) for name in chosen[0]}
        return np.asarray(programs[backend](fields, np.float32(qpos)[rows], np.float32(ctrl)[rows]))[: len(names)]

    return press


@pytest.mark.parametrize("name", NAMES)
def test_a_shape_as_fields_is_the_shape_compiled(press, name):
    starts = np.array(
        [[0.0002, 0, PLUG_LENGTH + SHAPES[name].depth * share, 0, 0.01, 0] for share in (0.5, 0.98, 1.05)]
    )
    ctrl = np.add(starts, [0.004, 0.002, -0.008, 0.05, 0.0, 0.03])
    got = press("native", [name] * 3, starts, ctrl)
    mj, touched = own_model(name), 0
    mj.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_AUTORESET
    for i, start in enumerate(starts):
        data = mujoco.MjData(mj)
        data.qpos, data.ctrl = np.float32(start), np.float32(ctrl[i])
        for _ in range(SUBSTEPS):
            mujoco.mj_step(mj, data)
            touched += data.ncon > 0
        np.testing.assert_allclose(got[i, -1], data.qpos, atol=2e-5)
    assert touched > SUBSTEPS, "the comparison must include contacts"


def sunk(name, path):
    return deepest(own_model(name), path)


@pytest.fixture(scope="module")
def pressed(press):
    """`back end -> {name: paths [4, SUBSTEPS, 6]}`: half-way in, pressed four ways with all that `control` allows."""
    names = [name for name in NAMES for _ in range(4)]
    starts = np.array([[0, 0, PLUG_LENGTH + SHAPES[name].depth / 2, 0, 0, 0] for name in names])
    pushes = np.array([[1, 0], [-1, 0], [0.7, 0.7], [0.7, -0.7]]) * 0.010
    ctrl = starts + np.concatenate([np.tile(pushes, (len(NAMES), 1)), np.zeros((len(names), 4))], axis=1)

    @functools.cache
    def paths(backend):
        return dict(zip(NAMES, press(backend, names, starts, ctrl).reshape(len(NAMES), 4, SUBSTEPS, 6), strict=True))

    return paths


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_plugs_pressed_sideways_never_go_through(pressed, backend, name):
    for path in pressed(backend)[name]:
        assert sunk(name, path).max() < 0.0005, "the first impact may sink in for a substep"
        assert np.ptp(path[:, 2]) < 0.002, "it must not escape upwards"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_plugs_pressed_sideways_rest_on_the_walls(pressed, backend, name):
    depths = [sunk(name, path[SETTLED:]) for path in pressed(backend)[name]]
    assert all(depth[-20:].max() > 0 for depth in depths), "they must still be pressed on, or this proves nothing"
    assert max(depth.max() for depth in depths) < 0.1 * SHAPES[name].play


# --- predicates -------------------------------------------------------------------------------------------------


def pose(tip=(0.0, 0.0, 0.0), angles=(0.0, 0.0, 0.0)):
    """`qpos` that puts the tip there (m), turned by yaw, pitch, roll (degrees)."""
    yaw, pitch, roll = np.deg2rad(angles)
    cy, sy, cp, sp, cr, sr = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch), np.cos(roll), np.sin(roll)
    up = np.array([cy * sp * cr + sy * sr, sy * sp * cr - cy * sr, cp * cr])
    return np.concatenate([np.array(tip) + PLUG_LENGTH * up, [yaw, pitch, roll]])


SOCKET, SOCKET_YAW = np.array([0.03, -0.02, 0.0]), 7.0


def cases(fitting):
    """Poses relative to the socket: `{description: (strict, lenient or None where either will do, qpos)}`."""
    play, depth, lift = fitting.play, fitting.depth, fitting.lift
    return {
        "assembled": (True, True, pose()),
        "at the play": (True, True, pose((play, 0, 0))),
        "inside a wall": (False, None, pose((2 * play, 0, 0))),
        "too shallow": (False, None, pose((0, 0, max(0.0011, 0.05 * depth)))),
        "half-way": (False, None, pose((0, 0, depth / 2))),
        "through the table": (False, None, pose((0, 0, -0.003))),
        "tilted": (False, None, pose(angles=(0, 5, 0))),
        "rolled": (False, None, pose(angles=(0, 0, -5))),
        "above": (False, False, pose((0, 0, lift + 0.001))),
        "beside, on the table": (False, False, pose((0.05, 0, 0))),
        "beside, diagonal": (False, False, pose((0.03, 0.03, 0))),
        "upside down": (False, False, pose(angles=(0, 180, 0))),
        "lying across": (False, False, pose(angles=(0, 90, 0))),
        **({"turned": (False, None, pose(angles=(10, 0, 0)))} if fitting.kind in ("fork", "rail") else {}),
        **({"turned round": (True, True, pose(angles=(130, 0, 0)))} if fitting.kind in ("pin", "collar") else {}),
        **({"back to front": (False, None, pose(angles=(180, 0, 0)))} if fitting.kind == "rail" else {}),
    }


@pytest.mark.parametrize("backend", BACKENDS)
def test_success_is_the_assembled_pose_and_no_other(envs, backend):
    env = envs("assembly", backend)
    yaw = np.deg2rad(SOCKET_YAW)
    turn = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])

    def judge(fit, qpos):
        quat = jnp.array([[np.cos(yaw / 2), 0, 0, np.sin(yaw / 2)]])
        data = physics.init(env.model, qpos, ctrl=qpos, mocap_pos=jnp.asarray(SOCKET[None]), mocap_quat=quat)
        context = Context(fit, jnp.array([0.002, -0.002, 0.0]), jnp.float32(0.08), jnp.zeros(0))
        return env.task.success(data, context), env.task.lenient(data, context)

    rows = [(i, what, *case) for i, name in enumerate(NAMES) for what, case in cases(SHAPES[name]).items()]
    qpos = np.array([[*(SOCKET + turn @ q[:3]), q[3] + yaw, *q[4:]] for *_, q in rows])
    fits = jax.tree.map(lambda x: x[np.array([row[0] for row in rows])], env.parameters["fit"])
    strict, lenient = jax.jit(jax.vmap(judge))(fits, np.float32(qpos))
    for (i, what, want_strict, want_lenient, _), got_strict, got_lenient in zip(rows, strict, lenient, strict=True):
        assert bool(got_strict) == want_strict, f"{NAMES[i]}, {what}: strict"
        assert want_lenient is None or bool(got_lenient) == want_lenient, f"{NAMES[i]}, {what}: lenient"


def test_a_plug_thrown_through_its_place_is_no_success(env):
    def throw(key):
        world = episode.reset(env, key)
        start = env.task.disassembly.reset(key, env.parameters)
        model = physics.with_fields(env.model, world.fields)
        up = jnp.array([0, 0, 1.0, 0, 0, 0])
        data = physics.init(model, start.qpos, 0.5 * up, start.qpos + 0.02 * up, start.mocap_pos, start.mocap_quat)
        inside = env.task.success(data, world.context)
        return inside, episode.advance(env, world.replace(data=data), jnp.tile(up, (12, 1)))[0]

    inside, worlds = jax.jit(jax.vmap(throw))(jax.random.split(jax.random.key(0), 64))
    assert inside.all(), "each starts in the assembled pose"
    assert not worlds.success.any()


# --- starts and demonstrators -----------------------------------------------------------------------------------


def test_every_shape_occurs_and_starts_free(env):
    worlds = jax.jit(jax.vmap(lambda k: episode.reset(env, k)))(jax.random.split(jax.random.key(1), 360))
    counts = np.bincount(worlds.variant, minlength=len(NAMES))
    assert counts.min() > 20
    height = np.asarray(worlds.data.site_xpos[:, 0, 2])
    lifts = np.array([SHAPES[name].lift for name in NAMES])[np.asarray(worlds.variant)]
    assert (height > lifts + 0.004).all()
    shape = np.asarray(env.task.observe(jax.tree.map(lambda x: x[0], worlds.data), row(worlds.context, 0))["shape"])
    assert shape[:4].sum() == 1


def row(tree, i):
    return jax.tree.map(lambda x: x[i], tree)


def test_one_shape_is_the_same_program_as_another(envs):
    one, other = envs("pin_in_hub", "native"), envs("block_on_rail", "native")
    lowered = [jax.jit(lambda e, k: episode.reset(e, k)).lower(e, jax.random.key(0)).as_text() for e in (one, other)]
    assert lowered[0] == lowered[1]


@pytest.mark.slow
def test_scripts_are_imperfect_on_every_shape(env):
    worlds = rollout.play(env, rollout.scripted_agent(env.task), jax.random.key(5), 900)
    success, variant = np.asarray(worlds.success), np.asarray(worlds.variant)
    for i, name in enumerate(NAMES):
        assert 0.01 <= success[variant == i].mean() <= 0.75, name
    assert not worlds.diverged.any()
    assert (worlds.lenient | ~worlds.success).all(), "strict success implies lenient success"


@pytest.mark.slow
@pytest.mark.parametrize(("bias", "low", "high"), [(0.0, 0.8, 1.0), (1.0, 0.05, 0.8)], ids=["exact", "biased"])
def test_disassembly_played_backwards_assembles(env, bias, low, high):
    config = demos.DemoConfig(episodes=180, max_episodes=180, source="disassembly", bias=bias)
    made, asked = demos.demonstrate(env, jax.random.key(6), config)
    assert asked.diverged == 0
    assert low <= made.success.mean() <= high
    starts = np.cumsum(made.lengths) - made.lengths
    tip = made.obs[starts][:, :3]
    assert (np.abs(tip[:, :2]) < 0.025).all() and (tip[:, 2] > 0.015).all(), "they start in the air, spread out"
    for a, b in itertools.pairwise(made.obs[: made.lengths[0], 2]):
        assert b < a + 0.004, "and go down"


def test_automates_starts_are_drawn_from_its_ranges():
    task = load_task("pin_in_block", starts="automate")
    env = episode.make_env(task, "native")
    worlds = jax.jit(jax.vmap(lambda key: episode.reset(env, key)))(jax.random.split(jax.random.key(0), 500))
    qpos, socket = np.asarray(worlds.data.qpos), np.asarray(worlds.data.mocap_pos)[:, 0]
    table = env.model.mj.geom("table").id
    np.testing.assert_array_equal(worlds.fields["geom_pos"][:, table, 2], socket[:, 2])
    friction = np.asarray(worlds.fields["geom_friction"])[:, 0, 0]
    yaw = 2 * np.arctan2(*np.asarray(worlds.data.mocap_quat)[:, 0, [3, 0]].T)
    free = SHAPES["pin_in_block"].lift + PLUG_LENGTH
    for values, low, high in (
        (socket[:, 2], 0.0, 0.1),
        (qpos[:, 2] - socket[:, 2] - free, 0.047, 0.047),
        (qpos[:, 0] - socket[:, 0], -0.01, 0.01),
        (qpos[:, 3] - yaw, -np.pi / 4, np.pi / 4),
        (np.asarray(worlds.context.socket_error)[:, 0], -0.001, 0.001),
        (friction, 0.75, 1.0),
    ):
        spread = high - low
        assert (low - 1e-6 <= values).all() and (values <= high + 1e-6).all()
        assert np.ptp(values) >= 0.9 * spread
    assert np.abs(qpos[:, 4:6]).max() == 0


def test_a_socket_that_stands_high_has_a_floor():
    """The table comes up with it: a pin let down rests on it, on the assembled height."""
    task = load_task("pin_in_block", starts="automate")
    env = episode.make_env(task, "native")

    @jax.jit
    def press(key):
        world = episode.reset(env.replace(task=dataclasses.replace(task, reset=task.disassembly.reset)), key)
        down = world.data.ctrl.at[2].add(-0.005)
        data = physics.step(physics.with_fields(env.model, world.fields), world.data, down, 100)
        return data.qpos[2] - data.mocap_pos[0, 2], data.mocap_pos[0, 2]

    height, socket = jax.vmap(press)(jax.random.split(jax.random.key(1), 8))
    assert socket.max() > 0.05
    np.testing.assert_allclose(height, PLUG_LENGTH, atol=1e-4)
