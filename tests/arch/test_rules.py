"""The rules themselves: each is shown code that breaks it and code that looks similar and does not."""

import ast
from collections.abc import Callable

import pytest

from tests.arch import rules

Rule = Callable[[ast.Module], list[int]]

BREAKS: list[tuple[Rule, str]] = [
    (rules.blind_catches, "try: f()\nexcept: pass"),
    (rules.blind_catches, "try: f()\nexcept Exception: pass"),
    (rules.blind_catches, "try: f()\nexcept (OSError, Exception) as error: log(error)"),
    (rules.blind_catches, "try: f()\nexcept BaseException: log()"),
    (rules.blind_catches, "try: f()\nexcept Exception:\n  tidy()\n  raise"),
    (rules.blind_catches, "with contextlib.suppress(Exception): f()"),
    (rules.matches_on_error_text, "try: f()\nexcept E as e:\n  if 'busy' in str(e): pass"),
    (rules.matches_on_error_text, "try: f()\nexcept E as e:\n  if str(e).startswith('busy'): pass"),
    (rules.matches_on_error_text, "try: f()\nexcept E as e:\n  if e.args[0] == 'busy': pass"),
    (rules.matches_on_error_text, "try: f()\nexcept E as e:\n  if re.search('busy', repr(e)): pass"),
    (rules.deaf_loops, "async def f():\n  while True:\n    await g()"),
    (rules.deaf_loops, "async def f():\n  while self.over is None:\n    await g()"),
    (rules.deaf_loops, "async def f():\n  with a:\n    while True:\n      try: await g()\n      except E: pass"),
    (rules.built_subjects, "f'feed.{account}.{audience}'"),
    (rules.built_subjects, "f'live.feed.{account}.>'"),
    (rules.built_subjects, "'log.' + account"),
    (rules.built_subjects, "'fact.%s.peer' % account"),
    (rules.built_subjects, "'fact.{}.peer'.format(account)"),
    (rules.built_subjects, "'.'.join(('log', account))"),
    (rules.impure_calls, "datetime.now(tz=UTC)"),
    (rules.impure_calls, "uuid.uuid4()"),
    (rules.impure_calls, "date.today()"),
    (rules.relative_imports, "from .errors import RetryLater"),
]

KEEPS: list[tuple[Rule, str]] = [
    (rules.blind_catches, "try: f()\nexcept (OSError, ValueError): pass"),
    (rules.blind_catches, "try: f()\nexcept BaseException:\n  tidy()\n  raise"),
    (rules.blind_catches, "with contextlib.suppress(ProcessLookupError): f()"),
    (rules.matches_on_error_text, "try: f()\nexcept OSError as e:\n  if e.errno == errno.EEXIST: pass"),
    (rules.matches_on_error_text, "try: f()\nexcept E as e: log(str(e))"),
    (rules.deaf_loops, "async def f():\n  while True:\n    end_if_cancelled()\n    await g()"),
    (rules.deaf_loops, "async def f():\n  while more: await g()"),
    (rules.deaf_loops, "def f():\n  while True: g()"),
    (rules.built_subjects, "'feed.>'"),
    (rules.built_subjects, "f'changelog.{number}'"),
    (rules.built_subjects, "f'{subject}.>'"),
    (rules.built_subjects, "'.'.join(labels)"),
    (rules.impure_calls, "advance(now)"),
    (rules.relative_imports, "from services.agent.errors import RetryLater"),
]


@pytest.mark.parametrize(("rule", "code"), BREAKS)
def test_a_rule_names_the_line_that_breaks_it(rule: Rule, code: str) -> None:
    assert len(rule(ast.parse(code))) == 1


@pytest.mark.parametrize(("rule", "code"), KEEPS)
def test_a_rule_leaves_similar_code_alone(rule: Rule, code: str) -> None:
    assert rule(ast.parse(code)) == []


@pytest.mark.parametrize(
    ("part", "imported", "allowed"),
    [
        ("__main__", "wiring", True),
        ("wiring", "loop", True),
        ("wiring", "__main__", False),
        ("loop", "ports", True),
        ("loop", "core.delta", True),
        ("loop", "loop.turn", True),
        ("loop", "drivers.nft", False),
        ("loop", "wiring", False),
        ("loop", "situation", True),
        ("loop", "cells", True),
        ("loop", "member", False),
        ("situation", "ports", True),
        ("situation", "loop", False),
        ("ports", "situation", False),
        ("cells", "core", True),
        ("core", "cells", False),
        ("member", "loop", True),
        ("member", "agent", False),
        ("wiring", "agent", True),
        ("ports", "core.delta", True),
        ("ports", "loop", False),
        ("settings", "errors", True),
        ("core", "errors", True),
        ("core", "settings", False),
        ("core", "ports", False),
        ("errors", "core", False),
    ],
)
def test_imports_inside_a_service_point_inwards(part: str, imported: str, allowed: bool) -> None:
    as_module = ast.parse(f"import services.agent.{imported}")
    as_name = ast.parse(f"from services.agent import {imported.partition('.')[0]}")
    assert rules.outward_imports(as_module, "agent", part) == ([] if allowed else [1])
    assert rules.outward_imports(as_name, "agent", part) == ([] if allowed else [1])


def test_siblings_may_meet_only_where_that_is_said() -> None:
    tree = ast.parse("from services.cli.render import table")
    assert rules.outward_imports(tree, "cli", "admin") == [1]
    assert rules.outward_imports(tree, "cli", "admin", siblings_meet=True) == []
