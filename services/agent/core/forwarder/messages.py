"""What the agent and its forwarder say to each other: two processes of one version, over a pair of sockets.

Each message is a MessagePack struct behind its length in four bytes.
"""

from collections.abc import Callable, Mapping
from ipaddress import ip_address
from typing import TypeAlias

import msgspec

from services.agent.core.forwarder.terms import Terms


class Follow(msgspec.Struct, frozen=True, tag=True):
    """To the forwarder: go by these terms from now on, and ask these nameservers, the host's own, in this order."""

    terms: Terms
    nameservers: tuple[str, ...]


class Resolve(msgspec.Struct, frozen=True, tag=True):
    """To the forwarder: find out where a name of these terms leads now; Resolved answers."""

    number: int
    name: str


class Filled(msgspec.Struct, frozen=True, tag=True):
    """To the forwarder: the addresses of a Permit are permitted, or why they are not."""

    number: int
    problem: str = ""


class Permit(msgspec.Struct, frozen=True, tag=True):
    """To the agent: have these addresses permitted for the routes, for so many seconds."""

    number: int
    routes: tuple[str, ...]
    name: str
    addresses: tuple[str, ...]
    for_s: float


class Resolved(msgspec.Struct, frozen=True, tag=True):
    """To the agent. v4, v6: addresses of the family, permitted already, () for none, None where nobody says.

    ttl_s: for how long that is good. problem: why nobody says anything, "" otherwise.
    """

    number: int
    v4: tuple[str, ...] | None = None
    v6: tuple[str, ...] | None = None
    ttl_s: float = 0.0
    problem: str = ""


class State(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """To the agent, when it changed. listening: addresses. unbound: address → why it cannot be listened on.

    nameservers: those that are asked. problem: why nobody can be asked, "" otherwise. counts: what became of questions.
    left_out: name → why an address of it is not given. rights: why the process has more rights than it needs, "" when
    it has none.
    """

    listening: tuple[str, ...] = ()
    unbound: Mapping[str, str] = {}
    nameservers: tuple[str, ...] = ()
    problem: str = ""
    counts: Mapping[str, int] = {}
    left_out: Mapping[str, str] = {}
    rights: str = ""


ToForwarder: TypeAlias = Follow | Resolve | Filled
ToAgent: TypeAlias = Permit | Resolved | State

LENGTH_BYTES = 4

MOST_BYTES = 1 << 20
"""Of a message to the agent: several times as many as an answer of 64 KiB has addresses for."""
MOST_ADDRESSES = 4096
"""Of an answer: a record of one takes 16 of 65,535 bytes."""
MOST_NAME = 1024
"""Characters of a name whose every byte is escaped."""
MOST_FOR_S = 3600.0
"""Answers are good for five minutes at most, and permitted for ten more."""

_encode = msgspec.msgpack.Encoder().encode
read_by_forwarder = msgspec.msgpack.Decoder[ToForwarder](ToForwarder).decode
read_by_agent = msgspec.msgpack.Decoder[ToAgent](ToAgent).decode


def unfit(permit: Permit, never: Callable[[str], str]) -> str:
    """Why the agent does not do what is asked, "" when it may: whoever has taken the forwarder over says what he likes.

    never: why no name may lead to an address, "" when it may.
    """
    if len(permit.addresses) > MOST_ADDRESSES or len(permit.name) > MOST_NAME:
        return f"{len(permit.addresses)} addresses of a name of {len(permit.name)} characters"
    if not 0.0 < permit.for_s <= MOST_FOR_S:
        return f"for {permit.for_s} s"
    for address in permit.addresses:
        try:
            ip_address(address)
        except ValueError:
            return "not an address"
        if "%" in address:
            return "an address of one interface"
        why = never(address)
        if why:
            return why
    return ""


def framed(message: ToForwarder | ToAgent) -> bytes:
    body = _encode(message)
    return len(body).to_bytes(LENGTH_BYTES) + body
