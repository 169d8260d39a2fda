"""The DemoSet: what is recorded, on disk and back, and what is said about bad files."""

import dataclasses

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from expertgen_jax.errors import UserError
from expertgen_jax.learning import demos as demos_lib
from expertgen_jax.learning.demos import DemoConfig, DemoSet
from expertgen_jax.sim import episode
from expertgen_jax.task import Disassembly, Script, Start, Task


def make_demos(lengths=(5, 3, 4), success=(True, False, True)):
    rng = np.random.default_rng(0)
    time = sum(lengths)
    return DemoSet(
        obs=rng.normal(size=(time, 2)).astype(np.float32),
        actions=rng.uniform(-1, 1, (time, 3)).astype(np.float32),
        lengths=np.array(lengths),
        success=np.array(success, bool),
    )


def test_a_saved_set_is_read_back(tmp_path):
    demos = make_demos()
    demos_lib.save(tmp_path / "demos.npz", demos)
    loaded = demos_lib.load(tmp_path / "demos.npz", 2, 3)
    for ours, theirs in zip(loaded, demos, strict=True):
        np.testing.assert_array_equal(ours, theirs)
        assert ours.dtype == theirs.dtype
    assert [p.name for p in tmp_path.iterdir()] == ["demos.npz"]  # no temporary file stays


def test_a_set_made_by_hand_is_read(tmp_path):
    demos = make_demos()
    wide = demos._replace(obs=demos.obs.astype(float), lengths=demos.lengths.astype(np.uint8))
    np.savez(tmp_path / "hand.npz", comment="mine", **wide._asdict())
    loaded = demos_lib.load(tmp_path / "hand.npz", 2, 3)
    assert loaded.obs.dtype == np.float32
    np.testing.assert_array_equal(loaded.lengths, demos.lengths)


def replaced(**arrays):
    return lambda path: np.savez_compressed(path, **(make_demos()._asdict() | arrays))


def without(name):
    return lambda path: np.savez_compressed(path, **{k: v for k, v in make_demos()._asdict().items() if k != name})


def with_entry(name, value):
    array = getattr(make_demos(), name).astype(float)
    array[1, 1] = value
    return replaced(**{name: array})


def damaged(path):
    replaced()(path)
    content = bytearray(path.read_bytes())
    content[80:120] = bytes(0xFF ^ x for x in content[80:120])
    path.write_bytes(content)


def cut_short(path):
    replaced()(path)
    path.write_bytes(path.read_bytes()[:-100])


def single_array(path):
    with open(path, "wb") as file:
        np.save(file, np.zeros(3))


@pytest.mark.parametrize(
    ("write", "problem"),
    [
        pytest.param(lambda path: None, "no such file", id="missing"),
        pytest.param(lambda path: path.write_text("obs, actions"), "not an .npz", id="text"),
        pytest.param(lambda path: path.write_bytes(b""), "not an .npz", id="empty file"),
        pytest.param(lambda path: path.mkdir(), "not an .npz", id="folder"),
        pytest.param(single_array, "not an .npz", id="npy"),
        pytest.param(damaged, "damaged", id="damaged"),
        pytest.param(cut_short, "damaged", id="cut short"),
        pytest.param(replaced(obs=np.array([None] * 12, object)), "not an .npz", id="pickled objects"),
        pytest.param(without("obs"), "lacks the array 'obs'", id="no obs"),
        pytest.param(without("actions"), "lacks the array 'actions'", id="no actions"),
        pytest.param(without("lengths"), "lacks the array 'lengths'", id="no lengths"),
        pytest.param(without("success"), "lacks the array 'success'", id="no success"),
        pytest.param(replaced(obs=np.zeros((12, 7))), "'obs' has shape (12, 7), expected (12, 2)", id="obs size"),
        pytest.param(replaced(obs=np.zeros((11, 2))), "'obs' has shape (11, 2), expected (12, 2)", id="obs time"),
        pytest.param(replaced(actions=np.zeros((12, 2))), "'actions' has shape (12, 2)", id="action size"),
        pytest.param(replaced(success=np.ones(2, bool)), "'success' has shape (2,), expected (3,)", id="success size"),
        pytest.param(replaced(lengths=np.array(12)), "'lengths'", id="scalar lengths"),
        pytest.param(replaced(lengths=np.array([5.5, 2.5, 4.0])), "'lengths'", id="broken lengths"),
        pytest.param(replaced(lengths=np.array([np.nan, 3, 4])), "'lengths'", id="NaN lengths"),
        pytest.param(replaced(lengths=np.array(["a", "b", "c"])), "'lengths'", id="lengths of text"),
        pytest.param(replaced(obs=np.full((12, 2), "a")), "'obs'", id="obs of text"),
        pytest.param(with_entry("obs", np.nan), "'obs' holds numbers that are not finite", id="NaN obs"),
        pytest.param(with_entry("actions", np.inf), "'actions' holds numbers that are not finite", id="inf action"),
        pytest.param(with_entry("obs", 1e39), "'obs' holds numbers that are not finite", id="too large for float32"),
        pytest.param(replaced(success=np.array([1.0, np.nan, 0.0])), "'success' must be 0 or 1", id="NaN success"),
        pytest.param(
            replaced(success=np.array([1.0, 0.3, 0.0])), "'success' must be 0 or 1", id="a third of a success"
        ),
        pytest.param(replaced(success=np.array([1, -1, 0])), "'success' must be 0 or 1", id="negative success"),
        pytest.param(with_entry("actions", -1.5), "must lie in [-1, 1], found 1.5", id="large action"),
        pytest.param(replaced(lengths=np.array([9, 0, 3])), "empty ones", id="empty episode"),
        pytest.param(replaced(lengths=np.array([14, -6, 4])), "empty ones", id="negative length"),
        pytest.param(
            replaced(
                obs=np.zeros((0, 2)), actions=np.zeros((0, 3)), lengths=np.zeros(0, int), success=np.zeros(0, bool)
            ),
            "holds no episodes",
            id="no episodes",
        ),
    ],
)
def test_a_bad_file_is_explained_in_one_line(tmp_path, write, problem):
    path = tmp_path / "bad.npz"
    write(path)
    with pytest.raises(UserError) as caught:
        demos_lib.load(path, 2, 3)
    message = str(caught.value)
    assert problem in message
    assert str(path) in message
    assert "\n" not in message


def test_chunks_are_of_successful_episodes_and_repeat_the_last_action():
    demos = make_demos()  # steps 0-4 succeed, 5-7 fail, 8-11 succeed
    expected = [
        [0, 1, 2],
        [1, 2, 3],
        [2, 3, 4],
        [3, 4, 4],
        [4, 4, 4],
        [8, 9, 10],
        [9, 10, 11],
        [10, 11, 11],
        [11, 11, 11],
    ]
    assert demos_lib.windows(demos, 3).tolist() == expected
    assert demos_lib.windows(demos, 1).ravel().tolist() == [0, 1, 2, 3, 4, 8, 9, 10, 11]


def test_failures_serve_where_nothing_succeeded():
    demos = make_demos(success=(False, False, False))
    assert demos_lib.windows(demos, 2)[:, 0].tolist() == list(range(12))


def test_an_episode_shorter_than_a_chunk_is_learnt_too():
    assert demos_lib.windows(make_demos((1, 2), (True, True)), 4).tolist() == [[0] * 4, [1, 2, 2, 2], [2] * 4]


def test_other_units_and_another_order_are_noticed():
    rng = np.random.default_rng(0)
    starts = rng.uniform([0.1, -0.05], [0.2, 0.05], (256, 2)).astype(np.float32)
    demos = make_demos((1,) * 50, (True,) * 50)._replace(obs=starts[:50])
    names = ["height", "way"]
    assert demos_lib.strange(demos, starts, names) == []
    (told,) = demos_lib.strange(demos._replace(obs=1000 * demos.obs), starts, ["pose", "pose"])
    assert "'pose'" in told
    assert len(demos_lib.strange(demos._replace(obs=demos.obs[:, ::-1]), starts, names)) == 2
    (told,) = demos_lib.strange(demos._replace(actions=0.02 * demos.actions), starts, names)
    assert "other units" in told


def scene() -> mujoco.MjSpec:
    spec = mujoco.MjSpec()
    spec.option.timestep = 0.01
    spec.option.disableflags |= mujoco.mjtDisableBit.mjDSBL_AUTORESET
    body = spec.worldbody.add_body(name="cart")
    body.add_geom(size=[0.05, 0, 0], mass=1.0)
    body.add_joint(name="x", type=mujoco.mjtJoint.mjJNT_SLIDE, axis=[1, 0, 0], damping=20.0)
    spec.add_actuator(
        name="force", target="x", trntype=mujoco.mjtTrn.mjTRN_JOINT, gainprm=[10] + [0] * 9, dyntype=0, gaintype=0
    )
    return spec


def cart() -> Task:
    """A cart pushed rightwards from x in [-0.2, 0.2]; it succeeds where it gets beyond 0.1, and blows up where it
    started left of -0.15."""

    def reset(key):
        x = jax.random.uniform(key, (1,), minval=-0.2, maxval=0.2)
        return Start(qpos=x, context=x[0])

    return Task(
        name="cart",
        scene=scene,
        control_dt=0.02,
        horizon=10,
        action_size=1,
        observation={"x": "m", "start": "m"},
        reset=reset,
        observe=lambda data, start: {"x": data.qpos, "start": start},
        control=lambda data, action: jnp.where(data.qpos < -0.15, 1e6, action),
        success=lambda data, start: data.qpos[0] > 0.1,
        script=Script(lambda key: (), lambda memory, data, start, key: (memory, jnp.ones(1))),
        hold=1,
    )


def test_demonstrations_hold_what_was_seen_until_each_episode_ended():
    env = episode.make_env(cart(), "native")
    demos, asked = demos_lib.demonstrate(env, jax.random.key(0), DemoConfig(episodes=32, max_episodes=32))
    diverged = asked.diverged
    assert 0 < diverged < 32
    assert len(demos.lengths) == len(demos.success) == 32 - diverged
    assert len(demos.obs) == len(demos.actions) == demos.lengths.sum()
    assert 0 < demos.success.sum() < len(demos.success)
    assert (demos.lengths[~demos.success] == 10).all()
    episodes = np.split(demos.obs, np.cumsum(demos.lengths)[:-1])
    for obs, success in zip(episodes, demos.success, strict=True):
        x, start = obs.T
        assert x[0] == start[0] >= -0.15
        assert (start == start[0]).all()  # of one episode throughout
        assert (np.diff(x) > 0).all()
        assert (x[1:] <= 0.1).all()  # the episode ends with the step that succeeds
        assert success == (x[-1] + 0.02 > 0.1) or abs(x[-1] - 0.09) < 0.01


def test_the_demonstrator_is_asked_again_until_there_are_enough_successes():
    env, key = episode.make_env(cart(), "native"), jax.random.key(0)
    told = []
    config = DemoConfig(episodes=32, successes=30, max_episodes=1000)
    demos, asked = demos_lib.demonstrate(env, key, config, told.append)
    assert asked == told[-1] and asked.episodes == 32 * len(told) and len(told) > 1
    assert told[-2].succeeded < 30 <= asked.succeeded == demos.success.sum()
    first, _ = demos_lib.demonstrate(env, key, dataclasses.replace(config, max_episodes=32))
    np.testing.assert_array_equal(demos.obs[: len(first.obs)], first.obs)
    assert demos.success[len(first.success) :].all(), "later failures are counted and not kept"
    _, asked = demos_lib.demonstrate(env, key, dataclasses.replace(config, successes=10**6, max_episodes=100))
    assert asked.episodes == 128, "it gives up after the round that reaches the limit"


@pytest.mark.slow
def test_a_further_try_begins_where_the_one_before_it_failed():
    env, key = episode.make_env(cart(), "native"), jax.random.key(0)
    config = DemoConfig(episodes=32, max_episodes=32)
    once, asked = demos_lib.demonstrate(env, key, config)
    demos, again = demos_lib.demonstrate(env, key, dataclasses.replace(config, tries=9))
    assert again.diverged == asked.diverged
    np.testing.assert_array_equal(demos.obs[: len(once.obs)], once.obs)
    np.testing.assert_array_equal(demos.success[: len(once.success)], once.success)
    assert demos.success.sum() == len(once.success), "a cart that goes on gets there, and none goes on after that"

    episodes = np.split(demos.obs, np.cumsum(demos.lengths)[:-1])
    failed = [obs[-1] for obs, success in zip(episodes, demos.success, strict=True) if not success]
    for begun, left in zip(episodes[len(once.success) :], failed, strict=True):
        assert begun[0, 1] == left[1], "the same cart"
        assert 0.0 < begun[0, 0] - left[0] < 0.03, "a step further"


def test_disassembly_is_refused_where_the_task_does_not_say_how():
    config = DemoConfig(episodes=3, max_episodes=3, source="disassembly")
    with pytest.raises(UserError, match=r"cart.*disassembly"):
        demos_lib.demonstrate(episode.make_env(cart(), "native"), jax.random.key(0), config)


def test_disassembly_goes_back_the_way_it_came():
    """Pulled leftwards from x = 0.11, the cart retraces its path, and succeeds again beyond 0.1."""
    at = lambda key: Start(qpos=jnp.array([0.11]), context=jnp.float32(0.11))  # noqa: E731
    apart = Disassembly(
        steps=20,
        reset=at,
        script=Script(lambda key: (), lambda memory, data, start, key: (memory, data.qpos - 0.02)),
        retrace=lambda data, goal, beside: goal + beside,
        bias=lambda key: jnp.array([-0.5]),
    )
    task = dataclasses.replace(
        cart(), disassembly=apart, control=lambda data, action: 60.0 * (action - data.qpos), horizon=60
    )
    env, key = episode.make_env(task, "native"), jax.random.key(0)
    exact, _ = demos_lib.demonstrate(env, key, DemoConfig(episodes=3, max_episodes=3, source="disassembly", bias=0.0))
    assert exact.success.all()
    assert (exact.obs[:, 0] < 0.1).all() and exact.obs[0, 0] < 0.08, "it starts where it was taken to"
    beside, _ = demos_lib.demonstrate(env, key, DemoConfig(episodes=3, max_episodes=3, source="disassembly", bias=0.1))
    assert not beside.success.any(), "the whole path is 0.05 m beside"
    np.testing.assert_allclose(beside.actions[:4] - exact.actions[:4], -0.05, atol=1e-6)

    quiet = DemoConfig(episodes=3, max_episodes=3, source="disassembly", bias=0.0, start_noise=False)
    with pytest.raises(UserError, match=r"cart.*nominal_script"):
        demos_lib.demonstrate(env, key, quiet)
    apart = apart._replace(nominal_script=Script(apart.script.init, lambda m, data, start, key: (m, data.qpos - 0.01)))
    nearer, _ = demos_lib.demonstrate(
        episode.make_env(dataclasses.replace(task, disassembly=apart), "native"), key, quiet
    )
    assert nearer.obs[0, 0] > exact.obs[0, 0] + 0.005


def test_start_noise_is_left_out_only_where_the_task_says_how():
    task = cart()
    config = DemoConfig(episodes=3, max_episodes=3, start_noise=False)
    with pytest.raises(UserError, match=r"cart.*nominal_reset"):
        demos_lib.demonstrate(episode.make_env(task, "native"), jax.random.key(0), config)
    task = dataclasses.replace(task, nominal_reset=lambda key: Start(qpos=jnp.array([0.05]), context=jnp.float32(0.05)))
    demos, _ = demos_lib.demonstrate(episode.make_env(task, "native"), jax.random.key(0), config)
    np.testing.assert_allclose(demos.obs[:, 1], 0.05)
