"""Distillation on a cart whose goal only a camera sees: who acts, what is labelled, kept and learnt."""

import dataclasses
import functools
import shutil

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from expertgen_jax.learning import student
from expertgen_jax.learning.dagger import Dagger, DaggerConfig
from expertgen_jax.learning.student import StudentConfig
from expertgen_jax.runs import loops
from expertgen_jax.runs.directory import RunDirectory
from expertgen_jax.runs.progress import Progress
from expertgen_jax.sim import episode, rollout
from expertgen_jax.sim.rollout import Agent
from expertgen_jax.task import Script, Senses, Start, Task, View
from expertgen_jax.vision.appearance import VisualRandomization

CHUNK, HORIZON = 2, 16
CONFIG = DaggerConfig(
    target=1.0,
    rounds=3,
    worlds=16,
    decisions=16 * HORIZON // CHUNK,
    alpha_rounds=2,
    updates=20,
    batch_size=32,
    eval_period=2,
    eval_episodes=8,
    confirm_episodes=8,
)


def scene() -> mujoco.MjSpec:
    spec = mujoco.MjSpec()
    spec.option.timestep = 0.01
    cart = spec.worldbody.add_body(name="cart")
    cart.add_geom(size=[0.05, 0, 0], mass=1.0)
    cart.add_joint(name="x", type=mujoco.mjtJoint.mjJNT_SLIDE, axis=[1, 0, 0], damping=40.0)
    goal = spec.worldbody.add_body(name="goal", mocap=True, pos=[0, 0, 0.2])
    goal.add_geom(size=[0.05, 0, 0], contype=0, conaffinity=0)
    actuator = spec.add_actuator(name="x", target="x", trntype=mujoco.mjtTrn.mjTRN_JOINT)
    actuator.set_to_position(kp=1000.0)
    return spec


def reset(key: jax.Array) -> Start:
    """The cart in the middle, a goal on one side; every fourth out of reach."""
    side_key, far_key = jax.random.split(key)
    side = jax.random.rademacher(side_key, (), jnp.float32)
    goal = side * jnp.where(jax.random.bernoulli(far_key, 0.25), 5.0, 0.15)
    return Start(jnp.zeros(1), goal, mocap_pos=jnp.array([[1.0, 0.0, 0.0]]) * goal + jnp.array([[0.0, 0.0, 0.2]]))


CART = Task(
    name="cart",
    scene=scene,
    control_dt=0.02,
    horizon=HORIZON,
    action_size=1,
    observation={"way": "m"},
    reset=reset,
    observe=lambda data, goal: {"way": goal - data.qpos},
    control=lambda data, action: data.qpos + 0.1 * action,
    success=lambda data, goal: jnp.abs(data.qpos[0] - goal) < 0.04,
    script=Script(lambda key: (), lambda memory, data, goal, key: (memory, jnp.zeros(1))),
    senses=Senses(
        {"x": "m"}, lambda data: {"x": data.qpos}, cameras={"above": View((0.0, -0.01, 1.0), (0.0, 0.0, 0.0), 0.6)}
    ),
    hold=1,
)


def steer(params: None, obs: jax.Array, key: jax.Array) -> jax.Array:
    """To the goal's side; later in the chunk more slowly, so that the order of a label shows."""
    return jnp.sign(obs) * jnp.array([[0.5], [0.4]])


EXPERT = rollout.policy_from_obs(CHUNK, steer)


@pytest.fixture(scope="module")
def dagger() -> Dagger:
    env = episode.make_env(CART, "native")
    return Dagger(env, None, EXPERT, CONFIG, StudentConfig(image_size=16, hidden=(16,)), VisualRandomization())


def of(dagger, state=None, **config):
    """The same with other settings, and perhaps a student of the state."""
    eyes = StudentConfig(modality="state", hidden=(16,)) if state else dagger.student
    return dagger.replace(config=dataclasses.replace(CONFIG, **config), student=eyes)


@pytest.fixture(scope="module")
def played(dagger):
    """`alpha -> state` after playing as long as an episode takes at most, by a student of the state that has learnt
    nothing; alpha is 1, 0.5 or 0."""
    one = of(dagger, state=True, alpha_end=0.0)
    start, program = jax.jit(Dagger.init)(one, jax.random.key(0)), jax.jit(Dagger.play)

    @functools.cache
    def play(alpha):
        return jax.device_get(program(one, start.replace(round=jnp.int32(CONFIG.alpha_rounds * (1 - alpha)))))

    return play


@pytest.mark.parametrize(("start", "end", "expected"), [(1.0, 0.2, [1.0, 0.6, 0.2]), (0.0, 0.0, [1.0, 0.0, 0.0])])
def test_alpha_falls_linearly_after_a_round_of_the_expert(dagger, start, end, expected):
    one = of(dagger, alpha_start=start, alpha_end=end)
    state = jax.eval_shape(one.init, jax.random.key(0))
    alphas = [float(one.alpha(state.replace(round=jnp.int32(i)))) for i in range(CONFIG.rounds)]
    np.testing.assert_allclose(alphas, expected, atol=1e-6)


@pytest.mark.parametrize("alpha", [1.0, 0.5])
def test_labels_are_what_the_expert_does_there_whoever_acts(played, alpha):
    labels = played(alpha).labels
    count = int(labels.count)
    assert count == CONFIG.decisions
    felt = labels.percepts.felt[:count, 0]
    np.testing.assert_allclose(labels.chunks[:count, :, 0], np.sign(felt) * [0.5, 0.4], atol=1e-6)
    assert (labels.chunks[count:] == 0).all()
    np.testing.assert_array_equal(labels.observed[:count], felt)


@pytest.mark.slow
def test_every_labelled_picture_looks_otherwise(dagger):
    """An episode has tens of decisions: as many looks teach more than one."""
    coloured = dataclasses.replace(dagger.student, modality="rgb")
    one = dagger.replace(student=coloured, visual=VisualRandomization(recoloured=1.0))
    seen = jax.jit(Dagger.play)(one, jax.jit(Dagger.init)(one, jax.random.key(0))).labels.percepts.seen
    corners = np.asarray(seen[: CONFIG.decisions, 0, 0, 0, 0])
    assert len(np.unique(corners, axis=0)) > 0.9 * CONFIG.decisions


def test_every_decision_is_labelled_also_of_episodes_that_fail(played):
    state = played(1.0)
    way = np.abs(state.labels.percepts.felt[: CONFIG.decisions, 0, 0]).reshape(-1, CONFIG.worlds)
    far = way[0] > 1
    assert far.any() and (way[:, far] > 1).all(), "out of reach to the horizon"
    np.testing.assert_array_equal(state.outcome[far], 0.0)
    assert (state.outcome[~far] == 1.0).all()


def test_where_an_episode_is_over_the_next_begins(played):
    state = played(1.0)
    way = np.abs(state.labels.percepts.felt[: CONFIG.decisions, 0, 0]).reshape(-1, CONFIG.worlds)
    near = way[0] < 1
    begins = np.isclose(way[:, near], 0.15, atol=1e-5) | np.isclose(way[:, near], 5.0, atol=1e-5)
    assert begins[0].all() and (begins[1:].sum(0) >= 1).all()
    assert (state.worlds.steps[way[0] > 1] == 0).all(), "at the horizon too"


def test_who_acts(played):
    """An untrained student hardly moves: without the expert nothing succeeds."""
    assert np.nanmean(played(1.0).outcome) > 0.5 and (played(0.0).outcome == 0.0).all()


def test_the_newest_labels_are_kept(dagger, played):
    """Decision i in place i modulo the capacity, also of more than fit in a round."""
    all_labels = played(1.0).labels
    count = int(all_labels.count)
    room = count - 5
    one = of(dagger, state=True, labels=room)
    labels = jax.jit(Dagger.play)(one, jax.jit(Dagger.init)(one, jax.random.key(0))).labels
    assert labels.count == count and len(labels.chunks) == room
    for place in range(room):
        number = max(i for i in range(count) if i % room == place)
        np.testing.assert_array_equal(labels.chunks[place], all_labels.chunks[number])
        np.testing.assert_array_equal(labels.percepts.felt[place], all_labels.percepts.felt[number])


def test_percepts_are_normalised_by_whole_episodes(dagger):
    one = of(dagger, state=True)
    state = jax.jit(Dagger.round)(one, jax.jit(Dagger.init)(one, jax.random.key(0)))[0]
    felt = state.labels.percepts.felt[: int(state.labels.count), 0]
    np.testing.assert_allclose(state.student.mean.felt, felt.mean(0), atol=0.02)
    np.testing.assert_allclose(state.student.std.felt, felt.std(0), rtol=0.05)


@pytest.mark.slow
def test_later_rounds_add_to_the_labels(dagger):
    program = jax.jit(Dagger.round)
    states = [jax.jit(Dagger.init)(dagger, jax.random.key(0))]
    for _ in range(2):
        states.append(program(dagger, states[-1])[0])
    first, second = (state.labels for state in states[1:])
    count = int(first.count)
    assert 0 < count < int(second.count)
    np.testing.assert_array_equal(second.chunks[:count], first.chunks[:count])
    np.testing.assert_array_equal(second.percepts.seen[:count], first.percepts.seen[:count])
    for name in ("mean", "std"):  # settled by the first round
        assert all(
            np.array_equal(a, b) for a, b in zip(*(getattr(state.student, name) for state in states[1:]), strict=True)
        )


@pytest.fixture
def run(tmp_path):
    return RunDirectory(tmp_path)


@pytest.mark.slow
def test_a_student_learns_to_see_the_goal(dagger, run):
    able = of(dagger, updates=400, ema=0.98)
    learnt = loops.distill(run, able, jax.random.key(0), Progress())
    rows = run.rows()
    assert [row.get("round") for row in rows] == [1, 2, 3, 3] and rows[3]["phase"] == "distilled"
    assert rows[2]["loss"] < 0.05, "of 0.2: out of sight nothing tells on which side the goal is"
    worlds = rollout.play(able.env, Agent("student", student.policy(able.eyes, CHUNK), learnt), jax.random.key(9), 64)
    within = np.abs(worlds.context) < 1
    assert worlds.success[within].mean() > 0.9


@pytest.mark.slow
def test_an_interrupted_distillation_ends_as_an_undisturbed_one(dagger, run, tmp_path_factory):
    dagger = of(dagger, state=True)
    undisturbed = loops.distill(run, dagger, jax.random.key(0), Progress())
    other = RunDirectory(tmp_path_factory.mktemp("other"))

    def interrupt(phase, fraction, text):
        if fraction == 1.0:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        loops.distill(other, dagger, jax.random.key(0), interrupt)
    # As if it had been cut off in the last round; a slow disk had not saved that.
    shutil.rmtree(other.checkpoints / "training" / str(CONFIG.rounds), ignore_errors=True)
    resumed = loops.distill(other, dagger, jax.random.key(0), Progress())
    for a, b in zip(jax.tree.leaves(undisturbed), jax.tree.leaves(resumed), strict=True):
        np.testing.assert_array_equal(a, b)
    timeless = [[{k: v for k, v in row.items() if k != "wall_s"} for row in r.rows()] for r in (run, other)]
    assert timeless[0] == timeless[1]
