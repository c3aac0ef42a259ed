"""The tracked files of this repository, as text and as syntax trees."""

import ast
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SERVICES = ("management", "signal", "resolver", "agent")


@cache
def tracked() -> tuple[Path, ...]:
    """Every file that a clone would have or is about to get, relative to the root, without what .gitignore names."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return tuple(path for name in sorted(listed.split("\0")) if name and (ROOT / (path := Path(name))).is_file())


@cache
def parse(path: Path) -> ast.Module:
    return ast.parse((ROOT / path).read_text(encoding="utf-8"), filename=str(path))


def modules(*tops: str) -> Iterator[tuple[Path, ast.Module]]:
    """Python files beneath the given top-level folders, with their trees."""
    for path in tracked():
        if path.suffix == ".py" and path.parts[0] in tops:
            yield path, parse(path)
