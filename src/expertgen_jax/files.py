"""Files that are written whole or not at all."""

import contextlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path` (same suffix) that replaces it on success and vanishes on failure."""
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """Yields a path for a folder that becomes `folder`, which must not be there, on success and vanishes on failure."""
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        yield temporary / folder.name
        (temporary / folder.name).rename(folder)
    finally:
        shutil.rmtree(temporary)


def remove_leftovers(folder: Path) -> None:
    """Removes temporary files that `atomic` made in a folder for processes that were killed."""
    for path in folder.glob(".*"):
        name = re.fullmatch(r"\..+\.(\d+)(\.\w+)?", path.name)
        if name is not None and not _runs(int(name[1])):
            path.unlink(missing_ok=True)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        pass
    return True


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes a JSON file, whole or not at all."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")
