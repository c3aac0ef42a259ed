"""The curated mutants, and whether each fits the code."""

from pathlib import Path

import msgspec

ROOT = Path(__file__).resolve().parents[2]


class Mutant(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`old` stands once in `file`; with `new` in its place something goes `wrong`, and one of the `tests` is red.

    file: relative to the root. tests: what pytest is given.
    """

    wrong: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def mutated(self, root: Path) -> str:
        """The file's text with the mutation; raises Outdated."""
        file = root / self.file
        text = file.read_text(encoding="utf-8") if file.is_file() else ""
        if text.count(self.old) != 1:
            raise Outdated(f"{self.file} holds {text.count(self.old)} times, and not once: {self.old.strip()}")
        for test in self.tests:
            path, _, name = test.partition("::")
            if not (root / path).exists() or (name and f"def {name}(" not in (root / path).read_text(encoding="utf-8")):
                raise Outdated(f"{self.file}: there is no {test}")
        return text.replace(self.old, self.new)


class Outdated(Exception):
    """Correct the mutant in mutants.toml: the code or its tests have moved on."""


class _File(msgspec.Struct, forbid_unknown_fields=True):
    mutant: tuple[Mutant, ...]


def mutants() -> tuple[Mutant, ...]:
    return msgspec.toml.decode(Path(__file__).with_name("mutants.toml").read_bytes(), type=_File).mutant
