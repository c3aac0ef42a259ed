"""Connections through routing peers as the kernel tells of them, and which of them are in the middle of something."""

from typing import Literal, TypeAlias

import msgspec

from services.agent.core.intervals import Version

FlowState: TypeAlias = Literal["", "opening", "open", "closing"]
"""Of TCP. opening: it was asked for and is not there yet. "": of another protocol."""


class Flow(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A connection as connection tracking has it. source, destination: of its first packet, as numbers.

    protocol: IP's number. left_s: whole seconds until it is forgotten if nothing more comes. handle: what the driver
    knows it by.
    """

    version: Version
    protocol: int
    source: int
    destination: int
    state: FlowState = ""
    left_s: int = 0
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
