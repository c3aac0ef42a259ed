"""`whimbrel lab` before it makes anything."""

import os

import pytest

from tests.unit.cli.conftest import Run

NOBODY = 65_534


@pytest.mark.parametrize("name", ["../x", "a b", "", "-x", "a" * 21, "ä"])
@pytest.mark.parametrize("what", ["run", "up", "down"])
def test_a_name_that_is_none_is_one_line(what: str, name: str, whimbrel: Run) -> None:
    result = whimbrel("lab", what, f"--name={name}")
    assert (result.code, result.err) == (
        1,
        "error: --name: a lab is named with at most 20 letters, digits and hyphens, as lab2\n",
    )


@pytest.mark.parametrize("what", ["run", "up", "down"])
def test_the_lab_says_that_it_needs_root(what: str, whimbrel: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: NOBODY)
    result = whimbrel("lab", what)
    assert (result.code, result.err) == (1, "error: the lab makes network namespaces: run it as root\n")
