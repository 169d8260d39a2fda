"""Every registered task keeps the contract."""

import pytest
from toy import TOY

from expertgen_jax.errors import UserError
from expertgen_jax.tasks.check import check_task
from expertgen_jax.tasks.registry import TASKS, load_task


@pytest.mark.slow
@pytest.mark.parametrize("name", TASKS)
def test_every_task_keeps_the_contract_and_steps(name):
    check_task(load_task(name))


@pytest.mark.slow
def test_a_task_keeps_the_contract_with_the_arm():
    check_task(load_task("put_in_drawer", "default", "panda"))


@pytest.mark.slow
def test_a_task_keeps_the_contract_with_a_held_plug():
    check_task(load_task("peg", "strong", grasp="held"))


def test_starts_of_automate_are_of_its_shapes_only():
    with pytest.raises(UserError, match="--starts automate: task 'lift_banana' has none such; pin_in_block, "):
        load_task("lift_banana", starts="automate")


def test_only_a_plug_is_held():
    with pytest.raises(UserError, match="--grasp held: task 'lift_banana' has none such; peg, "):
        load_task("lift_banana", grasp="held")


def test_every_task_says_what_it_is_in_a_sentence():
    assert all(entry.summary.endswith(".") for entry in TASKS.values())


def test_a_file_may_make_a_task_itself(tmp_path):
    (tmp_path / "made.py").write_text("from toy import TOY as task\n")
    assert load_task(str(tmp_path / "made.py")) is TOY
    (tmp_path / "not.py").write_text("task = 'peg'\n")
    with pytest.raises(UserError, match="lacks `scene`"):
        load_task(str(tmp_path / "not.py"))
