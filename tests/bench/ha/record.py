"""What was measured so far, scene by scene, in a file: a bench that is interrupted goes on where it was."""

import os
import tempfile
from pathlib import Path

import msgspec

from deploy.lab.ha.pulse import Window
from tests.bench.figures import Figure

FILE = Path(tempfile.gettempdir()) / "whimbrel-bench-ha.json"


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One run of a scene. rest: the pulse before it, when nothing happened. switches: why the client moved, each time,
    where nobody should. problem: why it did not end well, or ""."""

    seen: Window
    rest: Window
    switches: list[str] = []
    problem: str = ""


class Kept(msgspec.Struct):
    """The file. runs: scene → its runs. figures: scene that is measured at once → what was found."""

    runs: dict[str, list[Run]] = {}
    figures: dict[str, list[Figure]] = {}


class Record:
    """What the file holds. Everything is on disk as soon as it is added."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.kept = msgspec.json.decode(file.read_bytes(), type=Kept) if file.exists() else Kept()

    def runs(self, scene: str) -> list[Run]:
        return self.kept.runs.get(scene, [])

    def add(self, scene: str, run: Run) -> None:
        self.kept.runs.setdefault(scene, []).append(run)
        self._save()

    def keep(self, scene: str, figures: list[Figure]) -> None:
        self.kept.figures[scene] = figures
        self._save()

    def _save(self) -> None:
        new = self._file.with_suffix(".new")
        new.write_bytes(msgspec.json.format(msgspec.json.encode(self.kept)))
        os.replace(new, self._file)


def nothing() -> Window:
    """Of a run that saw nothing."""
    return Window(sent=0, lost=0, outage_s=0.0, late_s=0.0)
