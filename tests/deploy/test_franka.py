"""The example of a Franka arm, against its stand-in."""

import importlib
import time
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from expertgen_jax.sim import robots
from expertgen_jax.tasks.registry import load_task

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def arm(monkeypatch, tmp_path):
    """The example's robot before the peg's socket, whose task is never done."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    franka, stub = (importlib.import_module(name) for name in ("franka", "franka_stub"))
    task = load_task("peg", robot="panda")
    (tmp_path / "scene.xml").write_text(task.scene().to_xml())
    model = task.scene().compile()
    qpos, ctrl = robots.of(model).start(jnp.array([0.0, 0.0, 0.3, 0.2, 0.0, 0.0]))
    card = {
        "folder": str(tmp_path),
        "joints": [model.joint(i).name for i in range(model.njnt)],
        "actuators": [model.actuator(i).name for i in range(model.nu)],
        "state": {
            "shapes": {"qpos": [model.nq], "site_xmat": [model.nsite, 3, 3], "sensordata": [model.nsensordata]},
            "read": ["qpos", "site_xmat", "sensordata"],
        },
        "control_dt": 0.05,
        "hold": 5,
        "inputs": {
            "pictures": {
                "kind": "depth",
                "size": 32,
                "cameras": {name: view._asdict() for name, view in task.cameras.items()},
            }
        },
    }
    start = {"qpos": np.append(qpos, model.qpos0[7:]), "ctrl": ctrl, "fields": {}, "context": []}
    programs = {"reset": lambda seed: start, "success": lambda state, context: False}
    monkeypatch.setattr(stub, "PATIENCE", 500)  # the machine of a test is busy
    monkeypatch.setattr(franka, "HEARTBEAT", 0.4)
    monkeypatch.setattr(stub, "load", lambda folder: (card, programs, task.scene().compile()))
    robot = franka.make(card)
    yield robot
    robot.stop()


def test_it_goes_where_it_is_sent_and_reads_where_it_is(arm):
    before = arm.read()
    assert before["site_xmat"].shape[1:] == (3, 3) and not before["done"]
    goal = before["ctrl"] + np.append([0.03, -0.02, -0.04], np.zeros(10))
    for step in range(60):
        arm.send(before["ctrl"] + min(1.0, step / 30) * (goal - before["ctrl"]))
        assert arm.look().shape == (3, 32, 32, 1)  # while it moves
        time.sleep(0.02)
    now = arm.read()
    assert not now["stopped"]
    np.testing.assert_allclose(arm.hand(), goal[:6], atol=4e-3)
    assert np.abs(now["qpos"] - before["qpos"]).max() > 0.02
    assert np.abs(now["sensordata"]).max() < 0.5, "nothing pushes it"


def test_it_holds_its_place_where_nobody_sends(arm):
    arm.send(arm.read()["ctrl"])
    time.sleep(1.0)
    assert "no target" in arm.read()["stopped"]


def test_the_stand_in_allows_what_an_arm_allows(arm):
    arm.read()
    control = arm.robot.start_torque_control()
    control.readOnce()
    torques_of = importlib.import_module("franka_stub").Torques
    control.writeOnce(torques_of([0.5] * 7))
    for torques, said in (([5.0] * 7, "discontinuity"), ([0.0] * 6 + [13.0], "range"), ([np.nan] * 7, "range")):
        with pytest.raises(RuntimeError, match=said):
            control.writeOnce(torques_of(torques))
    time.sleep(0.6)
    with pytest.raises(RuntimeError, match="communication"):
        control.readOnce()
