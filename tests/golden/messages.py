"""One sample of every struct that leaves a process: on the bus, in a stream, or in a file of a host."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import msgspec
from msgspec import inspect

from services.agent.core.routing.choices import Selection
from services.agent.state.identity import Identity
from services.agent.state.statefile import Picture
from services.management.core.entities import KINDS, Entity, Ref
from services.management.core.model.commit import Activity, Actor, Commit
from services.management.projector.succession import Claim
from shared.events.documents import Beacon, Document, FeedMessage, Tombstone
from shared.events.facts import CandidacyFact, LeaseFact, ReportFact, ResolutionFact, SessionFact
from shared.events.signals import (
    Beat,
    Candidates,
    Departed,
    Enrolled,
    EnrolRefused,
    EnrolRequest,
    Lease,
    LeaseRefused,
    LeaseRequest,
    Resolve,
    Resolved,
)

FILE = Path(__file__).with_suffix(".json")

WHOLE: tuple[type[msgspec.Struct], ...] = (
    Beacon,
    Claim,
    SessionFact,
    ReportFact,
    CandidacyFact,
    LeaseFact,
    ResolutionFact,
    LeaseRequest,
    Lease,
    LeaseRefused,
    EnrolRequest,
    Enrolled,
    EnrolRefused,
    Beat,
    Candidates,
    Departed,
    Resolve,
    Resolved,
    Picture,
    Selection,
    Identity,
)
"""Messages and files that hold one kind of thing."""


def samples() -> Iterator[tuple[str, msgspec.Struct]]:
    """Name and value; those that carry one of several things once for each."""
    for struct in WHOLE:
        yield struct.__name__, sample(struct)
    for document in (*get_args(Document), Tombstone):
        yield f"FeedMessage {document.__name__}", FeedMessage(revision=7, document=sample(document))
    for entity in get_args(Entity):
        yield (
            f"Commit {entity.__name__}",
            Commit(
                account="account",
                at=1.5,
                actor=sample(Actor),
                activities=(sample(Activity),),
                upserts=(sample(entity),),
                deletes=(Ref(KINDS[entity], "id"),),
            ),
        )


def sample(struct: type[Any]) -> Any:
    """A value of every field that its type allows."""
    fields = inspect.type_info(struct).fields  # type: ignore[attr-defined]
    return struct(**{field.name: _value(field.type, field.name) for field in fields})


def _value(kind: inspect.Type, name: str) -> Any:
    match kind:
        case inspect.StrType():
            return name
        case inspect.BoolType():
            return True
        case inspect.IntType():
            return 7
        case inspect.FloatType():
            return 1.5
        case inspect.BytesType():
            return name.encode()
        case inspect.NoneType():
            return None
        case inspect.LiteralType():
            return kind.values[0]
        case inspect.StructType():
            return sample(kind.cls)
        case inspect.UnionType():
            return _value(next(each for each in kind.types if not isinstance(each, inspect.NoneType)), name)
        case inspect.VarTupleType():
            return (_value(kind.item_type, name),)
        case inspect.TupleType():
            return tuple(_value(each, name) for each in kind.item_types)
        case inspect.FrozenSetType():
            return frozenset({_value(kind.item_type, name)})
        case inspect.DictType():
            return {_value(kind.key_type, "key"): _value(kind.value_type, name)}
        case _:
            raise AssertionError(f"no sample of {kind}: add one to {__name__}")


def plain(value: msgspec.Struct) -> Any:
    """What travels, without the names that a decoder knows."""
    return msgspec.msgpack.decode(msgspec.msgpack.encode(value))


def golden() -> dict[str, list[Any]]:
    """Name → every form that a released version wrote, the newest last."""
    return json.loads(FILE.read_text()) if FILE.exists() else {}


def main() -> None:
    """Add the forms that are new. What was written once stays: somebody may still hold it."""
    forms = golden()
    for name, value in samples():
        kept = forms.setdefault(name, [])
        if plain(value) not in kept:
            kept.append(plain(value))
    FILE.write_text(json.dumps(forms, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
