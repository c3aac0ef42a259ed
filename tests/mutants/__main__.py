"""Break the code on purpose, one mutant at a time, in copies of the tree: `just mutants [WORD]`.

Ends with 1 when the tests do not notice a mutant, when one no longer fits the code, or when they are red without one.
"""

import os
import queue
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.arch.tree import tracked
from tests.mutants.mutant import ROOT, Mutant, Outdated, mutants

AT_ONCE = min(4, os.cpu_count() or 1)
WITHIN_S = 600.0
"""For the tests of one mutant; whoever hangs has been noticed."""

GREEN, RED = 0, 1
"""Exit codes of pytest; any other says that it could not test."""


def main() -> int:
    words = sys.argv[1:]
    chosen = [one for one in mutants() if all(word in f"{one.file} {one.wrong}" for word in words)]
    if not chosen:
        print(f"error: no mutant has {' '.join(words)!r} in its file or description", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="whimbrel-mutants-") as folder, ThreadPoolExecutor(AT_ONCE) as pool:
        copies = queue.SimpleQueue[Path]()
        for number in range(AT_ONCE):
            copies.put(_copy(Path(folder) / str(number)))
        print(f"{len(chosen)} mutants, {AT_ONCE} at once")
        tests = sorted({test for one in chosen for test in one.tests})
        unmutated = copies.get()
        if _run(["--numprocesses", str(2 * AT_ONCE), *tests], unmutated, output=None) != GREEN:
            print("error: the tests are red without a mutant: put them right first", file=sys.stderr)
            return 1
        copies.put(unmutated)
        noticed = list(pool.map(lambda one: _report(one, copies), chosen))
    print(f"{sum(noticed)} of {len(noticed)} noticed")
    return 0 if all(noticed) else 1


def _report(mutant: Mutant, copies: "queue.SimpleQueue[Path]") -> bool:
    root = copies.get()
    began = time.monotonic()
    word = _tried(mutant, root)
    copies.put(root)
    print(f"{word:9} {time.monotonic() - began:6.1f} s  {mutant.file}: {mutant.wrong}", flush=True)
    return word == "noticed"


def _tried(mutant: Mutant, root: Path) -> str:
    file = root / mutant.file
    try:
        mutated = mutant.mutated(root)
    except Outdated:
        return "outdated"
    original = file.read_text(encoding="utf-8")
    file.write_text(mutated, encoding="utf-8")
    try:
        code = _run(mutant.tests, root)
    finally:
        file.write_text(original, encoding="utf-8")
    return {GREEN: "SURVIVED", RED: "noticed"}.get(code, f"BROKEN {code}")


def _run(arguments: Iterable[str], root: Path, output: int | None = subprocess.DEVNULL) -> int:
    # The path comes before that of the installed package, in every process that a test starts.
    environment = {**os.environ, "PYTHONPATH": str(root)}
    command = [sys.executable, "-m", "pytest", "-q", "--exitfirst", "-p", "no:cacheprovider", *arguments]
    try:
        return subprocess.run(
            command, cwd=root, env=environment, stdout=output, stderr=output, timeout=WITHIN_S
        ).returncode
    except subprocess.TimeoutExpired:
        return RED


def _copy(root: Path) -> Path:
    for path in tracked():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / path, root / path)
    return root


if __name__ == "__main__":
    sys.exit(main())
