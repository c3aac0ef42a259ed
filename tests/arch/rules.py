"""Rules of the house that import-linter cannot see. Each takes a syntax tree and gives the lines that break it."""

import ast
from collections.abc import Iterator

BUS_ROOTS = ("log", "fact", "feed", "live", "signal")
"""First tokens of bus subjects; only shared/events/subjects.py puts one together."""

IMPURE_CALLS = {"now", "utcnow", "today", "uuid1", "uuid4", "urandom", "getrandom"}
"""Clock and chance that hide in modules a core may import (datetime, uuid, os)."""


def blind_catches(tree: ast.Module) -> list[int]:
    """Lines that catch every error. Tidying up and re-raising (`except BaseException: …; raise`) catches nothing."""
    handlers = (node for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler))
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call))
    caught = [handler.lineno for handler in handlers if _catches_all(handler)]
    suppressed = [call.lineno for call in calls if _name(call.func) == "suppress" and any(map(_is_blind, call.args))]
    return sorted(caught + suppressed)


def _catches_all(handler: ast.ExceptHandler) -> bool:
    caught = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    last = handler.body[-1]
    if [_name(kind) for kind in caught] == ["BaseException"] and isinstance(last, ast.Raise) and last.exc is None:
        return False
    return any(kind is None or _is_blind(kind) for kind in caught)


def _is_blind(kind: ast.expr) -> bool:
    return _name(kind) in {"Exception", "BaseException"}


def matches_on_error_text(tree: ast.Module) -> list[int]:
    """Lines that decide by the text of a caught error instead of by its type and fields."""
    return sorted(
        node.lineno
        for handler in ast.walk(tree)
        if isinstance(handler, ast.ExceptHandler) and handler.name
        for node in ast.walk(handler)
        if isinstance(node, ast.Compare | ast.Call) and _decides(node)
        if any(_is_text_of(part, handler.name) for part in ast.walk(node))
    )


def _decides(node: ast.Compare | ast.Call) -> bool:
    searches = {"startswith", "endswith", "match", "search", "fullmatch"}
    return isinstance(node, ast.Compare) or _name(node.func) in searches


def _is_text_of(node: ast.AST, error: str) -> bool:
    if isinstance(node, ast.Call) and _name(node.func) in {"str", "repr"}:
        return any(isinstance(argument, ast.Name) and argument.id == error for argument in node.args)
    return isinstance(node, ast.Attribute) and node.attr == "args" and _name(node.value) == error


def deaf_loops(tree: ast.Module) -> list[int]:
    """Endless loops of coroutines that never ask whether they shall end (shared.tasks: a cancellation can be lost)."""
    return sorted(
        loop.lineno
        for function in ast.walk(tree)
        if isinstance(function, ast.AsyncFunctionDef)
        for loop in _own_loops(function)
        if isinstance(loop.test, ast.Constant) or _waits_for_an_end(loop.test)
        if not any(isinstance(node, ast.Call) and _name(node.func) == "end_if_cancelled" for node in ast.walk(loop))
    )


def _waits_for_an_end(test: ast.expr) -> bool:
    """Whether a loop goes on for as long as an attribute is None: as endless, for what does not set it."""
    return isinstance(test, ast.Compare) and isinstance(test.left, ast.Attribute) and isinstance(test.ops[0], ast.Is)


def _own_loops(node: ast.AST) -> Iterator[ast.While]:
    """The loops of a function, without those of functions within it."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.While):
            yield child
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from _own_loops(child)


def built_subjects(tree: ast.Module) -> list[int]:
    """Lines that join the first token of a bus subject with something that is not written there."""
    return sorted({start.lineno for node in ast.walk(tree) for start in _joined_onto(node) if _starts_subject(start)})


def _joined_onto(node: ast.AST) -> Iterator[ast.expr]:
    """The leftmost part of an expression that puts a string together."""
    if isinstance(node, ast.JoinedStr) and any(isinstance(part, ast.FormattedValue) for part in node.values):
        yield node.values[0]
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Mod):
        yield node.left
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        if node.func.attr == "format":
            yield node.func.value
        elif node.func.attr == "join" and _text(node.func.value) == "." and node.args:
            yield from _first_token(node.args[0])


def _first_token(joined: ast.expr) -> Iterator[ast.expr]:
    if isinstance(joined, ast.Tuple | ast.List) and joined.elts:
        yield ast.copy_location(ast.Constant(f"{_text(joined.elts[0])}."), joined)


def _starts_subject(part: ast.expr) -> bool:
    return (_text(part) or "").startswith(tuple(f"{root}." for root in BUS_ROOTS))


def impure_calls(tree: ast.Module) -> list[int]:
    """Lines of a core that ask a clock or chance instead of taking it as an argument."""
    return sorted(
        node.lineno for node in ast.walk(tree) if isinstance(node, ast.Call) and _name(node.func) in IMPURE_CALLS
    )


def outward_imports(tree: ast.Module, service: str, part: str, *, siblings_meet: bool = False) -> list[int]:
    """Lines of services/<service>/<part> that import a part further out, or another part of the same ring.

    From the outside: __main__, wiring, upkeep, agent, member, the siblings, situation, ports, settings, core, errors.
    siblings_meet: parts between member and situation may import each other.
    """
    lines = []
    for line, other in _parts_imported(tree, service):
        mine, theirs = _ring(part), _ring(other)
        allowed = other == part or mine > theirs or (siblings_meet and mine == theirs)
        if not allowed:
            lines.append(line)
    return sorted(lines)


RINGS = (
    *("errors", "core", "settings", "cells", "ports", "situation"),
    "",
    *("member", "agent", "upkeep", "wiring", "__main__"),
)
"""From the inside; every part that is not named is a sibling of the others."""


def _ring(part: str) -> int:
    return RINGS.index(part if part in RINGS else "")


def _parts_imported(tree: ast.Module, service: str) -> Iterator[tuple[int, str]]:
    package = f"services.{service}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            if name.startswith(f"{package}."):
                yield node.lineno, name.removeprefix(f"{package}.").split(".")[0]


def relative_imports(tree: ast.Module) -> list[int]:
    """Lines with `from . import …`; imports are written from the repository root, so that one search finds them."""
    return sorted(node.lineno for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level)


def _name(node: ast.expr | None) -> str | None:
    """The last name of `name` or `some.name`."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else None


def _text(node: ast.expr) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None
