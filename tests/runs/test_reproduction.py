import json

import pytest

from expertgen_jax.errors import UserError
from expertgen_jax.runs import reproduction

SETTINGS = {"experiment": "peg", "physics": "native", "randomization": "off"}


def row(task, seed, success):
    return {"task": task, "seed": seed, "versions": {}, "expert": {"success": success}}


def test_rows_stay_beside_new_ones_in_the_order_of_tasks_and_seeds():
    rows = []
    for new in (row("gear_on_shaft", 1, 0.1), row("peg", 2, 0.2), row("mine.py", 1, 0.3), row("peg", 1, 0.4)):
        rows = reproduction.with_row(rows, new)
    assert [(x["task"], x["seed"]) for x in rows] == [("peg", 1), ("peg", 2), ("gear_on_shaft", 1), ("mine.py", 1)]
    rows = reproduction.with_row(rows, row("peg", 2, 0.9))
    assert [x["expert"]["success"] for x in rows] == [0.4, 0.9, 0.1, 0.3]


def test_students_of_one_run_are_told_apart_by_name():
    rows = []
    for name in ("depth", "rgb", "depth"):
        rows = reproduction.with_row(rows, {"task": "peg", "seed": 1, "name": name})
    assert [x["name"] for x in rows] == ["rgb", "depth"]


def test_a_file_of_the_same_settings_is_added_to(tmp_path):
    out = tmp_path / "a.json"
    assert reproduction.stored(out, SETTINGS) == ([], [])
    out.write_text(json.dumps(SETTINGS | {"runs": [row("peg", 1, 0.5)]}))
    assert reproduction.stored(out, SETTINGS) == ([row("peg", 1, 0.5)], [])


def test_what_an_earlier_version_made_is_made_anew(tmp_path):
    out = tmp_path / "a.json"
    out.write_text(json.dumps({"experiment": "peg", "runs": [{"task": "peg", "seed": 1}], "students": [{}]}))
    assert reproduction.stored(out, SETTINGS) == ([], [])


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        "5",
        "\xff",
        json.dumps(SETTINGS),
        json.dumps(SETTINGS | {"physics": "mjx", "runs": []}),
    ],
)
def test_other_files_are_not_written_over(tmp_path, content):
    out = tmp_path / "a.json"
    out.write_text(content)
    with pytest.raises(UserError, match=r"holds something else than"):
        reproduction.stored(out, SETTINGS)
