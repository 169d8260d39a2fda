"""Students: what they perceive, remember and predict."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from expertgen_jax import bounds
from expertgen_jax.errors import UserError
from expertgen_jax.learning import student
from expertgen_jax.learning.student import Eyes, Percept, StudentConfig
from expertgen_jax.vision.appearance import VISUAL_RANDOMIZATIONS, VisualRandomization

OFF = VISUAL_RANDOMIZATIONS["off"]
SMALL = StudentConfig(image_size=16, points=32, hidden=(32,))
SEEN = {"depth": (3, 16, 16, 1), "rgb": (3, 16, 16, 3), "points": (32, 3), "state": (0,), "blank": (0,)}
CHUNK = (4, 6)


@pytest.fixture(scope="module")
def env(envs):
    return envs("peg", "native")


def perceive(eyes, memory, world, key):
    return jax.jit(eyes.perceive)(memory, world, jax.random.key(key))


def begin(eyes):
    return jax.jit(eyes.init)(jax.random.key(0))


def config(modality, **changes):
    return dataclasses.replace(SMALL, modality=modality, **changes)


@pytest.mark.slow
@pytest.mark.parametrize("modality", SEEN)
def test_percepts_have_their_shapes_and_a_student_acts_on_them(env, world, modality):
    eyes = Eyes(env, config(modality, history=2), OFF)
    memory = perceive(eyes, begin(eyes), world, 1)
    assert memory.percepts.seen.shape == (2, *SEEN[modality])
    assert np.isfinite(memory.percepts.felt).all() and np.isfinite(memory.percepts.seen).all()
    fresh = student.untrained(eyes.config, memory.percepts, CHUNK, 5, jax.random.key(2))
    actions = student.act(fresh, memory.percepts, jax.random.key(3))
    assert actions.shape == CHUNK and (jnp.abs(actions) <= 1).all()


@pytest.mark.slow
@pytest.mark.parametrize("modality", ["depth", "rgb", "points", "blank"])
def test_where_the_socket_is_shows_in_pictures_only(env, world, modality):
    eyes = Eyes(env, config(modality), OFF)

    def look(world):
        return perceive(eyes, begin(eyes), world, 1).percepts

    data = env.task.reset(jax.random.key(9), env.parameters)
    elsewhere = world.data.mocap_pos + jnp.array([0.03, 0.0, 0.0])
    socket = env.model.mj.body("socket").id
    moved = world.data.replace(mocap_pos=elsewhere, xpos=world.data.xpos.at[socket].set(elsewhere[0]))
    one, other = look(world), look(world.replace(data=moved, context=data.context))
    np.testing.assert_array_equal(one.felt, other.felt)
    changed = np.abs(one.seen - other.seen) > 1e-4
    assert not changed.size if modality == "blank" else changed.mean() > 0.02


@pytest.mark.slow
def test_memory_keeps_the_newest_percepts_first(env, world):
    eyes = Eyes(env, config("depth", history=3), OFF)

    def at(step):
        return world.replace(steps=jnp.int32(4 * step), data=world.data.replace(qpos=jnp.full(6, float(step))))

    memory = begin(eyes)
    for step in range(4):
        memory = perceive(eyes, memory, at(step), step)
        if step == 0:
            np.testing.assert_array_equal(memory.percepts.felt[:, 0], [0, 0, 0])
            assert (memory.percepts.seen[2] > 0).all(), "the first percept fills the memory"
    np.testing.assert_array_equal(memory.percepts.felt[:, 0], [3, 2, 1])


@pytest.mark.slow
def test_a_late_picture_is_the_one_before(env, world):
    eyes = Eyes(env, config("depth"), VisualRandomization(stale=1.0, noise=0.01))
    first = perceive(eyes, begin(eyes), world, 1)
    assert (first.percepts.seen > 0).any(), "the first is never late"
    second = perceive(eyes, first, world.replace(steps=jnp.int32(4)), 2)
    np.testing.assert_array_equal(second.percepts.seen, first.percepts.seen)


@pytest.mark.slow
def test_points_are_in_the_frame_of_the_workspace(env, world):
    eyes = Eyes(env, config("points", points=256), OFF)
    cloud = perceive(eyes, begin(eyes), world, 1).percepts.seen[0]
    box = env.task.senses.workspace
    middle = (np.array(box.low) + np.array(box.high)) / 2
    empty = np.isclose(cloud, middle).all(-1)
    assert ((cloud >= np.array(box.low)) & (cloud <= np.array(box.high))).all() and not empty.all()
    # The plug's tip: a square of 10 mm around the hand's axis.
    assert (np.abs(cloud[:, :2]).max(1) < 0.0101).mean() > 0.1


def test_statistics_normalise_what_is_felt_and_seen():
    rng = np.random.default_rng(0)
    felt = rng.normal(3.0, 2.0, (400, 2, 5))
    pictures = rng.normal([[[[1.0]]], [[[9.0]]]], 0.5, (400, 2, 2, 8, 8, 1))
    mean, std = student.statistics(config("rgb"), Percept(jnp.float32(felt), jnp.float32(pictures)))
    np.testing.assert_allclose(mean.felt, 3.0, atol=0.3)
    np.testing.assert_allclose(std.felt, 2.0, atol=0.2)
    np.testing.assert_allclose(mean.seen.ravel(), [1.0, 9.0], atol=0.02)
    np.testing.assert_allclose(std.seen.ravel(), 0.5, atol=0.02)


def test_depth_is_normalised_by_pixel_and_holes_tell_nothing():
    """What lies on a table stands out from it, however far the table is from its edge to the other."""
    rng = np.random.default_rng(0)
    table = np.linspace(0.4, 0.9, 8)[:, None, None]
    depth = table + rng.normal(0.0, 0.02, (500, 1, 1, 8, 8, 1))
    holes = rng.uniform(size=depth.shape) < 0.2
    seen = Percept(jnp.zeros((500, 1, 2)), jnp.float32(np.where(holes, 0.0, depth)))
    mean, std = student.statistics(config("depth"), seen)
    np.testing.assert_allclose(mean.seen, np.broadcast_to(table, (1, 8, 8, 1)), atol=5e-3)
    np.testing.assert_allclose(std.seen, 0.02, rtol=0.2)
    learner = student.untrained(config("depth"), jax.tree.map(lambda x: x[0], seen), CHUNK, 5, jax.random.key(0))
    normal = student._normalized(learner.replace(mean=mean, std=std), jax.tree.map(lambda x: x[0], seen)).seen
    assert (np.asarray(normal)[holes[0]] == 0).all() and 0.7 < np.asarray(normal)[~holes[0]].std() < 1.3


@pytest.mark.slow
@pytest.mark.parametrize(("modality", "shape"), [("depth", (1, 8, 8, 1)), ("points", (16, 3))])
@pytest.mark.parametrize("head", ["regression", "diffusion"])
def test_a_student_learns_from_what_it_sees(modality, shape, head):
    """The action is where a blob, or the highest point, is, and the expert observes twice that in mm: only what is seen
    tells."""
    rng = np.random.default_rng(1)
    place = rng.uniform(-0.8, 0.8, (512, 1))
    if modality == "depth":
        columns = np.linspace(-1, 1, 8)
        seen = np.exp(-(((columns - place) / 0.3) ** 2))[:, None, None, :, None] * np.ones((1, 1, 8, 1, 1))
        seen = seen.reshape(512, 1, 1, 8, 8, 1)
    else:
        seen = rng.uniform(-1, 1, (512, 1, 16, 3)) * [1, 1, 0.1]
        seen[:, 0, 3] = np.concatenate([place, 0 * place, 0 * place + 1], axis=1)
    percepts = Percept(jnp.zeros((512, 1, 2)), jnp.float32(seen))
    targets, observed = jnp.float32(np.tile(place[:, None], (1, 1, 2))), jnp.float32(2000 * place)
    small = StudentConfig(modality=modality, head=head, image_size=16, hidden=(64, 64))
    fresh = student.untrained(small, jax.tree.map(lambda x: x[0], percepts), (1, 2), 1, jax.random.key(0))
    fresh = student.normalized(fresh, percepts, observed)
    optimizer = optax.adam(2e-3)

    @jax.jit
    def train(fresh, keys):
        def error(params, learner, key):
            return student.loss(learner.replace(params=params), percepts, targets, observed, 0.3, key)

        def update(carry, key):
            learner, state = carry
            grads, _ = jax.grad(error, has_aux=True)(learner.params, learner, key)
            updates, state = optimizer.update(grads, state)
            return (learner.replace(params=optax.apply_updates(learner.params, updates)), state), None

        return jax.lax.scan(update, (fresh, optimizer.init(fresh.params)), keys)[0][0]

    learnt = train(fresh, jax.random.split(jax.random.key(1), 300))
    actions = jax.vmap(lambda p, k: student.act(learnt, p, k))(percepts, jax.random.split(jax.random.key(2), 512))
    assert np.abs(actions - targets).mean() < 0.1
    assert np.abs(targets).mean() > 0.3
    whole, alone = student.loss(learnt, percepts, targets, observed, 1.0, jax.random.key(3))
    assert 0 < whole - alone < 0.05, "of a variance of 1"


@pytest.mark.parametrize(
    ("changes", "modality", "problem"),
    [
        ({"cameras": {}}, "depth", "has no cameras"),
        ({"workspace": None}, "points", "has no workspace"),
        (None, "blank", "defines no senses"),
    ],
)
def test_what_a_task_does_not_have_is_said(env, changes, modality, problem):
    senses = None if changes is None else env.task.senses._replace(**changes)
    lacking = env.replace(task=dataclasses.replace(env.task, senses=senses))
    with pytest.raises(UserError, match=problem):
        Eyes(lacking, dataclasses.replace(SMALL, modality=modality), OFF)


def test_pictures_are_shifted_and_nothing_else():
    pictures = jnp.arange(2 * 3 * 1 * 16 * 16 * 2, dtype=jnp.float32).reshape(2, 1, 3, 16, 16, 2)
    percepts = student.Percept(jnp.ones((2, 1, 4)), pictures)
    seen = set()
    for seed in range(20):
        moved = student.shifted(percepts, 1, jax.random.key(seed))
        np.testing.assert_array_equal(moved.felt, percepts.felt)
        for view in range(3):
            way = int(moved.seen[0, 0, view, 8, 8, 0] - pictures[0, 0, view, 7, 7, 0])
            down, right = divmod(way // 2, 16)
            seen.add((view, down - 1, right - 1))
            expected = pictures[:, :, view, 7 + down - 6 : 7 + down + 6, 7 + right - 6 : 7 + right + 6]
            np.testing.assert_array_equal(moved.seen[:, :, view, 2:14, 2:14], expected)
    assert {(down, right) for _, down, right in seen} == {(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)}
    cloud = student.Percept(jnp.ones((2, 1, 4)), jnp.ones((2, 1, 8, 3)))
    assert student.shifted(cloud, 1, jax.random.key(0)) is cloud
    assert student.shifted(percepts, 0, jax.random.key(0)) is percepts


def test_pictures_have_whole_patches():
    with pytest.raises(UserError, match=r"--image-size must be a multiple of 8, got 20"):
        bounds.check(dataclasses.replace(SMALL, image_size=20))
