"""What carries a gripper: the same pose, targets and actions for the hand and the arm; the arm within its limits."""

import functools
import itertools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from expertgen_jax.scenes import panda
from expertgen_jax.sim import episode, physics, robots
from expertgen_jax.tasks import joints
from expertgen_jax.tasks.joints import JOINT_RANDOMIZATIONS
from expertgen_jax.tasks.registry import load_task
from expertgen_jax.tasks.tabletop import gripping

ROBOTS = ("hand", "panda")
POSE = np.float32([0.1, -0.12, 0.2, 0.8, 0.06, -0.05])


@functools.cache
def table(name: str):
    """The gripper's scene with a robot on the C engine."""
    return physics.load(gripping.scene(name).compile(), "native")


def at_rest(name: str, pose=POSE):
    model = table(name)
    robot = robots.of(model.mj)
    qpos, ctrl = robot.start(jnp.asarray(pose))
    fingers = jnp.zeros(2)
    return model, robot, physics.init(model, jnp.append(qpos, fingers), ctrl=jnp.append(ctrl, fingers))


@pytest.mark.parametrize("name", ROBOTS)
def test_starts_at_rest_where_it_is_put(name):
    model, robot, data = at_rest(name)
    np.testing.assert_allclose(robot.pose(data), POSE, atol=2e-6)
    np.testing.assert_allclose(robot.target(data), POSE, atol=2e-6)
    np.testing.assert_allclose(robot.pose_at(data.qpos), POSE, atol=2e-6)
    assert (robot.joints + 2, robot.commands + 2) == (model.mj.nq, model.mj.nu)
    data = physics.step(model, data, data.ctrl, 200)
    np.testing.assert_allclose(robot.pose(data), POSE, atol=1e-4)
    np.testing.assert_allclose(robot.velocity(data), 0, atol=1e-3)


@pytest.mark.parametrize("name", ROBOTS)
@pytest.mark.parametrize("axis", range(6))
def test_actions_move_it_along_its_axes(name, axis):
    """For a second by a little; where it then stands is where its target is."""
    model, robot, data = at_rest(name)
    action = 0.1 * jnp.eye(6)[axis]
    for _ in range(20):
        data = physics.step(model, data, robot.move(data, action, gripping.STEP_SIZES, gripping.LEADS), 10)
    for _ in range(60):
        data = physics.step(model, data, robot.move(data, 0 * action, gripping.STEP_SIZES, gripping.LEADS), 10)
    np.testing.assert_allclose(robot.target(data) - POSE, 20 * action * gripping.STEP_SIZES, atol=1e-3)
    np.testing.assert_allclose(robot.pose(data), robot.target(data), atol=5e-3)


@pytest.mark.parametrize("name", ROBOTS)
def test_velocity_is_how_fast_the_pose_changes(name):
    model, robot, data = at_rest(name)
    action = jnp.float32([0.5, -0.3, 0.4, 0.3, 0.2, -0.2])
    for _ in range(3):
        data = physics.step(model, data, robot.move(data, action, gripping.STEP_SIZES, gripping.LEADS), 10)
    after = physics.step(model, data, data.ctrl, 1)
    change = (robot.pose_at(after.qpos) - robot.pose_at(data.qpos)) / model.timestep
    np.testing.assert_allclose(robot.velocity(after), change, atol=0.01)
    assert np.abs(change).max() > 0.1


@pytest.mark.parametrize("name", ROBOTS)
def test_towards_is_the_action_that_goes_there(name):
    _, robot, data = at_rest(name)
    goal = jnp.asarray(POSE) + jnp.float32([0.001, -0.002, 0.0005, 0.01, -0.004, 0.006])  # the arm slows larger steps
    action = robots.towards(robot, data, goal, gripping.STEP_SIZES)
    ctrl = robot.move(data, action, gripping.STEP_SIZES, gripping.LEADS)
    np.testing.assert_allclose(robot.target(data.replace(ctrl=ctrl)), goal, atol=1e-5)


def test_the_arm_turns_no_further_than_its_wrist():
    model, robot, data = at_rest("panda")
    for _ in range(120):
        data = physics.step(model, data, robot.move(data, jnp.eye(6)[3], gripping.STEP_SIZES, gripping.LEADS), 10)
    assert robot.target(data)[3] <= robots.FARTHEST_TURN + 1e-5
    np.testing.assert_allclose(robot.pose(data)[3], robots.FARTHEST_TURN, atol=0.05)


def test_the_hand_presses_as_hard_with_either_robot():
    """An open gripper pushed onto the table: the stiffness times the lead."""
    for name in ROBOTS:
        model, robot, data = at_rest(name, np.float32([0.0, 0, 0.03, 0, 0, 0]))
        for _ in range(60):
            down = jnp.float32([0, 0, -1, 0, 0, 0])
            data = physics.step(model, data, robot.move(data, down, gripping.STEP_SIZES, gripping.LEADS), 10)
        mj = mujoco.MjData(model.mj)
        mj.qpos[:], mj.qvel[:], mj.ctrl[:] = data.qpos, data.qvel, data.ctrl
        mujoco.mj_forward(model.mj, mj)
        wrench, force = np.zeros(6), 0.0
        for i in range(mj.ncon):
            mujoco.mj_contactForce(model.mj, mj, i, wrench)
            force += wrench[0]
        assert 20 < force < 30, name


def test_the_arm_feels_what_pushes_its_tool():
    """At rest: what its joints' torques tell is what the engine applies; and nothing where nothing does."""
    mj = gripping.scene("panda").compile()
    robot, data = robots.of(mj), mujoco.MjData(mj)
    qpos, ctrl = robot.start(jnp.asarray(POSE))
    data.qpos[:7], data.ctrl[: robot.commands] = qpos, ctrl
    for wrench in np.float32([[0] * 6, [6, -4, 3, 0.3, 0.2, -0.1], [0, 0, -8, 0, 0.5, 0]]):
        data.xfrc_applied[mj.body("hand").id] = 0
        at_tool = mj.body("hand").id
        data.xfrc_applied[at_tool, :3] = wrench[:3]
        for _ in range(800):
            # MuJoCo applies it at the centre of mass.
            arm = data.xpos[at_tool] - data.xipos[at_tool]
            data.xfrc_applied[at_tool, 3:] = wrench[3:] + np.cross(arm, wrench[:3])
            mujoco.mj_step(mj, data)
        fields = ("qpos", "qvel", "sensordata", "xpos")
        seen = SimpleNamespace(**{name: jnp.float32(getattr(data, name)) for name in fields})
        seen.xmat = jnp.float32(data.xmat).reshape(-1, 3, 3)
        felt = robot.sense(seen)
        np.testing.assert_allclose(felt["external_wrench"], wrench, atol=0.02)
        np.testing.assert_allclose(felt["joint_position"], data.qpos[:7], atol=1e-6)


def test_an_arms_joints_rub_and_a_hand_has_none():
    ranges, keys = JOINT_RANDOMIZATIONS["strong"], jax.random.split(jax.random.key(0), 400)

    def drawn(name):
        mj = joints.rubbing(functools.partial(gripping.scene, name), ranges)().compile()
        fields, places = jax.vmap(lambda key: joints.draw(mj, ranges, {}, key))(keys)
        return mj, fields, np.array(places).T

    _, fields, places = drawn("hand")
    assert fields == {} and not places.size
    mj, fields, places = drawn("panda")
    for values, bounds, place in (
        (fields["dof_frictionloss"], ranges.friction, places[:, 0]),
        (fields["dof_damping"] / np.maximum(mj.dof_damping, 1e-9), ranges.damping, places[:, 1]),
    ):
        assert (np.ptp(values[:, :7], axis=1) == 0).all(), "of all joints alike"
        np.testing.assert_allclose(values[:, 0], np.interp(place, (-1, 1), bounds), atol=1e-5)
        assert np.ptp(values[:, 0]) > 0.95 * np.ptp(bounds)
    assert not fields["dof_frictionloss"][:, 7:].any(), "fingers do not rub"
    np.testing.assert_array_equal(fields["dof_damping"][:, 7:], np.broadcast_to(mj.dof_damping[7:], (400, mj.nv - 7)))


@functools.cache
def at_random(name: str, backend: str, worlds: int, steps: int):
    """`qpos, qvel [worlds, substeps, 7]` of the arm at random actions, and its commands; and the model."""
    env = episode.make_env(load_task(name, robot="panda"), backend)

    def play(key):
        reset_key, way_key, action_key = jax.random.split(key, 3)
        # A constant part leads into the corners of the workspace.
        way = jax.random.uniform(way_key, (env.task.action_size,), minval=-1.0)

        def substep(data, ctrl):
            new = physics.step(env.model, data, ctrl, 1)
            return new, (data.qpos, data.qvel, ctrl)

        def control_step(data, key):
            ctrl = env.task.control(data, jnp.clip(way + jax.random.normal(key, way.shape), -1.0, 1.0))
            return jax.lax.scan(substep, data, jnp.tile(ctrl, (env.nstep, 1)))

        data = episode.reset(env, reset_key).data
        return jax.lax.scan(control_step, data, jax.random.split(action_key, steps))[1]

    program = jax.jit(jax.vmap(play), compiler_options=physics.compiler_options(env.model) or None)
    paths = program(jax.random.split(jax.random.key(1), worlds))
    return env.model.mj, *(np.float64(x).reshape(worlds, steps * env.nstep, -1) for x in paths)


SCENES = [
    ("peg", "native", 80, 128),  # 10,240 control steps
    ("lift_brick", "native", 80, 128),
    ("open_drawer", "native", 80, 128),
    pytest.param("lift_brick", "mjx", 16, 40, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("name", "backend", "worlds", "steps"), SCENES)
def test_the_arm_stays_within_its_limits(name, backend, worlds, steps):
    mj, qpos, qvel, ctrl = at_random(name, backend, worlds, steps)
    assert np.isfinite(qpos).all() and np.isfinite(qvel).all()
    low, high = panda.POSITION_LIMITS.T
    assert ((qpos[..., :7] > low) & (qpos[..., :7] < high)).all()
    assert (np.abs(qvel[..., :7]) < panda.VELOCITY_LIMITS).all(), (np.abs(qvel[..., :7]) / panda.VELOCITY_LIMITS).max()
    data, torques = mujoco.MjData(mj), np.zeros((4, qpos.shape[1], 7))
    changes = np.zeros_like(torques)
    for world, i in itertools.product(range(4), range(qpos.shape[1])):
        data.qpos[:], data.qvel[:], data.ctrl[:] = qpos[world, i], qvel[world, i], ctrl[world, i]
        mujoco.mj_forward(mj, data)
        # What motors have to do; of damping and gravity compensation too.
        torques[world, i] = data.qfrc_actuator[:7] + data.qfrc_passive[:7]
        data.ctrl[:] = ctrl[world, max(i - 1, 0)]
        mujoco.mj_forward(mj, data)
        changes[world, i] = torques[world, i] - data.qfrc_actuator[:7] - data.qfrc_passive[:7]
    assert (np.abs(torques) < panda.TORQUE_LIMITS).all(), (np.abs(torques) / panda.TORQUE_LIMITS).max()
    rates = np.abs(changes).max((0, 1)) / mj.opt.timestep
    assert (rates < panda.TORQUE_RATE_LIMIT).all(), rates


@pytest.mark.parametrize("backend", ["native", "mjx"])
def test_only_a_chain_on_mjx_asks_the_compiler_for_something(backend):
    asked = {
        name: physics.compiler_options(episode.make_env(load_task("peg", robot=name), backend).model) for name in ROBOTS
    }
    assert not asked["hand"]
    old = jax.default_backend() == "cpu" and jax.__version_info__ < (0, 12)
    assert bool(asked["panda"]) == (backend == "mjx" and old)
