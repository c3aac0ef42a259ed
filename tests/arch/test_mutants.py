"""The curated mutants keep up with the code; `just mutants` says whether the tests notice them."""

import ast

import pytest

from tests.mutants.mutant import ROOT, Mutant, mutants


@pytest.mark.parametrize("mutant", mutants(), ids=lambda one: one.wrong)
def test_a_mutant_fits_the_code(mutant: Mutant) -> None:
    """Correct `old` and `new` in tests/mutants/mutants.toml when the line they are about has changed."""
    text = mutant.mutated(ROOT)
    ast.parse(text)
    assert text != (ROOT / mutant.file).read_text(encoding="utf-8")


def test_no_mutant_is_there_twice() -> None:
    assert len({one.wrong for one in mutants()}) == len({(one.file, one.old) for one in mutants()}) == len(mutants())
