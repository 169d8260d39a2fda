"""Randomisation on the table: what is drawn, and how things are seen: beside their place, late, jittering, or not."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from expertgen_jax.sim import episode
from expertgen_jax.tasks.registry import FAMILIES, load_task
from expertgen_jax.tasks.tabletop import family, gripping
from expertgen_jax.tasks.tabletop.randomization import RANDOMIZATIONS, Eyes

STEPS = 30
STRONG = RANDOMIZATIONS["strong"]


def starts(env, count=300):
    return jax.jit(jax.vmap(lambda k: episode.reset(env, k)))(jax.random.split(jax.random.key(0), count))


def watched(ranges, count=64):
    """The pear while the hand rises: the episodes of `count` worlds `[count, STEPS + 1, ...]`, and where it was."""
    task = load_task("push_pear")
    eyes = Eyes(task.scene().compile(), ranges, gripping.CONTROL_DT, ("object", "mark"))
    env = episode.make_env(family.seen_by(task, eyes), "native")

    def watch(key):
        def step(world, _):
            after, _ = episode.advance(env, world, jnp.zeros((1, 7)).at[0, 2].set(1.0))
            return after, (after.context, after.data.xpos[eyes.bodies])

        first = episode.reset(env, key)
        first = first.replace(data=first.data.replace(qvel=first.data.qvel.at[8].set(0.2)))  # it rolls
        _, later = jax.lax.scan(step, first, None, length=STEPS)
        begun = first.context, first.data.xpos[eyes.bodies]
        return jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), begun, later)

    return jax.jit(jax.vmap(watch))(jax.random.split(jax.random.key(0), count))


def test_things_are_seen_where_they_are_without_errors():
    context, truth = watched(RANDOMIZATIONS["off"])
    np.testing.assert_allclose(context.reported.pos, truth, atol=1e-6)
    assert np.abs(np.diff(truth[:, :, 0], axis=1)).max() > 0.005


def test_late_reports_are_the_truth_of_before():
    context, truth = watched(dataclasses.replace(RANDOMIZATIONS["off"], late=2))
    late = np.asarray(context.late)[:, 0]
    assert set(late.tolist()) == {0, 1, 2}
    for by in (1, 2):
        np.testing.assert_allclose(context.reported.pos[late == by, by:], truth[late == by, :-by], atol=1e-6)
        np.testing.assert_allclose(context.reported.pos[late == by, 0], truth[late == by, 0], atol=1e-6)


def test_a_dropped_report_leaves_the_last_one_standing():
    context, _ = watched(dataclasses.replace(RANDOMIZATIONS["off"], jitter=(0.001, 0.01), dropped=0.3))
    reported = np.asarray(context.reported.pos)
    stands = (reported[:, 1:] == reported[:, :-1]).all((2, 3))
    assert 0.25 < stands.mean() < 0.35


def test_errors_are_constant_and_jittering():
    ranges = dataclasses.replace(STRONG, late=0, dropped=0.0)
    context, truth = watched(ranges, 256)
    error = np.asarray(context.reported.pos - truth)[..., :2]
    constant = error.mean(1)
    assert np.abs(constant).max() < ranges.beside[0] + 0.002 and np.abs(constant).max() > 0.9 * ranges.beside[0]
    assert (error - constant[:, None]).std() == pytest.approx(ranges.jitter[0], rel=0.1)
    assert (np.asarray(context.reported.pos - truth)[..., 2] == 0).all()


def test_velocity_is_the_difference_of_what_was_seen():
    task = load_task("push_pear", "strong")
    env = episode.make_env(task, "native")
    world = episode.reset(env, jax.random.key(0))
    for _ in range(3):
        world, _ = jax.jit(lambda w: episode.advance(env, w, jnp.zeros((1, 7))))(world)
    seen = task.observe(world.data, world.context)
    difference = world.context.reported.pos[0] - world.context.before.pos[0]
    np.testing.assert_allclose(seen["object_velocity"], difference / task.control_dt, atol=1e-6)
    hand = world.data.qpos[:3]
    np.testing.assert_allclose(seen["object_position"], world.context.reported.pos[0] - hand, atol=1e-6)
    np.testing.assert_allclose(seen["from_mark"], (world.context.reported.pos[0] - world.context.reported.pos[1])[:2])


def test_a_drawers_handle_is_seen_where_drawer_and_cabinet_are_seen():
    task = load_task("open_drawer", "strong")
    env = episode.make_env(task, "native")
    world = episode.reset(env, jax.random.key(0))
    seen, truth = task.observe(world.data, world.context), load_task("open_drawer").observe(world.data, ())
    assert seen["opening"] >= 0 and abs(float(seen["opening"][0] - truth["opening"][0])) < 0.02
    off = np.linalg.norm(seen["handle_position"] - truth["handle_position"])
    assert 0.0001 < off < 0.05


def test_physics_is_drawn_from_its_ranges():
    env = episode.make_env(load_task("stack_banana", "strong"), "native")
    worlds, mj = starts(env), env.model.mj
    drawn = {
        "friction": worlds.fields["geom_friction"][:, 0, 0] / mj.geom_friction[0, 0],
        "stiffness": worlds.fields["actuator_gainprm"][:, 0, 0] / mj.actuator_gainprm[0, 0],
        "grip": worlds.fields["actuator_forcerange"][:, 6, 1] / mj.actuator_forcerange[6, 1],
        "mass": worlds.fields["body_mass"][:, mj.body("object").id] / mj.body("object").mass[0],
    }
    for name, values in drawn.items():
        low, high = getattr(STRONG, name)
        assert low <= values.min() + 1e-5 and values.max() <= high + 1e-5 and np.ptp(values) > 0.9 * (high - low), name
    can, banana = (mj.body(name).id for name in ("can", "object"))
    mass, inertia = worlds.fields["body_mass"], worlds.fields["body_inertia"]
    np.testing.assert_allclose(
        inertia[:, can] / mj.body_inertia[can], (mass[:, can] / mj.body_mass[can])[:, None] * np.ones(3), rtol=1e-5
    )
    assert np.abs(np.corrcoef(mass[:, can], mass[:, banana])[0, 1]) < 0.2
    np.testing.assert_array_equal(
        worlds.fields["actuator_gainprm"][:, 6:], np.tile(np.float32(mj.actuator_gainprm[6:]), (300, 1, 1))
    )
    assert set(worlds.delays[:, 1].tolist()) == {0, 1, 2} and not worlds.delays[:, 0].any()


@pytest.mark.parametrize("name", FAMILIES["tabletop"])
def test_success_is_judged_by_the_truth(name):
    off, strong = load_task(name), load_task(name, "strong")
    assert off.success is not strong.success  # of two scenes of its own
    env = episode.make_env(strong, "native")
    worlds = starts(env, 8)
    judged = jax.jit(jax.vmap(strong.success))(worlds.data, worlds.context)
    np.testing.assert_array_equal(judged, jax.vmap(lambda data: off.success(data, ()))(worlds.data))
    assert worlds.obs.shape[1] == episode.sizes(episode.make_env(off, "native"))[0] + 2 * off.action_size
