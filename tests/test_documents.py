"""What the documents show: generated files are up to date, and every block of code runs."""

import contextlib
import importlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import commands
import nbformat
import pytest
from nbclient import NotebookClient
from small import SMALL, SMALL_STUDENT

from expertgen_jax.tasks.registry import TASKS

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BUDGETS = {"steer": SMALL, "pretrain": SMALL, "distill": SMALL_STUDENT, "evaluate": ["--episodes", "8"]}
"""What is added to a command, so that it takes seconds."""
FENCE = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def generate():
    """The module `docs/generate.py`."""
    sys.path.insert(0, str(ROOT / "docs"))  # as for a script
    return importlib.import_module("generate")


def test_generated_files_are_up_to_date():
    module, written = generate(), set()
    for path, text in module.files():  # it fails where a task lacks a picture or a heading
        assert path.read_text() == text, f"{path.name} is old: python docs/generate.py"
        written.add(path.stem)
    assert written >= TASKS.keys() | {"README", "results", "index"}


def test_the_readme_is_short_and_shows_tasks():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 140
    assert len(re.findall(r"!\[\w+\]\(docs/pictures/\w+\.webp\)", text)) >= 8
    assert text.count("%") <= 30


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_links_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def environment() -> dict[str, str]:
    return os.environ | {"JAX_PLATFORMS": "cpu"}


@pytest.fixture(scope="module")
def workplace(student_run, tmp_path_factory) -> Path:
    """A folder with a finished small run and a student, in which the documents' commands are tried."""
    folder = tmp_path_factory.mktemp("documents")
    shutil.copytree(student_run, folder / "runs" / "peg-0")
    shutil.copytree(ROOT / "examples", folder / "examples")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_every_block_of_code_runs(page, workplace):
    program = ""
    for kind, block in FENCE.findall(page.read_text()):
        if kind == "python" and (name := re.match(r"# (\w+\.py)\n", block)):
            (workplace / name[1]).write_text(block)
        elif kind == "python":
            program += block + "\n"
        elif kind == "sh":
            for line in block.splitlines():
                run_line(line.split("#")[0].strip(), workplace)
    if program:
        result = subprocess.run([sys.executable, "-c", program], cwd=workplace, env=environment(), capture_output=True)
        assert result.returncode == 0, result.stderr.decode()[-2000:]


def run_line(line: str, workplace: Path) -> None:
    """Runs a command of a document, with a small budget; installing is tried by `.ci/run`."""
    words = line.split()
    if not words or words[0] in ("pip", "git", "cd", "apt-get") or "--web" in words:
        return
    command = next((word for word in words if word in BUDGETS), "")
    small = BUDGETS.get(command, [])
    if words[0] == "expertgen":
        with contextlib.chdir(workplace):
            code, _, err = commands.call(*words[1:], *small)
        assert code == 0, f"{line}\n{err}"
        return
    if words[0] == "python":
        words[0] = sys.executable
        script = Path(words[1])
        if not (workplace / script).exists():
            words[1] = str(ROOT / script)
    result = subprocess.run([*words, *small], cwd=workplace, env=environment(), capture_output=True)
    assert result.returncode == 0, f"{line}\n{result.stderr.decode()[-2000:]}"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_notebook_runs(tmp_path):
    notebook = nbformat.read(ROOT / "docs" / "notebook.ipynb", as_version=4)
    (budget,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ())]
    budget.source = (
        "preset = {'demo': {'episodes': 64, 'max_episodes': 64}, 'prior': {'train_steps': 50, 'width': 32},"
        "'eval_episodes': 16, 'steer': {'worlds': 16, 'episodes': 96, 'eval_period': 48, 'eval_episodes': 16,"
        "'buffer_decisions': 1024, 'block_decisions': 480, 'confirm_episodes': 16}}"
    )
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert (tmp_path / "runs" / "notebook" / "checkpoints" / "expert").is_dir()
