"""Connections through routing peers as the kernel tells of them, and which of them are in the middle of something."""

from typing import Literal, TypeAlias

import msgspec

from services.agent.core.intervals import Version

FlowState: TypeAlias = Literal["", "opening", "open", "closing"]
"""Of TCP. opening: it was asked for and is not there yet. "": of another protocol."""


class Flow(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A connection as connection tracking has it. source, destination: of its first packet, as numbers.

    protocol: IP's number. idle_s: of TCP, whole seconds since a packet of it passed. handle: how the driver names it.
    """

    version: Version
    protocol: int
    source: int
    destination: int
    state: FlowState = ""
    idle_s: int = 0
    handle: bytes = b""


class Socket(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A TCP connection of this host's own. destination: the other side's address as a number, port: the other side's.

    sending: something it sent is not confirmed, or not on its way yet. unread: its program has not taken what came.
    sent_ms, received_ms: since data went and came last, 0 for both where there was none. handle: what the driver knows
    it by.
    """

    version: Version
    destination: int
    port: int = 0
    sending: bool = False
    unread: bool = False
    sent_ms: int = 0
    received_ms: int = 0
    rtt_ms: float = 0.0
    handle: bytes = b""


BUSY_MS = 20.0
"""Data that moves comes in smaller steps, or in as many as round trips."""
LONGEST_ANSWER_MS = 5000
"""A program that is answered later than that is not waited for: some say something and never get an answer."""
SAME_MS = 1000
"""Question and answer of the same tick of the kernel cannot be told apart; then so long."""
RECENT_S = 2
"""Connection tracking counts whole seconds."""


def is_busy(one: Socket) -> bool:
    """Whether the connection is in the middle of something: data is on its way, or a question has no answer yet.

    One that is kept open for the next question is not.
    """
    idle_ms = min(one.sent_ms, one.received_ms)
    if idle_ms > LONGEST_ANSWER_MS:
        return False
    if one.sending or one.sent_ms < one.received_ms:
        return True
    if one.unread or one.sent_ms == one.received_ms:
        return idle_ms < SAME_MS
    return idle_ms < max(BUSY_MS, 2 * one.rtt_ms)


def is_under_way(one: Flow) -> bool:
    """Whether something was said on the TCP connection lately, or it is about to be there."""
    return one.state in ("opening", "open") and one.idle_s < RECENT_S
