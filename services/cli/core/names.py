"""Objects by id or, where that is not ambiguous, by name."""

from collections.abc import Iterable, Mapping
from typing import Any


class NotFound(Exception):
    """Write an id or a name that exists."""


class Ambiguous(Exception):
    """Write the id: several objects have the name."""


def find(
    objects: Iterable[Mapping[str, Any]], wanted: str, what: str, names: Iterable[str] = ("name",)
) -> Mapping[str, Any]:
    """The object whose id is `wanted`, else the only one that has it in a field of `names`.

    Raises NotFound or Ambiguous.
    """
    listed = list(objects)
    for candidate in listed:
        if candidate["id"] == wanted:
            return candidate
    named = [candidate for candidate in listed if wanted and wanted in map(candidate.get, names)]
    if not named:
        raise NotFound(f"there is no {what} {wanted!r}")
    if len(named) > 1:
        ids = ", ".join(sorted(candidate["id"] for candidate in named))
        raise Ambiguous(f"{len(named)} {plural(what)} are called {wanted!r}: use one of the ids {ids}")
    return named[0]


def plural(what: str) -> str:
    return f"{what[:-1]}ies" if what.endswith("y") and not what.endswith("key") else f"{what}s"


def choose_record(
    records: Iterable[Mapping[str, Any]], wanted: str, name: str, type: str | None
) -> list[dict[str, Any]]:
    """The DNS record whose id is `wanted`, else those called `name`, of that type where one is given."""
    listed = list(map(dict, records))
    of_id = [record for record in listed if record["id"] == wanted]
    return of_id or [
        record for record in listed if record["name"] == name and (not type or record["type"] == type.upper())
    ]
