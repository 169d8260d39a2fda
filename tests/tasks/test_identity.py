"""A task is what its functions compute."""

import sys
from pathlib import Path

import pytest

from expertgen_jax.tasks import registry
from expertgen_jax.tasks.identity import changed, identity
from expertgen_jax.tasks.registry import load_task

EXAMPLE = (Path(__file__).parents[2] / "examples" / "push_puck.py").read_text()


def of(path: Path, text: str) -> dict[str, str]:
    path.write_text(text)
    registry._load_file.cache_clear()
    return identity(load_task(str(path)))


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> dict[str, str]:
    return of(tmp_path_factory.mktemp("task") / "puck.py", EXAMPLE)


def test_a_comment_another_name_and_another_file_change_nothing(original, tmp_path):
    other = "# a comment\n" + EXAMPLE.replace("def success(", "def won(") + "\nsuccess = won\n"
    assert changed(original, of(tmp_path / "other.py", other)) == []


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        ("horizon = 100", "horizon = 101", ["sizes"]),
        ("< 0.008)", "< 0.009)", ["success"]),
        ("FINGER_RADIUS, PUCK_RADIUS = 0.008", "FINGER_RADIUS, PUCK_RADIUS = 0.009", ["scene", "script"]),
    ],
)
def test_a_number_changes_its_part(original, tmp_path, old, new, parts):
    assert old in EXAMPLE
    assert changed(original, of(tmp_path / "puck.py", EXAMPLE.replace(old, new))) == parts


def test_a_helper_beside_the_file_is_imported_and_a_change_in_it_noticed(original, tmp_path):
    helped = "import reach_helper\n" + EXAMPLE.replace("< 0.008)", "< reach_helper.NEAR)")
    (tmp_path / "reach_helper.py").write_text("NEAR = 0.008\n")
    assert changed(original, of(tmp_path / "puck.py", helped)) == []
    (tmp_path / "reach_helper.py").write_text("NEAR = 0.0075\n")
    del sys.modules["reach_helper"]
    assert changed(original, of(tmp_path / "puck.py", helped + "\n")) == ["success"]
    assert str(tmp_path) not in sys.path


def test_what_other_versions_traced_is_not_compared():
    assert changed({"traced_by": "jax 1", "success": "a"}, {"traced_by": "jax 2", "success": "b"}) == []


def test_tasks_of_the_package_differ_where_they_differ():
    peg, tight = identity(load_task("peg")), identity(load_task("peg_tight"))
    assert "scene" in changed(peg, tight)
    pin, hub = identity(load_task("pin_in_block")), identity(load_task("pin_in_hub"))
    assert changed(pin, hub) == ["parameters"], "shapes are data of one program"
