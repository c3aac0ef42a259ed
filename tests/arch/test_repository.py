"""What the tracked files may and must say."""

import re
import tomllib
from pathlib import Path

import pytest

from shared.version import VERSION
from tests.arch.tree import ROOT, SERVICES, tracked

# Put together from parts, so that this file does not contain what it looks for.
REGISTRIES = "|".join(
    re.escape(".".join(parts))
    for parts in [
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("crates", "io"),
        ("npmjs", "org"),
        ("npmjs", "com"),
        ("proxy.golang", "org"),
        ("sum.golang", "org"),
        ("maven", "org"),
        ("maven.apache", "org"),
        ("deb.debian", "org"),
        ("archive.ubuntu", "com"),
        ("pkg", "dev"),
    ]
) + "|".join(("", "--index" + "-url", "--extra-index" + "-url", "--find" + "-links"))
MACHINE_PATHS = r"(?<![\w.\-])/(?:{})(?=/)".format("|".join(("work", "root", "home", "opt/wheels")))

HEADINGS = [
    "Duty",
    "Events in and out",
    "State and owner",
    "Invariants",
    "Failure modes and what the operator sees",
    "Decisions",
]


def lines_with(pattern: str) -> list[str]:
    wanted = re.compile(pattern)
    return [
        f"{path}:{number}: {line.strip()}"
        for path in tracked()
        for number, line in enumerate((ROOT / path).read_text(encoding="utf-8", errors="replace").splitlines(), 1)
        if wanted.search(line)
    ]


def test_no_file_has_the_address_of_a_package_registry() -> None:
    assert lines_with(REGISTRIES) == []


def test_no_file_has_a_path_of_somebodys_machine() -> None:
    assert lines_with(MACHINE_PATHS) == []


@pytest.mark.parametrize(
    ("pattern", "line", "found"),
    [
        (REGISTRIES, "https://" + "pypi" + ".org/simple", True),
        (REGISTRIES, "--index" + "-url somewhere", True),
        (REGISTRIES, "httpx==0.28.1", False),
        (MACHINE_PATHS, "cd /" + "work/main", True),
        (MACHINE_PATHS, '"/' + 'root/.cache"', True),
        (MACHINE_PATHS, "services/root/x and net/work/x", False),
    ],
)
def test_the_patterns_find_what_they_are_for(pattern: str, line: str, found: bool) -> None:
    assert bool(re.search(pattern, line)) is found


@pytest.mark.parametrize("name", ["tools", "run", "dev"])
def test_every_locked_requirement_has_one_version_and_a_hash(name: str) -> None:
    text = (ROOT / f"requirements/{name}.txt").read_text().replace("\\\n", " ")
    unpinned = [line for line in text.splitlines() if not re.match(r"[\w.-]+==\S+ .*--hash=sha256:[0-9a-f]{64}", line)]
    assert unpinned == []


def test_development_uses_the_versions_that_run() -> None:
    run, dev = (
        set(re.findall(r"^\S+==\S+", (ROOT / f"requirements/{n}.txt").read_text(), re.M)) for n in ("run", "dev")
    )
    assert run - dev == set()


def test_there_is_no_lock_that_records_addresses() -> None:
    assert [path for path in tracked() if path.name in {"uv.lock", "poetry.lock", "pdm.lock", "Pipfile.lock"}] == []


def test_the_top_level_holds_only_what_belongs_there() -> None:
    allowed = {"services", "shared", "deploy", "tests", "compose.yaml", "justfile"}
    for_people = {"README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "LICENSE"}
    tools_insist = {".ci", ".dockerignore", ".gitignore", ".pre-commit-config.yaml", "pyproject.toml", "requirements"}
    assert {path.parts[0] for path in tracked()} - allowed - for_people - tools_insist == set()


def test_the_command_is_called_whimbrel() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {"whimbrel": "services.cli.__main__:main"}


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_has_its_design_beside_the_code(service: str) -> None:
    text = (ROOT / f"services/{service}/DESIGN.md").read_text(encoding="utf-8")
    headings = re.findall(r"^##\s+(.+?)\s*$", text, re.M)
    assert [heading for heading in headings if heading in HEADINGS] == HEADINGS


def test_the_designs_name_tests_that_exist() -> None:
    named = [
        (path, test)
        for path in tracked()
        if path.name == "DESIGN.md"
        for test in re.findall(r"\btests/[\w/]+\.py", (ROOT / path).read_text(encoding="utf-8"))
    ]
    assert [f"{path}: {test}" for path, test in named if not (ROOT / test).is_file()] == []


def test_the_designs_name_metrics_that_exist() -> None:
    made = re.compile(r'\b(Counter|Gauge|Histogram)\(\s*"(whimbrel_\w+)"')
    code = "\n".join((ROOT / path).read_text(encoding="utf-8") for path in tracked() if path.suffix == ".py")
    exist = {name + "_total" if kind == "Counter" else name for kind, name in made.findall(code)}
    named = {
        (str(path), metric)
        for path in tracked()
        if path.suffix == ".md"
        for metric in re.findall(r"\bwhimbrel_\w+", (ROOT / path).read_text(encoding="utf-8"))
    }
    assert sorted((path, metric) for path, metric in named if metric not in exist) == []


def test_the_version_is_written_in_one_place() -> None:
    named = lines_with(r"\bwhimbrel(?:-[a-z]+)?:" + r"\d")
    assert named
    assert [line for line in named if not line.endswith(f":{VERSION}")] == []


def test_there_is_a_map_of_the_services() -> None:
    assert Path("services/DESIGN.md") in tracked()
