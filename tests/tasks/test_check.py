"""What a broken task is told."""

import dataclasses
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from expertgen_jax.errors import UserError
from expertgen_jax.task import Box, Script, Senses, Start, View
from expertgen_jax.tasks import registry
from expertgen_jax.tasks.check import check_task

EXAMPLE = Path(__file__).parents[2] / "examples" / "push_puck.py"


@pytest.fixture(scope="module")
def task():
    return registry.load_task(str(EXAMPLE))


def raising(*_):
    raise ZeroDivisionError("no goal")


NUMB = Senses({}, lambda data: {})
ON_ARM = View((0, 0, 1), (0, 0, 0), body="arm")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"observe": lambda data, context: {"finger": jnp.zeros(2)}}, "observe returned no entry 'goal'"),
        ({"observe": raising}, r"observe raised ZeroDivisionError in raising, line \d+: no goal"),
        ({"control": lambda data, action: jnp.zeros(3)}, r"control has shape \(3,\), expected \(2,\)"),
        ({"control": lambda data, action: jnp.full(2, jnp.nan)}, "control holds NaN"),
        ({"success": lambda data, context: jnp.float32(1)}, "success has dtype float32, expected bool"),
        ({"success": lambda data, context: jnp.zeros(2, bool)}, r"success has shape \(2,\), expected \(\)"),
        ({"reset": lambda key: jnp.zeros(4)}, "reset returned .*, expected a Start"),
        ({"reset": lambda key: Start(jnp.zeros(3), {})}, r"reset\(\).qpos has shape \(3,\), expected \(4,\)"),
        ({"reset": lambda key: Start(jnp.zeros(4), {}, fields={"geom_colour": 1})}, "'geom_colour', which is no field"),
        ({"reset": lambda key: Start(jnp.zeros(4), {}, fields={"body_mass": jnp.ones(2)})}, r"expected \(3,\)"),
        ({"script": Script(lambda key: (), lambda m, d, c, k: jnp.zeros(2))}, "must return"),
        ({"script": Script(lambda key: (), lambda m, d, c, k: (m, jnp.zeros(5)))}, r"script.act action has shape"),
        ({"script": Script(lambda key: (), lambda m, d, c, k: (1, jnp.zeros(2)))}, "changed the memory"),
        ({"reset": lambda key: Start(jnp.zeros(4), {}, jnp.zeros(2), delays=(0, 1))}, "integers from 0 to max_delay=0"),
        ({"update": lambda data, context, key: {"goal": jnp.zeros(3)}}, "update changed the context"),
        ({"update": raising}, r"update raised ZeroDivisionError in raising"),
        ({"max_delay": -1}, "max_delay is -1"),
        ({"horizon": 0}, "horizon is 0"),
        ({"control_dt": 0.012}, "not a multiple of the timestep"),
        ({"scene": lambda: None}, "scene returned NoneType"),
        (
            {"senses": Senses({}, lambda data: {"x": data.qpos})},
            r"sense returned 'x', which .* not list",
        ),
        ({"senses": NUMB._replace(cameras={"wrist": ON_ARM})}, r"senses.cameras\['wrist'\] raised KeyError"),
        ({"senses": NUMB._replace(workspace=Box((0, 0, 0), (1, 1, 1), body="arm"))}, "senses.workspace raised KeyErr"),
        ({"final_pose": lambda data, context: {"distance": np.zeros(2)}}, r"final_pose\(\)\['distance'\] has shape"),
    ],
)
def test_the_function_and_the_mistake_are_named(task, change, said):
    with pytest.raises(UserError, match=said) as caught:
        check_task(dataclasses.replace(task, **change))
    assert "\n" not in str(caught.value)


def test_cameras_do_not_follow_what_only_they_may_tell():
    peg = registry.load_task("peg")
    above = View((0, 0, 1), (0, 0, 0), body="socket")
    told = dataclasses.replace(peg, senses=peg.senses._replace(cameras={"above": above}))
    with pytest.raises(UserError, match=r"cameras\['above'\] moves with 'socket'"):
        check_task(told)


def test_a_branch_on_an_array_is_found(task):
    def success(data, context):
        return jnp.bool_(True) if data.qpos[0] > 0 else jnp.bool_(False)

    with pytest.raises(UserError, match="under jit"):
        check_task(dataclasses.replace(task, success=success))


@pytest.mark.parametrize("name", ["peg", "block_on_rail", "assembly"])
def test_tasks_of_the_package_keep_the_contract(name):
    check_task(registry.load_task(name, "default"))
