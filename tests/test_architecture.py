"""The rooms: who may import whom."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "expertgen_jax"
FLOORS = (
    *({"errors"}, {"files"}, {"bounds"}, {"task"}, {"scenes"}),
    *(
        {"sim", "vision"},
        {"tasks", "learning"},
        {"deploy", "data", "envs"},
        {"runs"},
        {"viewer"},
        {"cli"},
        {"__main__"},
    ),
)
"""From the ground up; rooms on one floor do not know each other."""
MODULES = sorted(path for path in SOURCE.rglob("*.py") if path != SOURCE / "__init__.py")


def room(module: str) -> str:
    """The package, or the file beside the packages, that a dotted name of `expertgen_jax` belongs to."""
    return module.split(".")[1]


def imported(path: Path) -> Iterator[str]:
    """Dotted names of what a file of the package imports from it, anywhere in its text."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "expertgen_jax":
            for name in node.names:
                inner = SOURCE.parent.joinpath(*node.module.split("."), name.name)
                module = inner.with_suffix(".py").exists() or inner.is_dir()
                yield f"{node.module}.{name.name}" if module else node.module
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name.startswith("expertgen_jax."))


def floor(room: str) -> int:
    return next(i for i, rooms in enumerate(FLOORS) if room in rooms)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_only_go_down(path: Path) -> None:
    own = room(".".join(path.relative_to(SOURCE.parent).with_suffix("").parts))
    for name in imported(path):
        other = room(name)
        assert other == own or floor(other) < floor(own), f"{own} imports {name}"


def test_no_imports_go_in_circles() -> None:
    graph = {}
    for path in MODULES:
        parts = path.relative_to(SOURCE.parent).with_suffix("").parts
        graph[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = set(imported(path))
    while graph:
        ends = {name for name, needs in graph.items() if not needs & graph.keys() - {name}}
        assert ends, f"a circle among {sorted(graph)}"
        graph = {name: needs for name, needs in graph.items() if name not in ends}


def test_every_package_is_a_room() -> None:
    found = {p.stem for p in SOURCE.iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()} - {"__init__"}
    assert found == set().union(*FLOORS)
