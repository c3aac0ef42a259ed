"""The subject grammar of the bus. Nothing else in the project formats or parses a subject.

    log.<account>                                   LOG    one commit
    fact.<account>.peer.<peer>.session|report|candidacy  FACTS  last observation
    fact.<account>.route.<route>.resolution         FACTS  last observation
    fact.<account>.lease.<lease>.holder             FACTS  who answers for a return address
    fact.turn.resolver                              FACTS  delivered to the replica whose turn it is to resolve
    feed.<account>.<audience>.<kind>.<id>           FEED   last document; <audience> is two tokens, see audience
    live.feed.<account>.<audience>.<kind>.<id>      FEED as republished by the server
    live.feed.<account>.<audience>.newest           a beacon: what FEED holds for that audience
    live.leader                                     FEED   has another leader (a cluster's own word): copies may be lost
    feed.owner                                      FEED   claim of the projector that writes everything else there
    resolve.<account>.<peer>                        the resolver asks a routing peer for names
    resolved.<account>.<peer>                       what that peer found for them
    lease.<account>.<peer>                          request/reply, what a routing peer asks about a return address
    enrol.<key hash>                                request/reply, the hash of the setup key that was presented
    signal.<account>.from.<sender>.<receiver>       a sealed signal on its way to the introducer
    signal.<account>.to.<receiver>.<sender>         the same, delivered
    signal.<account>.beat.<peer>                    heartbeat

Every variable token is an identifier of ours (lower-case letters and digits), so it never holds a dot,
a wildcard or white space; `token` refuses anything else before it can widen a subject.
"""

import hashlib
import re

import msgspec

from shared.events.logins import BUS_ACCOUNT

_TOKEN = re.compile(r"[A-Za-z0-9_-]+\Z")
_LIVE = "live."
_BEACON = "newest"

LOG_ALL = "log.*"
FACT_ALL = "fact.>"
FACT_PEERS = "fact.*.peer.*.*"
FACT_SESSIONS = "fact.*.peer.*.session"
FACT_REPORTS = "fact.*.peer.*.report"
FACT_CANDIDACIES = "fact.*.peer.*.candidacy"
FACT_RESOLUTIONS = "fact.*.route.*.resolution"
FACT_LEASES = "fact.*.lease.*.holder"
RESOLVERS_TURN = "fact.turn.resolver"
"""No observation: whoever it is delivered to resolves. Its form is not that of facts, so no reader of those sees it."""

FEED_ALL = "feed.>"
LIVE_FEED_ALL = "live.feed.>"
NO_ACCOUNT = "none"
"""Whose log the messages are in that belong to no account."""

FEED_DOCUMENTS = "feed.*.*.*.*.*"
FEED_OWNER = "feed.owner"
"""Who writes FEED: what was written under an older claim is refused. No reader's filter selects it."""

FEED_LEADER = "live.leader"
"""Hosts hear here that another server leads FEED: what the former one had stored may never have gone out live."""

FEED_ROUTES = "feed.*.*.*.route.*"
FEED_RESOLVING = "feed.*.c.resolver.resolving.*"
BEACON_ALL = "live.feed.*.*.*.newest"
"""Beacons come with an audience's documents: whoever may hear those hears them, over the same subscription."""

LIVE_FEED_ROUTES = "live.feed.*.*.*.route.*"
ENROL_ALL = "enrol.*"
LEASE_ALL = "lease.*.*"
RESOLVE_ALL = "resolve.*.*"
RESOLVED_ALL = "resolved.*.*"
SIGNAL_FROM_ALL = "signal.*.from.*.*"
SIGNAL_TO_ALL = "signal.*.to.*.*"
BEAT_ALL = "signal.*.beat.*"
AUTH_CALLOUT = "$SYS.REQ.USER.AUTH"
SERVICE_GONE = f"$SYS.ACCOUNT.{BUS_ACCOUNT}.DISCONNECT"
"""The server says that a connection of a service ended."""

SERVER_HEALTH = "$SYS.REQ.SERVER.PING.HEALTHZ"
HOST_API = "hostapi"
"""What hosts write in place of `$JS.API`: the few requests of the JetStream API that the bus hands on for them."""


class BadSubject(ValueError):
    """The subject is not of the grammar above: `subject` is what was read. Drop the message and count it."""

    def __init__(self, subject: str) -> None:
        super().__init__(f"not a subject of this system: {subject!r}")
        self.subject = subject


def token(value: str) -> str:
    """`value` if it may stand as one token of a subject; raises BadSubject otherwise."""
    if not _TOKEN.match(value):
        raise BadSubject(value)
    return value


def group_audience(group_id: str) -> str:
    """The audience of every peer that is a member of the group."""
    return f"g.{token(group_id)}"


def peer_audience(peer_id: str) -> str:
    """The audience of one peer."""
    return f"p.{token(peer_id)}"


RESOLVER_AUDIENCE = "c.resolver"
"""The audience of the resolver: no host is in it, and none gets the right to read it."""


def _audience(value: str) -> str:
    kind, _, name = value.partition(".")
    if kind not in ("g", "p", "s", "c"):
        raise BadSubject(value)
    return f"{kind}.{token(name)}"


def log(account: str) -> str:
    return f"log.{token(account)}"


def parse_log(subject: str) -> str:
    """The account of a LOG subject."""
    head, _, account = subject.partition(".")
    if head != "log" or not _TOKEN.match(account):
        raise BadSubject(subject)
    return account


def session_fact(account: str, peer: str) -> str:
    return f"fact.{token(account)}.peer.{token(peer)}.session"


def report_fact(account: str, peer: str) -> str:
    return f"fact.{token(account)}.peer.{token(peer)}.report"


def candidacy_fact(account: str, peer: str) -> str:
    return f"fact.{token(account)}.peer.{token(peer)}.candidacy"


def resolution_fact(account: str, route: str) -> str:
    return f"fact.{token(account)}.route.{token(route)}.resolution"


def lease_fact(account: str, lease: str) -> str:
    return f"fact.{token(account)}.lease.{token(lease)}.holder"


def facts_of_account(account: str) -> str:
    return f"fact.{token(account)}.>"


class FactKey(msgspec.Struct, frozen=True):
    """What a fact is about: `owner` is "peer", "route" or "lease", `fact` the last token."""

    account: str
    owner: str
    id: str
    fact: str


def parse_fact(subject: str) -> FactKey:
    match subject.split("."):
        case ["fact", account, ("peer" | "route" | "lease") as owner, entity, fact]:
            return FactKey(account, owner, entity, fact)
    raise BadSubject(subject)


class FeedKey(msgspec.Struct, frozen=True, order=True):
    """Names one document of the feed; `audience` is "g.<group>", "p.<peer>" or RESOLVER_AUDIENCE."""

    account: str
    audience: str
    kind: str
    id: str


def feed(key: FeedKey) -> str:
    return f"feed.{token(key.account)}.{_audience(key.audience)}.{token(key.kind)}.{token(key.id)}"


def parse_feed(subject: str) -> FeedKey:
    """The key of a FEED subject, stored or republished (`live.`)."""
    match subject.removeprefix(_LIVE).split("."):
        case ["feed", account, ("g" | "p" | "s" | "c") as kind, name, document, entity]:
            return FeedKey(account, f"{kind}.{name}", document, entity)
    raise BadSubject(subject)


def feed_of(account: str, audience: str) -> str:
    """The filter that selects all stored documents of an audience."""
    return f"feed.{token(account)}.{_audience(audience)}.>"


def live_feed_of(account: str, audience: str) -> str:
    """The subscription that brings an audience's documents as they are written."""
    return _LIVE + feed_of(account, audience)


def beacon(account: str, audience: str) -> str:
    return f"{_LIVE}feed.{token(account)}.{_audience(audience)}.{_BEACON}"


def parse_beacon(subject: str) -> str | None:
    """The audience of a beacon; None for what is none. `subject` came over a subscription to `live_feed_of`."""
    match subject.split("."):
        case ["live", "feed", _, kind, name, token] if token == _BEACON:
            return f"{kind}.{name}"
    return None


def catch_up_consumer(peer: str, audience: str) -> str:
    """The name of a peer's short-lived consumer on FEED for one audience.

    The name is fixed, so that the bus can confine a peer to consumers of its own.
    """
    return f"{token(peer)}_{_audience(audience).replace('.', '_')}"


def create_catch_up(account: str, peer: str, audience: str) -> str:
    """Where a peer asks for that consumer; the server refuses one whose filter is not the end of this subject."""
    return f"{HOST_API}.CONSUMER.CREATE.FEED.{catch_up_consumer(peer, audience)}.{feed_of(account, audience)}"


def pull_catch_up(peer: str, audience: str) -> str:
    """Where it asks that consumer for messages."""
    return f"{HOST_API}.CONSUMER.MSG.NEXT.FEED.{catch_up_consumer(peer, audience)}"


def delete_catch_up(peer: str, audience: str) -> str:
    """Where it gives that consumer up."""
    return f"{HOST_API}.CONSUMER.DELETE.FEED.{catch_up_consumer(peer, audience)}"


def setup_key_hash(setup_key: str) -> str:
    """SHA-256 of a setup key in hexadecimal: how it is stored, and how it appears on the bus.

    Case and surrounding white space do not matter: keys are upper-case UUIDs that people copy by hand.
    """
    return hashlib.sha256(setup_key.strip().upper().encode()).hexdigest()


def enrol(key_hash: str) -> str:
    return f"enrol.{token(key_hash)}"


def parse_enrol(subject: str) -> str:
    head, _, key_hash = subject.partition(".")
    if head != "enrol" or not _TOKEN.match(key_hash):
        raise BadSubject(subject)
    return key_hash


def lease(account: str, peer: str) -> str:
    """Where a peer asks about the leases of routes that it serves, in its own name."""
    return f"lease.{token(account)}.{token(peer)}"


class LeaseKey(msgspec.Struct, frozen=True):
    account: str
    peer: str


def parse_lease(subject: str) -> LeaseKey:
    match subject.split("."):
        case ["lease", account, peer]:
            return LeaseKey(account, peer)
    raise BadSubject(subject)


def resolve(account: str, peer: str) -> str:
    """Where a routing peer hears which names it is to ask for."""
    return f"resolve.{token(account)}.{token(peer)}"


def resolved(account: str, peer: str) -> str:
    """Where it says what it found, in its own name."""
    return f"resolved.{token(account)}.{token(peer)}"


class ResolvedKey(msgspec.Struct, frozen=True, order=True):
    account: str
    peer: str


def parse_resolved(subject: str) -> ResolvedKey:
    match subject.split("."):
        case ["resolved", account, peer]:
            return ResolvedKey(account, peer)
    raise BadSubject(subject)


def signal_from(account: str, sender: str, receiver: str) -> str:
    return f"signal.{token(account)}.from.{token(sender)}.{token(receiver)}"


def signals_from(account: str, sender: str) -> str:
    """What a peer may publish: signals in its own name, to anyone of its account."""
    return f"signal.{token(account)}.from.{token(sender)}.*"


def signal_to(account: str, receiver: str, sender: str) -> str:
    return f"signal.{token(account)}.to.{token(receiver)}.{token(sender)}"


def signals_to(account: str, receiver: str) -> str:
    """What a peer may subscribe to: signals for itself, from anyone of its account."""
    return f"signal.{token(account)}.to.{token(receiver)}.*"


class SignalKey(msgspec.Struct, frozen=True):
    account: str
    sender: str
    receiver: str


def parse_signal(subject: str) -> SignalKey:
    """Sender and receiver of a signal, in either direction."""
    match subject.split("."):
        case ["signal", account, "from", sender, receiver]:
            return SignalKey(account, sender, receiver)
        case ["signal", account, "to", receiver, sender]:
            return SignalKey(account, sender, receiver)
    raise BadSubject(subject)


def beat(account: str, peer: str) -> str:
    return f"signal.{token(account)}.beat.{token(peer)}"


class BeatKey(msgspec.Struct, frozen=True):
    account: str
    peer: str


def parse_beat(subject: str) -> BeatKey:
    match subject.split("."):
        case ["signal", account, "beat", peer]:
            return BeatKey(account, peer)
    raise BadSubject(subject)


def inbox(owner: str) -> str:
    """Prefix of the reply subjects of one connection's owner: a peer id, or an enrolling key's hash."""
    return f"_INBOX.{token(owner)}"
