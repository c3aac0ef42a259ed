"""Answers on the terminal: tables for people, JSON for machines."""

import json
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:  # loaded when a table is printed: JSON, and a refusal, need none of it
    from rich.table import Table
    from rich.text import Text

PIPE_WIDTH = 10_000
"""Columns where no terminal says how wide it is: a line of the table stays one line."""

Row: TypeAlias = Mapping[str, Any]
Columns: TypeAlias = Mapping[str, str | Callable[[Row], Any]]
"""Heading → field of the row, or what makes the cell of it."""


def print_json(answer: Any) -> None:
    print(json.dumps(answer, indent=2, ensure_ascii=False))


def print_table(rows: Iterable[Row], columns: Columns) -> None:
    """One line per row."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in columns:
        table.add_column(heading)
    for row in rows:
        table.add_row(
            *(cell(row.get(column) if isinstance(column, str) else column(row)) for column in columns.values())
        )
    _show(table)


def print_object(thing: Row) -> None:
    """One line per field."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold")
    table.add_column()
    for name, value in thing.items():
        table.add_row(name, cell(value))
    _show(table)


def names(field: str) -> Callable[[Row], str]:
    """The names of the objects in a field, separated by commas."""
    return lambda row: ", ".join(thing["name"] for thing in row.get(field) or [])


def cell(value: Any) -> "Text":
    """A value as people read it; what it holds never acts on the terminal."""
    from rich.text import Text

    return Text("".join(character if character.isprintable() else "�" for character in _text(value)))


def _text(value: Any) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case dict():
            return str(value["name"]) if "name" in value else ", ".join(f"{k} {_text(v)}" for k, v in value.items())
        case list():
            return ", ".join(map(_text, value))
    return str(value)


def _show(table: "Table") -> None:
    from rich.console import Console

    if sys.stdout.isatty():
        Console(highlight=False).print(table)
        return
    console = Console(highlight=False, width=PIPE_WIDTH)
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        print(line.rstrip())
