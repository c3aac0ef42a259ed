"""What sources and tests cite leads somewhere: decisions, measurements, facts about NetBird."""

import re

from tests.arch.tree import ROOT, tracked

DECISIONS = (ROOT / "services/DECISIONS.md").read_text()
NETBIRD = (ROOT / "services/NETBIRD.md").read_text()
CITING = [
    path for path in tracked() if path.suffix in {".py", ".md"} and path.name not in {"DECISIONS.md", "NETBIRD.md"}
]


def cited(pattern: str) -> set[tuple[str, ...]]:
    """What the pattern's groups found, each with the file it is in."""
    found = re.compile(pattern)
    return {
        (str(path), *match.groups())
        for path in CITING
        for match in found.finditer((ROOT / path).read_text(encoding="utf-8"))
    }


def test_every_decision_that_is_named_exists() -> None:
    rows = set(re.findall(r"^\| ([RAGDC]\d+) \|", DECISIONS, re.M))
    assert len(rows) > 40
    named = {
        (file, row)
        for file, rest in cited(r"\bdecisions? ((?:[RAGDC]\d+(?:, | and )?)+)")
        for row in re.findall(r"[RAGDC]\d+", rest)
    }
    named |= {(file, row.upper()) for file, row in cited(r"\bdef test_([ragdc]\d+)_")}
    assert sorted((file, row) for file, row in named if row not in rows) == []


def test_every_fact_that_is_cited_is_written_down() -> None:
    sections = {
        (heading, section)
        for heading, body in re.findall(r"^## ([a-z -]+)$(.*?)(?=^## |\Z)", NETBIRD, re.M | re.S)
        for section in re.findall(r"^\| ([\d., ]+) \|", body, re.M)
    }
    assert len(sections) > 20
    missing = {
        (file, f"{heading} §{section}")
        for file, heading, section in cited(r"\b((?:reference )?(?:control-plane|agent|connectivity)) §([\d.]*\d)")
        if not any(known == heading and covers(number, section) for known, number in sections)
    }
    assert sorted(missing) == []


def covers(number: str, section: str) -> bool:
    """§8 covers §8.3: some rows sum up a chapter."""
    return section == number.split(",")[0] or section.startswith(number.split(",")[0] + ".")


def test_names_of_documents_lead_to_them() -> None:
    named = cited(r"\b([A-Z]{5,}\.md)\b")
    here = {path.name for path in tracked() if path.suffix == ".md"}
    assert sorted((file, name) for file, name in named if name not in here) == []
