"""The AsyncAPI 3 document of the bus, generated from the catalogue. `just docs` writes it to asyncapi.json."""

import inspect
import json
from pathlib import Path
from typing import Any

import msgspec

from deploy.docs.catalogue import EVENTS, PARAMETERS, Event, name, parties, structs
from shared.events import documents
from shared.events.documents import FeedMessage, Tombstone
from shared.version import VERSION

FILE = Path(__file__).with_name("asyncapi.json")

Json = dict[str, Any]

_SCHEMA = "#/components/schemas/"

_STREAMS = {
    "LOG": "Kept in stream LOG, in order, for ever.",
    "FACTS": "Last value per subject, kept in stream FACTS.",
    "FEED": "Last value per subject, kept in stream FEED; the server republishes it on the same subject after `live.`.",
    None: "Passes and is not kept.",
}


def document() -> Json:
    """The whole document; equal catalogues give equal documents."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Whimbrel's bus",
            "version": VERSION,
            "description": "Intent (LOG), facts (FACTS), feed (FEED), enrolment, introductions and heartbeats. "
            "Schemas of type array are MessagePack arrays, the others maps; `type` or the first item is the tag.",
            "license": {"name": "BSD-3-Clause"},
        },
        "defaultContentType": "application/msgpack",
        "channels": dict(_channel(event) for event in EVENTS) | dict(map(_reply_channel, _requests())),
        "operations": dict(operation for event in EVENTS for operation in _operations(event)),
        "components": {
            "messages": dict(_message(event) for event in EVENTS) | dict(_replies()),
            "schemas": _schemas(),
        },
    }


def text() -> str:
    """The document as it is committed."""
    return json.dumps(document(), indent=2, ensure_ascii=False) + "\n"


def _requests() -> list[Event]:
    return [event for event in EVENTS if event.replies]


def _reference(*path: str) -> Json:
    return {"$ref": "/".join(("#", *path))}


def _channel(event: Event) -> tuple[str, Json]:
    tokens = [token.strip("{}") for token in event.subject.split(".") if token.startswith("{")]
    return name(event), {
        "address": event.subject,
        "description": f"{_STREAMS[event.stream]} Key: {event.key}.",
        "messages": {name(event): _reference("components", "messages", name(event))},
        "parameters": {token: {"description": PARAMETERS[token]} for token in tokens},
    }


def _reply_channel(event: Event) -> tuple[str, Json]:
    names = [reply.__name__ for reply in event.replies]
    return f"{name(event)}-reply", {
        "address": None,
        "description": "The inbox that the request names.",
        "messages": {each: _reference("components", "messages", each) for each in names},
    }


def _operations(event: Event) -> list[tuple[str, Json]]:
    operations = []
    for party, action in parties(event):
        operation: Json = {
            "action": action,
            "channel": _reference("channels", name(event)),
            "summary": f"{party} {action}s {event.struct.__name__}",
            "messages": [_reference("channels", name(event), "messages", name(event))],
            "tags": [{"name": party}],
        }
        if event.replies:
            operation["reply"] = {"channel": _reference("channels", f"{name(event)}-reply")}
        operations.append((f"{party}-{action}-{name(event)}", operation))
    return operations


def _message(event: Event) -> tuple[str, Json]:
    message = _described(event.struct)
    if event.stream == "FEED":
        message["payload"] = _in_the_feed(event.struct)
    if event.sealed:
        message["contentType"] = "application/octet-stream"
        message["payload"] = _sealed((event.struct, *event.others))
    return name(event), message


def _described(struct: type[msgspec.Struct]) -> Json:
    says = inspect.getdoc(struct) or struct.__name__
    return {
        "name": struct.__name__,
        "summary": says.partition("\n")[0],
        "description": says,
        "payload": {"$ref": _SCHEMA + struct.__name__},
    }


def _sealed(inside: tuple[type[msgspec.Struct], ...]) -> Json:
    named = " or ".join(f"{struct.__name__} (see {_SCHEMA}{struct.__name__})" for struct in inside)
    return {
        "type": "string",
        "format": "binary",
        "description": f"24 nonce bytes and the NaCl box of {named}, sender's to receiver's WireGuard key.",
    }


def _in_the_feed(type_: type[msgspec.Struct]) -> Json:
    """A FeedMessage that holds a document of one type, or its tombstone."""
    return {
        "type": "array",
        "items": [
            {"title": "revision", "type": "integer", "description": "LOG sequence the document stands for."},
            {"oneOf": [{"$ref": _SCHEMA + type_.__name__}, {"$ref": _SCHEMA + Tombstone.__name__}]},
        ],
        "minItems": 2,
    }


def _replies() -> list[tuple[str, Json]]:
    return [(reply.__name__, _described(reply)) for event in _requests() for reply in event.replies]


def _schemas() -> Json:
    _, components = msgspec.json.schema_components([*structs(), Tombstone], ref_template=_SCHEMA + "{name}")
    schemas = {title: _draft_07(schema) for title, schema in sorted(components.items())}
    for title, fields in _array_fields().items():
        for field, item in zip(fields, schemas[title]["items"], strict=True):
            item["title"] = field
    return schemas


def _array_fields() -> dict[str, tuple[str, ...]]:
    """The items of each struct that travels as an array, by its name; they have no names on the way."""
    found = [each for each in vars(documents).values() if isinstance(each, type) and issubclass(each, msgspec.Struct)]
    return {
        struct.__name__: (*(("tag",) if struct.__struct_config__.tag else ()), *struct.__struct_fields__)
        for struct in found
        if struct.__struct_config__.array_like and struct is not FeedMessage
    }


def _draft_07(schema: Any) -> Any:
    """A JSON Schema 2020-12 as AsyncAPI's default schema format wants it: arrays of draft 7, no OpenAPI keywords."""
    if isinstance(schema, list):
        return [_draft_07(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    plain = {key: _draft_07(value) for key, value in schema.items() if key not in ("prefixItems", "discriminator")}
    if "prefixItems" in schema:
        if "items" in plain:
            plain["additionalItems"] = plain["items"]
        plain["items"] = _draft_07(schema["prefixItems"])
    if "description" in plain and isinstance(plain["description"], str):
        plain["description"] = inspect.cleandoc(plain["description"])
    return plain


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
