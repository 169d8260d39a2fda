"""The peg: honest contact, predicates that hold nowhere else, starts, observations, demonstrators."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mujoco import mjx
from poses import assert_judged
from pressing import BACKENDS, CONTROL_STEPS, WORLDS

from expertgen_jax.sim import episode, physics, rollout
from expertgen_jax.sim.rollout import Agent
from expertgen_jax.tasks.assembly.fit import CLEARANCE_ABOVE, Context, Starts
from expertgen_jax.tasks.assembly.pegs import PEGS

HALF_WIDTH, PLAY, DEPTH, LENGTH = 0.010, 0.00025, 0.020, 0.040
HOLE = HALF_WIDTH + PLAY
STARTS = Starts()
SETTLED = 50  # substeps (0.25 s) from rest until the plug has stopped bouncing


@pytest.fixture(scope="module")
def env(envs):
    return envs("peg", "native")


# --- honest contact ---------------------------------------------------------------------------------------------


CUBE = np.array(list(itertools.product((-1, 1), (-1, 1), (0, 1))))
EDGES = [(a, b) for a, b in itertools.combinations(range(8), 2) if np.count_nonzero(CUBE[a] != CUBE[b]) == 1]


def corners(peg, path):
    box = CUBE * [peg.half_width, peg.half_width, -peg.length]
    return path.xpos[..., None, :] + np.einsum("...ij,kj->...ki", path.xmat, box)


def sunk_into_walls(peg, path):
    """How far the part of the plug below the block's top reaches past the hole's walls (m), by geometry alone.

    That part is convex, so its farthest points are corners of the plug, or where the plug's edges cross the top.
    """
    points = corners(peg, path)
    reach = [np.where(points[..., k, 2] < peg.depth, np.abs(points[..., k, :2]).max(-1), 0.0) for k in range(8)]
    for a, b in EDGES:
        low, high = points[..., a, :], points[..., b, :]
        rise = high[..., 2] - low[..., 2]
        share = (peg.depth - low[..., 2]) / np.where(rise == 0, 1.0, rise)
        crossing = low + share[..., None] * (high - low)
        crosses = (rise != 0) & (share >= 0) & (share <= 1)
        reach.append(np.where(crosses, np.abs(crossing[..., :2]).max(-1), 0.0))
    return np.max(reach, axis=0) - peg.half_width - peg.play


def sunk_below(peg, path, surface):
    return surface - corners(peg, path)[..., 2].min(-1)


def hold(start, offset):
    """A command `offset` away, held."""
    return np.tile(np.add(start, [*offset, 0, 0, 0]), (CONTROL_STEPS, 1))


def assert_honest(peg, sunk):
    """`sunk: [worlds, substeps]` stays below 10 % of the play once settled, and nothing ever tunnels."""
    assert sunk.max() < 0.002, "the first impact of a command 1 m away may sink in for a substep, never through"
    assert sunk[:, SETTLED:].max() < 0.1 * peg.play
    assert sunk[:, -1].min() > -0.0001, "it must still be pressed on, else the test proves nothing"


@pytest.mark.parametrize("share", [0.975, 0.5, 0.25])
@pytest.mark.parametrize(
    ("backend", "robot", "name"),
    [
        *((backend, "hand", name) for backend in BACKENDS for name in PEGS),
        *(("native", "panda", name) for name in PEGS),
        ("mjx", "panda", "peg"),
    ],
)
def test_plug_pressed_sideways_stays_out_of_the_walls(press, backend, robot, name, share):
    peg = PEGS[name]
    start = np.array([0.0, 0.0, peg.length + (1 - share) * peg.depth, 0.0, 0.0, 0.0])
    angles = np.arange(WORLDS) * 2 * np.pi / WORLDS
    ways = np.stack([np.cos(angles), np.sin(angles), np.zeros(WORLDS)], axis=1)
    # The lead is the most that `control` commands; a command 1 m away saturates the hand's actuator at 30 N.
    for lead in (peg.lead, 1.0) if name == "peg" and robot == "hand" else (peg.lead,):
        path = press(backend, name, robot)(np.tile(start, (WORLDS, 1)), [hold(start, lead * way) for way in ways])
        assert_honest(peg, sunk_into_walls(peg, path))
        assert path.xpos[..., 2].max() < peg.length + peg.depth, "it must not escape upwards either"


@pytest.mark.slow
def test_the_arm_moves_and_presses_alike_on_both_engines(press):
    start = np.array([0.0, 0.0, LENGTH + DEPTH / 2, 0.0, 0.0, 0.0])
    starts, targets = np.tile(start, (2, 1)), [hold(start, [0, 0, 0.004]), hold(start, [0.010, 0, 0])]
    native, mjx = (press(backend, "peg", "panda")(starts, targets) for backend in BACKENDS)
    np.testing.assert_allclose(native.xpos, mjx.xpos, atol=5e-5)
    np.testing.assert_allclose(native.xmat, mjx.xmat, atol=2e-4)
    assert native.xpos[0, -1, 2] > start[2] + 0.003 and native.xpos[1, -1, 0] > 0.0002


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("x", "surface"), [(0.03, DEPTH), (0.012, DEPTH), (0.07, 0.0), (0.0, 0.0)], ids=["block", "edge", "table", "hole"]
)
def test_plug_pressed_down_stays_out_of_the_surface(press, backend, x, surface):
    peg = PEGS["peg"]
    start = np.array([x, 0.0, peg.length + surface + 0.0001, 0.0, 0.0, 0.0])
    path = press(backend)(np.tile(start, (2, 1)), [hold(start, [0, 0, -1.0]), hold(start, [0, 0, -0.01])])
    assert_honest(peg, sunk_below(peg, path, surface))


@pytest.mark.slow
def test_capped_contacts_change_nothing(envs):
    """From every state of a press, MJX with its cap on contacts does what it does without."""
    task = envs("peg", "mjx").task

    def uncapped_scene():
        spec = task.scene()
        spec.numeric("max_contact_points").data = [100.0]
        return spec

    capped = envs("peg", "mjx").model
    uncapped = episode.make_env(dataclasses.replace(task, scene=uncapped_scene), "mjx").model
    carried = ("qpos", "qvel", "ctrl", "qacc_warmstart", "mocap_pos", "mocap_quat")

    def play(qpos, ctrl):
        def substep(data, _):
            other = mjx.make_data(uncapped.device).replace(**{name: getattr(data, name) for name in carried})
            other = physics.step(uncapped, other, ctrl, 1)
            data = physics.step(capped, data, ctrl, 1)
            touching = (other._impl.contact.dist < 0).sum()
            return data, (jnp.abs(data.qvel - other.qvel).max(), touching)

        start = physics.init(capped, qpos, ctrl=qpos, mocap_pos=jnp.zeros((1, 3)))
        return jax.lax.scan(substep, start, None, length=200)[1]

    starts = np.array(
        [
            [0.0, 0.0, LENGTH + 0.0002, 0.0, 0.0, 0.0],  # pressed into a corner of the hole: the most contacts
            [0.0, 0.0, LENGTH + 0.010, 0.0, 0.0, 0.0],
            [0.03, 0.0, LENGTH + DEPTH + 0.0005, 0.0, 0.0, 0.0],
        ]
    )
    pushes = [[0.01, 0.01, -0.01, 0, 0, 0], [0.01, 0.005, 0.0, 0, 0, 0], [0.01, 0.0, -0.01, 0, 0, 0]]
    apart, touching = jax.jit(jax.vmap(play))(np.float32(starts), np.float32(starts + pushes))
    assert (touching.max(1) >= 4).all()
    assert apart.max() < 1e-4


# --- predicates -------------------------------------------------------------------------------------------------


def rotation(yaw, pitch, roll):
    def about(axis, angle):
        c, s = np.cos(angle), np.sin(angle)
        i, j = (axis + 1) % 3, (axis + 2) % 3
        matrix = np.eye(3)
        matrix[i, i], matrix[i, j], matrix[j, i], matrix[j, j] = c, -s, s, c
        return matrix

    return about(2, yaw) @ about(1, pitch) @ about(0, roll)


def hand_pose(tip=(0.0, 0.0, 0.0), angles=(0.0, 0.0, 0.0), length=LENGTH):
    """`qpos` that puts the tip there: (m), (yaw, pitch, roll in degrees)."""
    angles = np.deg2rad(angles)
    return np.concatenate([np.array(tip) + rotation(*angles) @ [0, 0, length], angles])


def seen_beside(env, socket_error):
    return Context(jax.tree.map(lambda x: x[0], env.parameters["fit"]), socket_error, jnp.zeros(()), jnp.zeros(0))


SOCKET = np.array([0.03, -0.02, 0.0])
ASSEMBLED = {
    "centre": hand_pose(),
    "full turn of yaw": hand_pose(angles=(360, 0, 0)),
    "at the depth tolerance": hand_pose((0, 0, 0.0009)),
    **{f"at the play {x:+d}{y:+d}": hand_pose((x * PLAY, y * PLAY, 0)) for x in (-1, 1) for y in (-1, 1)},
}
NOT_ASSEMBLED = {
    "too shallow by 2 mm": hand_pose((0, 0, 0.002)),
    "half-way": hand_pose((0, 0, 0.010)),
    "through the table": hand_pose((0, 0, -0.002)),
    "inside a wall": hand_pose((0.0005, 0, 0)),
    "inside a wall, diagonal": hand_pose((0.0002, -0.0005, 0)),
    "yawed by 10 degrees": hand_pose(angles=(10, 0, 0)),
    "yawed by -10 degrees": hand_pose(angles=(-10, 0, 0)),
    "turned by 180 degrees": hand_pose(angles=(180, 0, 0)),
    "turned by 180 degrees, by pitch and roll": hand_pose(angles=(0, 180, 180)),
    "pitched by 5 degrees": hand_pose(angles=(0, 5, 0)),
    "rolled by -5 degrees": hand_pose(angles=(0, 0, -5)),
}
FAR = {
    "beside the block, on the table": hand_pose((0.055, 0, 0)),
    "beside the block, diagonal": hand_pose((0.045, -0.045, 0)),
    "above the hole": hand_pose((0, 0, DEPTH + 0.010)),
    "at the mouth of the hole": hand_pose((0, 0, DEPTH + 0.0001)),
    "on the block": hand_pose((0.03, 0, DEPTH)),
    "on the block's rim, beside the hole": hand_pose((0.002, 0, DEPTH)),
    "inside a wall, 20 mm off": hand_pose((0.02, 0, 0)),
    "upside down by roll": hand_pose(angles=(0, 0, 180)),
    "upside down by pitch": hand_pose(angles=(0, 180, 0)),
    "lying across the hole": hand_pose(angles=(0, 90, 0)),
}


@pytest.fixture(scope="module")
def judge(env):
    """`qpos -> (strict, lenient)`, one world at a time, the hole seen where it is not."""

    def predicates(qpos):
        data = physics.init(env.model, qpos, ctrl=qpos, mocap_pos=jnp.asarray(SOCKET[None]))
        context = seen_beside(env, jnp.array([0.002, -0.002, 0.0]))
        return env.task.success(data, context), env.task.lenient(data, context)

    program = jax.jit(predicates)
    return lambda qpos: tuple(bool(x) for x in program(np.float32(qpos + np.append(SOCKET, [0, 0, 0]))))


@pytest.mark.parametrize("pose", ASSEMBLED)
def test_assembled_is_success(judge, pose):
    assert judge(ASSEMBLED[pose]) == (True, True)


@pytest.mark.parametrize("pose", NOT_ASSEMBLED)
def test_nearly_assembled_is_no_strict_success(judge, pose):
    assert not judge(NOT_ASSEMBLED[pose])[0]


@pytest.mark.parametrize("pose", FAR)
def test_elsewhere_is_no_success_of_either_kind(judge, pose):
    assert judge(FAR[pose]) == (False, False)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["peg_flat", "peg_tight"])
def test_other_pegs_are_judged_alike(envs, backend, name):
    env, peg = envs(name, backend), PEGS[name]

    def place(x=0.0, y=0.0, height=0.0, angles=(0, 0, 0)):
        return hand_pose((x, y, height), angles, peg.length)

    cases = {
        "assembled": (True, True, place()),
        "at the play": (True, True, place(peg.play, -peg.play)),
        "inside a wall": (False, True, place(1.5 * peg.play)),
        "too shallow": (False, True, place(height=0.06 * peg.depth)),
        "through the table": (False, True, place(height=-0.06 * peg.depth)),
        "tilted": (False, None, place(angles=(0, 5, 0))),
        "turned": (False, True, place(angles=(10, 0, 0))),
        "on the block": (False, False, place(0.02, height=peg.depth)),
        "above": (False, False, place(height=peg.depth + 0.001)),
        "beside": (False, False, place(0.05)),
        "upside down": (False, False, place(angles=(0, 180, 0))),
    }

    assert_judged(env, cases)


def test_success_must_be_held(env):
    """Assembled and left alone succeeds after `hold` steps; assembled and pulled, or shot through, does not."""
    key = jax.random.key(0)
    assembled = np.float32(hand_pose())
    lift = np.float32([0, 0, 1, 0, 0, 0])

    def play(qvel, ctrl_offset, action):
        world = episode.reset(env, key)
        data = physics.init(env.model, assembled, qvel=qvel, ctrl=assembled + ctrl_offset, mocap_pos=jnp.zeros((1, 3)))
        inside = env.task.success(data, world.context)
        world, frames = episode.advance(env, world.replace(data=data), jnp.tile(action, (10, 1)))
        return inside, world, frames

    still, pulled, shot = np.zeros(6, np.float32), 0.008 * lift, 0.3 * lift
    inside, world, frames = jax.jit(jax.vmap(play))(
        np.stack([still, still, shot]), np.stack([still, pulled, pulled]), np.stack([still, lift, lift])
    )
    assert inside.all(), "each starts in the assembled pose"
    np.testing.assert_array_equal(world.success, [True, False, False])
    np.testing.assert_array_equal(world.steps, [env.task.hold, 10, 10])
    np.testing.assert_array_equal(world.held, [env.task.hold, 0, 0])
    np.testing.assert_array_equal(frames.active.sum(1), world.steps)


# --- starts and observations ------------------------------------------------------------------------------------


def test_starts_stay_in_their_ranges(env):
    starts = jax.jit(jax.vmap(env.task.reset, (0, None)))(jax.random.split(jax.random.key(1), 1000), env.parameters)
    qpos, socket, error = (np.asarray(x) for x in (starts.qpos, starts.mocap_pos[:, 0], starts.context.socket_error))
    offset = qpos[:, :3] - socket - [0, 0, LENGTH + DEPTH + CLEARANCE_ABOVE]
    for drawn, half_range in (
        (socket[:, :2], STARTS.socket),
        (offset[:, :2], STARTS.lateral),
        (qpos[:, 3:], STARTS.angle),
        (error[:, :2], STARTS.socket_error),
    ):
        assert np.abs(drawn).max() <= half_range * (1 + 1e-5)
        assert (np.abs(drawn).max(0) > 0.95 * half_range).all(), "the whole range is used"
        assert (np.abs(drawn.mean(0)) < 0.1 * half_range).all()
    independent = np.corrcoef(np.concatenate([socket[:, :2], offset[:, :2], qpos[:, 3:], error[:, :2]], axis=1).T)
    assert np.abs(independent - np.eye(9)).max() < 0.15
    np.testing.assert_allclose(offset[:, 2], 0.0, atol=1e-7)
    np.testing.assert_array_equal(socket[:, 2], 0.0)
    np.testing.assert_array_equal(error[:, 2], 0.0)
    np.testing.assert_array_equal(starts.ctrl, qpos)


def test_observation_is_what_it_says(env):
    world = jax.jit(lambda key: episode.reset(env, key))(jax.random.key(2))
    parts = env.task.observe(world.data, world.context)
    assert set(parts) == set(env.task.observation)
    sizes = {"tip_position": 3, "tip_near_hole": 2, "hand_rotation": 3, "hand_velocity": 6, "target_lead": 6}
    assert {name: part.size for name, part in parts.items()} == sizes
    assert world.obs.shape == (20,) and world.obs.dtype == jnp.float32

    qpos = np.float64(world.data.qpos)
    tip = qpos[:3] - rotation(*qpos[3:]) @ [0, 0, LENGTH]
    seen_hole = np.asarray(world.data.mocap_pos[0] + world.context.socket_error)
    np.testing.assert_allclose(parts["tip_position"], tip - seen_hole, atol=1e-6)
    np.testing.assert_allclose(parts["tip_near_hole"], np.clip(tip - seen_hole, -0.004, 0.004)[:2], atol=1e-6)
    np.testing.assert_allclose(parts["hand_rotation"], qpos[3:])

    data = physics.step(env.model, world.data, world.data.ctrl + 0.005, 10)
    parts = env.task.observe(data, world.context)
    assert np.abs(data.qvel).min() > 0
    np.testing.assert_array_equal(parts["hand_velocity"], data.qvel)
    np.testing.assert_array_equal(parts["target_lead"], data.ctrl - data.qpos)


def test_true_hole_is_not_in_the_observation(env):
    """Two worlds that look alike look alike until the plug touches, wherever the hole really is."""
    task = env.task
    start = task.reset(jax.random.key(3), env.parameters)
    seen = start.mocap_pos[0] + start.context.socket_error
    actions = jax.random.uniform(jax.random.key(4), (4, 6), minval=-1.0)

    def look(error):
        data = physics.init(env.model, start.qpos, ctrl=start.ctrl, mocap_pos=(seen - error)[None])
        context = seen_beside(env, error)
        world = episode.reset(env, jax.random.key(3)).replace(data=data, context=context)
        world, frames = episode.advance(env, world, actions)
        return jnp.concatenate([frames.obs, world.obs[None]]), world

    errors = np.float32([[0.002, -0.002, 0], [-0.002, 0.001, 0], [0, 0, 0]])
    obs, worlds = jax.jit(jax.vmap(look))(errors)
    np.testing.assert_allclose(obs, np.broadcast_to(obs[:1], obs.shape), atol=1e-7)
    far = slice(3, 5)  # the clipped view of the hole stands still out there
    assert np.ptp(np.delete(obs[0], far, axis=1), axis=0).min() > 1e-6, "the hand moved meanwhile"
    np.testing.assert_array_equal(worlds.context.socket_error, errors)
    np.testing.assert_allclose(worlds.privileged[:, :2], errors[:, :2])
    assert obs.shape[-1] == task.observed(jax.tree.map(lambda x: x[0], worlds.data), start.context).size


# --- demonstrators ----------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "low", "high"), [("script", 0.10, 0.40), ("strong_script", 0.90, 1.0)], ids=["imperfect", "strong"]
)
def test_script_succeeds_as_often_as_it_should(env, script, low, high):
    agent = Agent(script, rollout.policy_from_script(getattr(env.task, script)))
    worlds = jax.jit(lambda key: rollout.play(env, agent, key, 256))(jax.random.key(5))
    assert low <= worlds.success.mean() <= high
    assert not worlds.diverged.any()
    assert (worlds.lenient | ~worlds.success).all(), "strict success implies lenient success"
    final = {
        k: np.asarray(v)[worlds.success] for k, v in jax.vmap(env.task.final_pose)(worlds.data, worlds.context).items()
    }
    assert max(final["lateral_error_x"].max(), final["lateral_error_y"].max()) < 1.1 * PLAY
    assert np.abs(final["height_above_bottom"]).max() < 0.001
    assert final["tilt"].max() < np.deg2rad(3)
