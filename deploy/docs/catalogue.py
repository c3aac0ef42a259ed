"""Every event of the bus: what it is, where it travels, who sends it and who reads it."""

import re
from typing import Literal, TypeAlias

import msgspec

from services.management.core.model.commit import Commit
from shared.events import subjects
from shared.events.documents import KINDS, Beacon, Document, ResolvingDoc, RouteDoc
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
from shared.events.subjects import FeedKey

Party: TypeAlias = Literal["management", "signal", "resolver", "agent"]
Stream: TypeAlias = Literal["LOG", "FACTS", "FEED"]


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of message.

    subject: as in shared.events.subjects, variable tokens in braces. stream: where it is kept, None for what only
    passes. key: the tokens that name the thing it is about. replies: the structs of the answer, for a request.
    sealed: the bus carries it as bytes that only the receiver can open. others: what may be inside instead.
    """

    struct: type[msgspec.Struct]
    subject: str
    stream: Stream | None
    producers: tuple[Party, ...]
    consumers: tuple[Party, ...]
    key: str
    replies: tuple[type[msgspec.Struct], ...] = ()
    sealed: bool = False
    others: tuple[type[msgspec.Struct], ...] = ()


ALSO_READ_BY: dict[type[Document], tuple[Party, ...]] = {RouteDoc: ("resolver",)}
"""Who reads a document beside agents, which read every kind but these."""

ONLY_READ_BY: dict[type[Document], Party] = {ResolvingDoc: "resolver"}


def _pattern(subject: str) -> str:
    """The subject with its upper-case tokens as variables: "log.ACCOUNT" → "log.{account}"."""
    return re.sub(r"[A-Z][A-Z_]*", lambda token: f"{{{token[0].lower()}}}", subject)


def _document(struct: type[Document]) -> Event:
    key = FeedKey("ACCOUNT", subjects.group_audience("AUDIENCE"), KINDS[struct], "ID")
    pattern = _pattern(subjects.feed(key)).replace("g.{audience}", "{audience}")
    return Event(
        struct=struct,
        subject=pattern,
        stream="FEED",
        producers=("management",),
        consumers=(ONLY_READ_BY.get(struct, "agent"), *ALSO_READ_BY.get(struct, ())),
        key="account, audience, id",
    )


EVENTS: tuple[Event, ...] = (
    Event(
        struct=Commit,
        subject=_pattern(subjects.log("ACCOUNT")),
        stream="LOG",
        producers=("management",),
        consumers=("management",),
        key="account",
    ),
    Event(
        struct=SessionFact,
        subject=_pattern(subjects.session_fact("ACCOUNT", "PEER")),
        stream="FACTS",
        producers=("signal",),
        consumers=("management", "signal"),
        key="account, peer",
    ),
    Event(
        struct=ReportFact,
        subject=_pattern(subjects.report_fact("ACCOUNT", "PEER")),
        stream="FACTS",
        producers=("agent",),
        consumers=("management",),
        key="account, peer",
    ),
    Event(
        struct=CandidacyFact,
        subject=_pattern(subjects.candidacy_fact("ACCOUNT", "PEER")),
        stream="FACTS",
        producers=("agent",),
        consumers=("management",),
        key="account, peer",
    ),
    Event(
        struct=ResolutionFact,
        subject=_pattern(subjects.resolution_fact("ACCOUNT", "ROUTE")),
        stream="FACTS",
        producers=("resolver",),
        consumers=("management", "resolver"),
        key="account, route",
    ),
    Event(
        struct=LeaseFact,
        subject=_pattern(subjects.lease_fact("ACCOUNT", "LEASE")),
        stream="FACTS",
        producers=("management",),
        consumers=("management",),
        key="account, lease",
    ),
    *map(_document, KINDS),
    Event(
        struct=Beacon,
        subject=_pattern(subjects.beacon("ACCOUNT", "g.AUDIENCE")).replace("g.{audience}", "{audience}"),
        stream=None,
        producers=("management",),
        consumers=("agent",),
        key="account, audience",
    ),
    Event(
        struct=EnrolRequest,
        subject=_pattern(subjects.enrol("KEY_HASH")),
        stream=None,
        producers=("agent",),
        consumers=("management",),
        key="hash of the setup key",
        replies=(Enrolled, EnrolRefused),
    ),
    Event(
        struct=LeaseRequest,
        subject=_pattern(subjects.lease("ACCOUNT", "PEER")),
        stream=None,
        producers=("agent",),
        consumers=("management",),
        key="account, peer",
        replies=(Lease, LeaseRefused),
    ),
    Event(
        struct=Resolve,
        subject=_pattern(subjects.resolve("ACCOUNT", "PEER")),
        stream=None,
        producers=("resolver",),
        consumers=("agent",),
        key="account, peer",
    ),
    Event(
        struct=Resolved,
        subject=_pattern(subjects.resolved("ACCOUNT", "PEER")),
        stream=None,
        producers=("agent",),
        consumers=("resolver",),
        key="account, peer",
    ),
    Event(
        struct=Candidates,
        subject=_pattern(subjects.signal_from("ACCOUNT", "SENDER", "RECEIVER")),
        stream=None,
        producers=("agent",),
        consumers=("signal",),
        key="account, sender, receiver",
        sealed=True,
        others=(Departed,),
    ),
    Event(
        struct=Candidates,
        subject=_pattern(subjects.signal_to("ACCOUNT", "RECEIVER", "SENDER")),
        stream=None,
        producers=("signal",),
        consumers=("agent",),
        key="account, sender, receiver",
        sealed=True,
        others=(Departed,),
    ),
    Event(
        struct=Beat,
        subject=_pattern(subjects.beat("ACCOUNT", "PEER")),
        stream=None,
        producers=("agent",),
        consumers=("signal",),
        key="account, peer",
    ),
)

PARAMETERS: dict[str, str] = {
    "account": "Id of the account.",
    "audience": "Two tokens: `g.<group>`, `p.<peer>` or `s.<policy>`.",
    "id": "Id of what the document describes.",
    "key_hash": "SHA-256 of the setup key in hexadecimal. The key itself is on no subject and in no message.",
    "lease": "Names the return address of one HA set: a digest of its network id and the address.",
    "peer": "Id of the peer.",
    "receiver": "Id of the peer the signal is for.",
    "route": "Id of the route.",
    "sender": "Id of the peer the signal is from; the bus lets nobody else use it.",
}


def name(event: Event) -> str:
    """A name for the event's channel and operations: "log", "feed-route", "signal-to"."""
    fixed = [token for token in event.subject.split(".") if not token.startswith("{")]
    return "-".join(fixed)


def parties(event: Event) -> list[tuple[Party, Literal["send", "receive"]]]:
    """Who does what with it."""
    sends: list[tuple[Party, Literal["send", "receive"]]] = [(party, "send") for party in event.producers]
    return [*sends, *((party, "receive") for party in event.consumers)]


def structs() -> list[type[msgspec.Struct]]:
    """Everything that is a message, each once, in the order of the catalogue."""
    found = (struct for event in EVENTS for struct in (event.struct, *event.others, *event.replies))
    return list(dict.fromkeys(found))
