"""Enrolment, leases, introductions and heartbeats: what passes on the bus and is not kept."""

from typing import Literal, TypeAlias

import msgspec


class PeerMeta(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a host says of itself. Every field may be empty."""

    hostname: str = ""
    os: str = ""
    go_os: str = "linux"
    kernel: str = ""
    kernel_version: str = ""
    platform: str = ""
    version: str = ""
    serial_number: str = ""
    ipv6: bool = True


class EnrolRequest(msgspec.Struct, frozen=True, kw_only=True, tag="enrol.v1"):
    """Ask to become a peer. Producer: an agent with a setup key. Consumer: management. Key: the setup key's hash.

    wireguard_key: base64 X25519 public key. bus_key: public nkey (starts with U) that signs later connections.
    The setup key itself is presented on connecting and is not part of any message. Asking again with the same
    keys gives the same peer and uses nothing up.
    """

    wireguard_key: str
    bus_key: str
    meta: PeerMeta
    extra_dns_labels: tuple[str, ...] = ()


class Enrolled(msgspec.Struct, frozen=True, kw_only=True, tag="enrolled.v1"):
    account: str
    peer_id: str


EnrolReason: TypeAlias = Literal["unknown", "revoked", "expired", "used-up", "key-in-use", "invalid", "unavailable"]


PeerStanding: TypeAlias = Literal["", "admitted", "unknown", "expired", "flooding"]
"""How the owner of a bus key stands: it is let in; no peer has the key (any more); its login has expired; it sent too
much and is kept out for a while. "" when nothing is said of it."""


class EnrolRefused(msgspec.Struct, frozen=True, kw_only=True, tag="enrol-refused.v1"):
    """Why not: `message` is one line for a person and never holds the key.

    peer: with reason "unknown", how the request's bus key stands. A peer that the bus does not admit asks so, with a
    setup key that nobody has, whether that is management's word.
    """

    reason: EnrolReason
    message: str
    peer: PeerStanding = ""


EnrolReply: TypeAlias = Enrolled | EnrolRefused


LeaseWish: TypeAlias = Literal["watch", "contest", "claim", "keep", "release"]
"""watch: answer when the lease is another one. contest: the holder shall say whether it is there. claim: of a lease
that nobody holds, or that was contested in vain. keep: the holder is there. release: it gives the lease back."""


class LeaseRequest(msgspec.Struct, frozen=True, kw_only=True, tag="lease-request.v1"):
    """Ask about the lease of a route's return address. Producer: agent of a routing peer. Consumer: management.

    Key: account, peer. known: number of the lease that the wish goes by, -1 for none; when it is another one by now,
    nothing is changed. preferred, hears, used_s: of a contest, as in LeaseFact.
    """

    route_id: str
    wish: LeaseWish
    known: int
    preferred: bool = False
    hears: bool = False
    used_s: float = 0.0


class Lease(msgspec.Struct, frozen=True, kw_only=True, tag="lease-state.v1"):
    """How the lease stands. number: another one after each change, 0 where there is none; the rest as in LeaseFact.

    candidates: ids of all who may hold it, by rank.
    """

    number: int
    holder: str
    contender: str = ""
    preferred: bool = False
    hears: bool = False
    used_s: float = 0.0
    candidates: tuple[str, ...] = ()


class LeaseRefused(msgspec.Struct, frozen=True, kw_only=True, tag="lease-refused.v1"):
    """There is no such lease for this peer. message: one line for a person."""

    message: str


LeaseReply: TypeAlias = Lease | LeaseRefused

LEASE_ANSWER_WITHIN_S = 4.0
"""A watch of a lease that stays the same is answered after this long, so that who asks knows that somebody is there.
The bus takes an answer for 10 s."""


class Beat(msgspec.Struct, frozen=True, kw_only=True, tag="beat.v1"):
    """The peer is there. Producer: agent, every BEAT_INTERVAL_S. Consumer: signal. Key: account, peer.

    epoch: unix milliseconds at which the agent's session began. leaving: the last beat of a clean stop.
    """

    peer_id: str
    epoch: int
    leaving: bool = False


BEAT_INTERVAL_S = 5.0
MAX_SILENCE_S = 15.0


class Candidates(msgspec.Struct, frozen=True, kw_only=True, tag="candidates.v1"):
    """Where a peer may be reached, sealed to one receiver. Producer and consumer: agents.

    session: ten hexadecimal digits, new for each run of the sender. generation: grows when the endpoints change;
    an older one changes nothing. endpoints: "address:port" or "[address]:port", best first.
    answer_wanted: the receiver is asked for its own.
    """

    session: str
    generation: int
    endpoints: tuple[str, ...]
    answer_wanted: bool
    sent_at: float


class Departed(msgspec.Struct, frozen=True, kw_only=True, tag="departed.v1"):
    """The sender uses these routes through the receiver no more, sealed to it. Producer and consumer: agents.

    What the receiver knows of the sender's connections into them is out of date.

    routes: ids. sent_at: grows from one word of a sender to the next; another one changes nothing.
    """

    routes: tuple[str, ...]
    sent_at: float


Signal: TypeAlias = Candidates | Departed
"""What is inside a sealed signal: 24 nonce bytes and the NaCl box of this as MessagePack, from the sender's to the
receiver's WireGuard key. The bus and the introducer see bytes."""


class Resolve(msgspec.Struct, frozen=True, kw_only=True, tag="resolve.v1"):
    """Asks a routing peer for names of routes that it serves. Producer: resolver. Consumer: that peer's agent.

    request: comes back in the answers. names: IDNA ASCII, at most MOST_NAMES.
    """

    request: str
    names: tuple[str, ...]


class NameAnswer(msgspec.Struct, frozen=True, array_like=True):
    """v4, v6: addresses, () for none of that family, None for no answer."""

    name: str
    v4: tuple[str, ...] | None
    v6: tuple[str, ...] | None


class Resolved(msgspec.Struct, frozen=True, kw_only=True, tag="resolved.v1"):
    """What a routing peer found for some of the names of a request, as its own host sees them. Producer: its agent.
    Consumer: resolver.

    A name that is not of a route that it serves has no answer.
    """

    request: str
    answers: tuple[NameAnswer, ...]


MOST_NAMES = 256
"""In one request: with the longest names 64 KB."""
