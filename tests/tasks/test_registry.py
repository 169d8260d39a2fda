"""Every registered task keeps the contract."""

import pytest

from expertgen_jax.tasks.check import check_task
from expertgen_jax.tasks.registry import TASKS, load_task


@pytest.mark.slow
@pytest.mark.parametrize("name", TASKS)
def test_every_task_keeps_the_contract_and_steps(name):
    check_task(load_task(name))


def test_every_task_says_what_it_is_in_a_sentence():
    assert all(entry.summary.endswith(".") for entry in TASKS.values())
