"""The document of the bus says what the code does."""

import inspect
import json
import re
from typing import Any, get_args

import msgspec
import pytest

from deploy.docs import asyncapi, catalogue
from deploy.docs.catalogue import EVENTS, PARAMETERS, Event
from services.management.core.model.commit import Commit
from shared.events import documents, facts, signals, subjects

DOCUMENT = asyncapi.document()


def test_the_committed_document_is_the_generated_one() -> None:
    assert asyncapi.FILE.read_text(encoding="utf-8") == asyncapi.text(), "run `just docs`"


def test_every_event_is_in_the_catalogue() -> None:
    tagged = {
        struct
        for module in (documents, facts, signals)
        for struct in vars(module).values()
        if isinstance(struct, type) and issubclass(struct, msgspec.Struct) and struct.__struct_config__.tag
    }
    assert {*catalogue.structs(), documents.Tombstone} == tagged | {Commit}


def test_every_kind_of_document_has_its_subject() -> None:
    kinds = {event.struct: event.subject.split(".")[3] for event in EVENTS if event.stream == "FEED"}
    assert kinds == documents.KINDS
    assert set(kinds) == set(get_args(documents.Document))


def example(event: Event) -> str:
    """A subject of the event."""
    return re.sub(r"\{(\w+)\}", lambda token: {"audience": "g.group1"}.get(token[1], f"{token[1]}1"), event.subject)


@pytest.mark.parametrize(
    ("name", "subject"),
    [
        ("log", "log.account1"),
        ("fact-peer-session", "fact.account1.peer.peer1.session"),
        ("fact-peer-report", "fact.account1.peer.peer1.report"),
        ("fact-route-resolution", "fact.account1.route.route1.resolution"),
        ("feed-route", "feed.account1.g.group1.route.id1"),
        ("feed-self", "feed.account1.g.group1.self.id1"),
        ("enrol", "enrol.key_hash1"),
        ("signal-from", "signal.account1.from.sender1.receiver1"),
        ("signal-to", "signal.account1.to.receiver1.sender1"),
        ("signal-beat", "signal.account1.beat.peer1"),
    ],
)
def test_the_addresses_are_the_grammars(name: str, subject: str) -> None:
    (event,) = [event for event in EVENTS if catalogue.name(event) == name]
    assert example(event) == subject


def test_the_audience_of_a_document_is_two_tokens_of_the_grammar() -> None:
    for event in EVENTS:
        if event.stream == "FEED":
            assert subjects.parse_feed(example(event)).audience == "g.group1"


def test_channels_have_names_of_their_own_and_every_parameter_is_explained() -> None:
    assert len({catalogue.name(event) for event in EVENTS}) == len(EVENTS)
    used = {token for event in EVENTS for token in re.findall(r"\{(\w+)\}", event.subject)}
    assert used == set(PARAMETERS)


@pytest.mark.parametrize("event", EVENTS, ids=catalogue.name)
def test_the_docstring_agrees_on_who_sends_and_who_reads(event: Event) -> None:
    said = inspect.getdoc(event.struct) or ""
    producer = re.search(r"Producer: ([^.]+)\.", said)
    consumers = re.search(r"Consumers?: ([^.]+)\.", said)
    words = {"the projector": "management", "management's replicas": "management", "the agent itself": "agent"}
    if producer and not event.sealed:
        assert any(party in words.get(producer[1], producer[1]) for party in event.producers)
    if consumers and not event.sealed:
        assert any(party in words.get(consumers[1], consumers[1]) for party in event.consumers)


def references(node: Any) -> list[str]:
    if isinstance(node, dict):
        here = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return here + [found for value in node.values() for found in references(value)]
    return [found for value in node for found in references(value)] if isinstance(node, list) else []


def test_every_reference_leads_somewhere() -> None:
    for reference in references(DOCUMENT):
        node = DOCUMENT
        for part in reference.removeprefix("#/").split("/"):
            assert part in node, reference
            node = node[part]


def test_what_is_sent_is_received_by_somebody() -> None:
    actions: dict[str, set[str]] = {}
    for operation in DOCUMENT["operations"].values():
        actions.setdefault(operation["channel"]["$ref"], set()).add(operation["action"])
    assert set(map(frozenset, actions.values())) == {frozenset({"send", "receive"})}


def test_items_of_an_array_have_the_names_of_the_fields() -> None:
    permit = DOCUMENT["components"]["schemas"]["Permit"]
    assert [item["title"] for item in permit["items"]] == [
        "rule_id",
        "action",
        "protocol",
        "ports",
        "sources",
        "source_peers",
    ]
    assert DOCUMENT["components"]["schemas"]["RouteDoc"]["items"][0] == {"enum": ["route.v1"], "title": "tag"}


def test_no_setup_key_is_in_any_schema() -> None:
    enrol = DOCUMENT["components"]["schemas"]["EnrolRequest"]
    assert "setup_key" not in json.dumps(enrol["properties"])
