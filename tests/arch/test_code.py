"""Every module keeps the rules of the house."""

import ast
from collections.abc import Callable, Iterable
from pathlib import Path

from tests.arch import rules
from tests.arch.tree import SERVICES, modules

SUBJECTS = Path("shared/events/subjects.py")


def broken(rule: Callable[[ast.Module], list[int]], files: Iterable[tuple[Path, ast.Module]]) -> list[str]:
    return [f"{path}:{line}" for path, tree in files for line in rule(tree)]


def test_only_wiring_catches_every_error() -> None:
    everywhere = modules("services", "shared", "deploy", "tests")
    assert broken(rules.blind_catches, ((path, tree) for path, tree in everywhere if path.name != "wiring.py")) == []


def test_nobody_decides_by_the_text_of_an_error() -> None:
    assert broken(rules.matches_on_error_text, modules("services", "shared", "deploy", "tests")) == []


def test_whatever_goes_on_for_ever_asks_whether_it_shall_end() -> None:
    assert broken(rules.deaf_loops, modules("services", "shared", "deploy")) == []


def test_bus_subjects_are_put_together_in_one_module() -> None:
    elsewhere = ((path, tree) for path, tree in modules("services", "shared", "deploy") if path != SUBJECTS)
    assert broken(rules.built_subjects, elsewhere) == []


def test_cores_take_time_and_chance_as_arguments() -> None:
    cores = ((path, tree) for path, tree in modules("services") if path.parts[2:3] == ("core",))
    assert broken(rules.impure_calls, cores) == []


def test_imports_are_written_from_the_root() -> None:
    assert broken(rules.relative_imports, modules("services", "shared", "deploy", "tests")) == []


def test_parts_of_a_service_import_only_what_lies_further_in() -> None:
    outward = [
        f"{path}:{line}"
        for path, tree in modules("services")
        if len(path.parts) > 2
        for service, part in [(path.parts[1], path.parts[2].removesuffix(".py"))]
        for line in rules.outward_imports(tree, service, part, siblings_meet=service not in SERVICES)
    ]
    assert outward == []
