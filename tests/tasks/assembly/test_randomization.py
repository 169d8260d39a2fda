"""Domain randomisation: in its ranges, off when it is off, and consistent with the rules of success."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pressing import BACKENDS

from expertgen_jax.errors import UserError
from expertgen_jax.sim import episode, physics
from expertgen_jax.tasks import registry
from expertgen_jax.tasks.assembly import shapes
from expertgen_jax.tasks.assembly.randomization import RANDOMIZATIONS
from expertgen_jax.tasks.assembly.shapes import SHAPES


def starts(task, count=400):
    env = episode.make_env(task, "native")
    keys = jax.random.split(jax.random.key(0), count)
    return env, jax.jit(jax.vmap(lambda k: episode.reset(env, k)))(keys)


@pytest.fixture(scope="module", params=["peg", "block_on_rail"])
def strong(request):
    return starts(registry.load_task(request.param, "strong"))


def assert_fills(values, low, high):
    span = high - low
    assert values.min() >= low - 1e-4 * span and values.max() <= high + 1e-4 * span
    assert values.min() < low + 0.1 * span and values.max() > high - 0.1 * span


def test_strong_draws_from_its_ranges(strong):
    env, worlds = strong
    ranges, mj, fields = RANDOMIZATIONS["strong"], env.model.mj, worlds.fields
    plug = mj.body("plug").id
    assert_fills(fields["geom_friction"][:, 0, 0], *ranges.friction)
    assert (np.ptp(fields["geom_friction"][:, :, 0], axis=1) == 0).all()
    assert_fills(fields["actuator_gainprm"][:, 0, 0] / mj.actuator_gainprm[0, 0], *ranges.stiffness)
    np.testing.assert_allclose(fields["actuator_gainprm"][:, :, 0], -fields["actuator_biasprm"][:, :, 1])
    mass = 0.086 if "block_on_rail" in env.task.variants else 0.02
    assert_fills(fields["body_mass"][:, plug] / mass, *ranges.mass)
    assert_fills(fields["body_pos"][:, plug, 0] - mj.body_pos[plug, 0], -ranges.held_beside, ranges.held_beside)
    np.testing.assert_allclose(np.linalg.norm(fields["body_quat"][:, plug], axis=1), 1, atol=1e-6)
    angle = 2 * np.arcsin(np.abs(fields["body_quat"][:, plug, 1:]).max(1))
    assert 0.7 * ranges.held_turned < angle.max() < 1.01 * ranges.held_turned
    nominal = registry.load_task(env.task.name).parameters["fit"]
    assert_fills(worlds.context.fit.play / nominal.play[0], *ranges.play)
    np.testing.assert_allclose(
        worlds.context.fit.lateral_tolerance[:, 0] / nominal.lateral_tolerance[0, 0],
        worlds.context.fit.play / nominal.play[0],
        rtol=1e-5,
    )


def test_off_leaves_the_model_alone():
    _, worlds = starts(registry.load_task("peg"), 4)
    assert worlds.fields == {}
    _, worlds = starts(registry.load_task("block_on_rail"), 4)
    assert {name: np.ptp(values, axis=0).max() for name, values in worlds.fields.items()} == dict.fromkeys(
        worlds.fields, 0.0
    )


def test_play_moves_the_walls_as_the_compiler_would():
    wider = dataclasses.replace(SHAPES["pin_in_hub"], play=1.5 * SHAPES["pin_in_hub"].play)
    (nominal, per_play), i = shapes._fields(), list(SHAPES).index("pin_in_hub")
    mj = shapes._scene(wider).compile()
    for name in ("geom_pos", "geom_size", "geom_rbound", "geom_aabb"):
        np.testing.assert_allclose(nominal[name][i] + 0.5 * per_play[name][i], getattr(mj, name), atol=1e-7)


def test_a_plug_held_beside_its_place_is_not_seen_there(strong):
    env, worlds = strong
    tip = worlds.data.site_xpos[:, env.model.mj.site("tip").id]
    held = worlds.fields["body_pos"][:, env.model.mj.body("plug").id] - env.model.mj.body("plug").pos
    seen = jax.vmap(env.task.observe)(worlds.data, worlds.context)["tip_position"]
    true = tip - worlds.data.mocap_pos[:, 0] - worlds.context.socket_error
    true = true.at[:, :2].add(-worlds.context.errors.place)
    assert np.abs(held).max() > 0.002
    drawn = 3 + worlds.context.drawn.shape[1]  # behind the errors of what is seen
    critic = worlds.privileged[:, drawn : drawn + 3]  # in world axes
    np.testing.assert_allclose(np.linalg.norm(critic, axis=1), np.linalg.norm(held, axis=1), atol=1e-5)
    leaning = np.linalg.norm(worlds.privileged[:, drawn + 3 : drawn + 6], axis=1)
    assert 0.7 * RANDOMIZATIONS["strong"].held_turned < leaning.max() < 1.5 * RANDOMIZATIONS["strong"].held_turned
    np.testing.assert_allclose(np.linalg.norm(true - seen, axis=1), np.linalg.norm(held, axis=1), atol=1e-5)


def test_the_plugs_inertia_goes_with_its_mass(strong):
    env, worlds = strong
    plug = env.model.mj.body("plug").id
    heavier = worlds.fields["body_mass"][:, plug] / worlds.fields["body_mass"][:, plug].mean()
    rounder = worlds.fields["body_inertia"][:, plug, 0] / worlds.fields["body_inertia"][:, plug, 0].mean()
    np.testing.assert_allclose(heavier, rounder, rtol=1e-4)


def test_critics_see_what_was_drawn_and_the_delays(strong):
    _, worlds = strong
    ranges = RANDOMIZATIONS["strong"]
    friction, stiffness, mass, play = worlds.context.drawn.T
    low, high = ranges.friction
    np.testing.assert_allclose(
        worlds.fields["geom_friction"][:, 0, 0], low + (friction + 1) / 2 * (high - low), rtol=1e-5
    )
    for values in (friction, stiffness, mass, play):
        assert_fills(np.asarray(values), -1.0, 1.0)
    np.testing.assert_array_equal(worlds.privileged[:, 3:7], worlds.context.drawn)
    np.testing.assert_array_equal(worlds.privileged[:, -2:], worlds.delays)


def test_sensors_err_anew_at_every_step_around_a_constant_bias(strong):
    env, worlds = strong
    still = jnp.zeros((4, 6))

    @jax.jit
    def errors(world):
        def step(world, action):
            world, _ = episode.advance(env, world, action[None])
            return world, world.context.errors

        return jax.lax.scan(step, world, still)[1]

    seen = jax.vmap(errors)(worlds)
    ranges = RANDOMIZATIONS["strong"]
    assert np.std(seen.place) == pytest.approx(ranges.seen_jitter[0], rel=0.1)
    assert np.std(seen.yaw) == pytest.approx(ranges.seen_jitter[1], rel=0.1)
    force = np.asarray(seen.wrench - seen.bias)[..., :3]
    assert force.std() == pytest.approx(ranges.force_noise, rel=0.1)
    assert np.asarray(seen.bias)[:, 0, :3].std() == pytest.approx(ranges.force_bias, rel=0.1)
    assert (np.ptp(seen.bias, axis=1) == 0).all() and (np.ptp(seen.place, axis=1) > 0).all()


def test_actions_under_way_are_seen(strong):
    env, worlds = strong
    actions = jax.random.uniform(jax.random.key(0), (3, 6), minval=-1.0)
    after, _ = jax.jit(lambda w: episode.advance(env, w, actions))(jax.tree.map(lambda x: x[0], worlds))
    np.testing.assert_allclose(after.obs[-12:], actions[:0:-1].ravel())


def test_delays_are_drawn_and_executed(strong):
    env, worlds = strong
    most = RANDOMIZATIONS["strong"].max_delay
    for which in (0, 1):
        assert set(worlds.delays[:, which].tolist()) == set(range(most + 1))
    actions = jnp.tile(jnp.array([1.0, 0, 0, 0, 0, 0]), (1, 1))
    moved = jax.jit(jax.vmap(lambda w: episode.advance(env, w, actions)[0]))(worlds)
    at_once = np.asarray(worlds.delays[:, 1]) == 0
    np.testing.assert_array_equal(np.asarray(moved.data.ctrl[:, 0] != worlds.data.ctrl[:, 0]), at_once)


@pytest.mark.parametrize("backend", BACKENDS)
def test_randomised_worlds_step(backend):
    env = episode.make_env(registry.load_task("peg", "default"), backend)

    def play(key):
        world = episode.reset(env, key)
        return physics.step(physics.with_fields(env.model, world.fields), world.data, world.data.ctrl, 10)

    data = jax.jit(jax.vmap(play))(jax.random.split(jax.random.key(1), 8))
    assert np.isfinite(data.qpos).all()


def test_a_task_file_randomises_itself(tmp_path):
    with pytest.raises(UserError, match="in its own `reset`"):
        registry.load_task(str(tmp_path / "mine.py"), "strong")
