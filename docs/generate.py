"""Writes what of the documentation is made from the registry and the data: a page a task, the gallery, the tables.

    python docs/generate.py

Tables, of `result_tables.py`, stand between `<!-- table: NAME -->` and `<!-- end -->` in README.md and the
pages. A test fails where a file is not what this script would write.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
from result_tables import OTHERS, RESULTS, RUNS, TABLES, success_columns, table

from expertgen_jax.sim import episode
from expertgen_jax.sim.episode import Env
from expertgen_jax.tasks.registry import FAMILIES, TASKS, load_task

DOCS = Path(__file__).parent
HEADINGS = ("Task", "Randomisation", "Success")


def files() -> Iterator[tuple[Path, str]]:
    """Every generated file with its text."""
    for name in TASKS:
        yield DOCS / "tasks" / f"{name}.md", page(name)
    yield DOCS / "tasks" / "index.md", gallery()
    for path in (DOCS.parent / "README.md", *sorted(DOCS.glob("*.md"))):
        yield path, with_tables(path.read_text())


def page(name: str) -> str:
    """The page of a task.

    Raises:
      ValueError: its docstring lacks a heading, or it has no picture.
    """
    entry, env = TASKS[name], episode.make_env(load_task(name), "native")
    task = env.task
    if not (DOCS / "pictures" / f"{name}.webp").exists():
        raise ValueError(f"{name} has no picture: expertgen view RUN --out docs/pictures/{name}.webp --height 240")
    world = jax.eval_shape(lambda key: episode.reset(env, key), jax.random.key(0))
    parts = [f"# {name}", entry.summary, f"![{name}](../pictures/{name}.webp)"]
    for heading, text in sections(entry.description).items():
        parts += [f"## {heading}", text]
    parts += ["## Numbers", numbers(env)]
    parts += ["## Observation", units_table(task.observation, jax.eval_shape(task.observe, world.data, world.context))]
    if task.senses is not None:
        felt = jax.eval_shape(task.senses.sense, world.data)
        cameras = ", ".join(f"`{camera}`" for camera in task.cameras)
        parts += ["## What a student perceives", f"Cameras: {cameras}. Proprioception:"]
        parts += [units_table(task.senses.proprioception, felt)]
    parts += ["## Results", results(name), "## Commands", commands(name)]
    return "\n\n".join(parts) + "\n"


def sections(description: str) -> dict[str, str]:
    """The text under each of `HEADINGS` in a docstring."""
    found = dict(re.findall(r"^(\w+):\n((?:    .*\n?)+)", description, flags=re.MULTILINE))
    if missing := [heading for heading in HEADINGS if heading not in found]:
        raise ValueError(f"the docstring lacks the heading '{missing[0]}:': {description.splitlines()[0]}")
    return {heading: " ".join(found[heading].split()) for heading in HEADINGS}


def numbers(env: Env) -> str:
    """Sizes and rates of a task."""
    task, (observed, privileged) = env.task, episode.sizes(env)
    return (
        f"{observed} numbers are observed, critics see {privileged} more; an action has {task.action_size}, each in "
        f"[-1, 1]. There are {1 / task.control_dt:g} control steps a second, of {env.nstep} physics steps each; an "
        f"episode ends at success, or after {task.horizon} control steps ({task.horizon * task.control_dt:g} s)."
    )


def units_table(units: Mapping[str, str], parts: Mapping[str, Any]) -> str:
    """Names, sizes and units."""
    sizes = {name: math.prod(parts[name].shape) for name in units}
    return table([{"part": f"`{n}`", "size": str(sizes[n]), "unit": unit} for n, unit in units.items() if sizes[n]])


def results(name: str) -> str:
    """What runs of the task reached, of every file that has one."""
    rows = [
        {"seed": str(run["seed"]), **success_columns(run), "made by": f"[`{path.stem}`](../../results/{path.name})"}
        for path in sorted(RESULTS.glob("*.json"))
        for run in json.loads(path.read_text()).get("runs", ())
        if run["task"] == name and path.stem.partition("_")[::2] in RUNS + OTHERS
    ]
    return (
        table(rows) + "\n\nStrict success; [Results](../results.md) says how it was measured." if rows else "None yet."
    )


def commands(name: str) -> str:
    """What to type."""
    lines = [
        f"expertgen view {name} --policy script --out {name}.mp4",
        f"expertgen steer --task {name}",
        f"expertgen view runs/{name}-0 --out expert.mp4",
    ]
    return "\n".join(["```text", *lines, "```"])


def gallery() -> str:
    """The page of all tasks."""
    families = {"Insertion": [name for name in TASKS if name not in FAMILIES["tabletop"]]}
    families["Table-top"] = list(FAMILIES["tabletop"])
    text = "# Tasks\n\nEach picture says who acts; the page behind it tells the rules and the results.\n"
    for family, names in families.items():
        text += f"\n## {family}\n\n"
        text += table([{f"{family} task": f"[![{n}](../pictures/{n}.webp)]({n}.md)", "": summary(n)} for n in names])
        text += "\n"
    pages = "\n".join(TASKS)
    return f"{text}\n```{{toctree}}\n:hidden:\n\n{pages}\n```\n"


def summary(name: str) -> str:
    """A task's name and what it is."""
    return f"[`{name}`]({name}.md): {TASKS[name].summary}"


def with_tables(text: str) -> str:
    """A document with its tables made anew."""

    def fill(match: re.Match[str]) -> str:
        return f"<!-- table: {match[1]} -->\n{TABLES[match[1]]()}\n<!-- end -->"

    return re.sub(r"<!-- table: (\w+) -->\n.*?<!-- end -->", fill, text, flags=re.DOTALL)


def main() -> None:
    """Writes the files."""
    for path, text in files():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)


if __name__ == "__main__":
    main()
