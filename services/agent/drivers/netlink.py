"""Netlink as bytes: messages, attributes, and a socket that sends many requests at once.

Our own, because pyroute2 costs 17 MB and 0.3 s on import and is a hundred times slower for many routes
(MEASUREMENTS.md, kernel). Layouts: linux/netlink.h, linux/rtnetlink.h; everything but addresses is in host order.
"""

import contextlib
import errno
import os
import socket
import struct
import sys
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from services.agent.errors import MechanismMissing

ROUTE, SOCK_DIAG, NETFILTER, GENERIC = 0, 4, 12, 16
"""Protocols of AF_NETLINK."""

F_REQUEST, F_ACK, F_ROOT, F_MATCH = 0x1, 0x4, 0x100, 0x200
F_DUMP = F_ROOT | F_MATCH
F_REPLACE, F_EXCL, F_CREATE = 0x100, 0x200, 0x400
F_DUMP_INTR, F_ACK_TLVS = 0x10, 0x200

NLMSG_ERROR, NLMSG_DONE, FIRST_TYPE = 2, 3, 16
NFNL_MSG_BATCH_BEGIN, NFNL_MSG_BATCH_END = 16, 17
NFNL_SUBSYS_CTNETLINK, NFNL_SUBSYS_NFTABLES = 1, 10
NLMSGERR_ATTR_MSG = 1
NLA_F_NESTED, NLA_TYPE_MASK = 0x8000, 0x3FFF

SOL_NETLINK = 270
NETLINK_ADD_MEMBERSHIP, NETLINK_CAP_ACK, NETLINK_EXT_ACK, NETLINK_GET_STRICT_CHK = 1, 10, 11, 12

BATCH = 1000
"""Requests in one sendmsg: 60 kB of routes, well inside the default send buffer, and about 4 ms of the loop's time."""
RECEIVE_BUFFER = 4 << 20
"""Room for a refusal of every request of a batch, about 1.3 kB each in the kernel's accounting."""
RECEIVE_CHUNK = 1 << 16
ANSWER_WITHIN_S = 5.0
"""The kernel answers before send returns; a socket that stays silent for longer has lost its answer."""
DUMP_TRIES = 5

SO_RCVBUFFORCE = 33  # asm-generic/socket.h

HEADER = struct.Struct("=IHHII")
ATTRIBUTE = struct.Struct("=HH")


class Request(NamedTuple):
    """One message to the kernel: type, flags besides F_REQUEST, and what follows the header."""

    kind: int
    flags: int
    body: bytes


class Message(NamedTuple):
    """One message from the kernel. port: netlink port of the socket whose request caused it, 0 = nobody's."""

    kind: int
    flags: int
    sequence: int
    port: int
    body: memoryview


class Refusal(NamedTuple):
    """Why the kernel did not do it: errno, and one line for a person."""

    number: int
    text: str


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute with its padding."""
    length = 4 + len(value)
    return ATTRIBUTE.pack(length, kind) + value + bytes(-length % 4)


def u8(kind: int, value: int) -> bytes:
    return attribute(kind, bytes((value,)))


def u32(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack("=I", value & 0xFFFFFFFF))


def text(kind: int, value: str) -> bytes:
    """A string that ends with a zero byte."""
    return attribute(kind, value.encode() + b"\0")


def nested(kind: int, *attributes: bytes) -> bytes:
    return attribute(kind | NLA_F_NESTED, b"".join(attributes))


def each_attribute(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Type and value of each, in order. Flags in the type are taken off."""
    at = 0
    while at + 4 <= len(data):
        length, kind = ATTRIBUTE.unpack_from(data, at)
        if length < 4:
            break
        yield kind & NLA_TYPE_MASK, data[at + 4 : at + length]
        at += (length + 3) & ~3


def attributes(data: memoryview) -> dict[int, memoryview]:
    """Type → value; of equal types the last one."""
    return dict(each_attribute(data))


def read_u32(value: memoryview) -> int:
    return int.from_bytes(value[:4], sys.byteorder)


def read_text(value: memoryview) -> str:
    return bytes(value).split(b"\0", 1)[0].decode(errors="replace")


def messages(data: bytes) -> Iterator[Message]:
    """The messages of one datagram."""
    view = memoryview(data)
    at = 0
    while at + 16 <= len(data):
        length, kind, flags, sequence, port = HEADER.unpack_from(data, at)
        if length < 16:
            break
        yield Message(kind, flags, sequence, port, view[at + 16 : at + length])
        at += (length + 3) & ~3


def refusal(message: Message) -> Refusal | None:
    """What an NLMSG_ERROR or NLMSG_DONE says; None when it is an acknowledgement."""
    number = -struct.unpack_from("=i", message.body)[0]
    if number == 0:
        return None
    after_cause = 20 if message.kind == NLMSG_ERROR else 4  # an error repeats the header of the request
    said = attributes(message.body[after_cause:]) if message.flags & F_ACK_TLVS else {}
    reason = os.strerror(number)
    if NLMSGERR_ATTR_MSG in said:
        reason += f": {read_text(said[NLMSGERR_ATTR_MSG])}"
    return Refusal(number, reason)


class Netlink:
    """A socket for requests of one protocol, in the network namespace of the thread that makes it.

    port: what Message.port of notifications says when they were caused by this socket.
    Raises MechanismMissing when the kernel lacks the protocol.
    """

    def __init__(self, protocol: int) -> None:
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        except OSError as problem:
            raise MechanismMissing(f"the kernel has no netlink protocol {protocol}: {problem.strerror}") from problem
        self._socket.settimeout(ANSWER_WITHIN_S)
        self._socket.bind((0, 0))
        for option in (NETLINK_CAP_ACK, NETLINK_EXT_ACK):
            self._socket.setsockopt(SOL_NETLINK, option, 1)
        with contextlib.suppress(OSError):  # before Linux 4.20 the kernel lists more, and drivers filter it
            self._socket.setsockopt(SOL_NETLINK, NETLINK_GET_STRICT_CHK, 1)
        widen(self._socket, RECEIVE_BUFFER)
        self.port: int = self._socket.getsockname()[0]
        self._sequence = 0

    def close(self) -> None:
        self._socket.close()

    def apply(self, requests: Sequence[Request]) -> dict[int, Refusal]:
        """Send the requests in one sendmsg; index → refusal of those that the kernel did not do.

        A batch is not atomic: the others are done. At most BATCH at a time. Raises OSError when an answer is lost.
        """
        return self._apply(requests, last=len(requests) - 1) if requests else {}

    def delete_all(self, kind: int, handles: Sequence[bytes]) -> tuple[int, Refusal | None]:
        """Delete many objects by requests of that type; how many there were, and why the kernel kept one.

        An object that has gone in the meantime is none that was kept.
        """
        deleted = 0
        for at in range(0, len(handles), BATCH):
            batch = handles[at : at + BATCH]
            refused = self.apply([Request(kind, 0, handle) for handle in batch])
            for refusal in refused.values():
                if refusal.number != errno.ENOENT:
                    return deleted, refusal
            deleted += len(batch) - len(refused)
        return deleted, None

    def transaction(self, requests: Sequence[Request], subsystem: int) -> Refusal | None:
        """Send the requests as one batch of nfnetlink, which does all of them, or none: then why the first is refused.

        Raises OSError when the answer is lost.
        """
        if not requests:
            return None
        body = struct.pack(">BBH", 0, 0, subsystem)
        batch = [Request(NFNL_MSG_BATCH_BEGIN, 0, body), *requests, Request(NFNL_MSG_BATCH_END, 0, body)]
        refusals = self._apply(batch, last=len(requests), needed=0)
        return refusals[min(refusals)] if refusals else None

    def _apply(self, requests: Sequence[Request], last: int, needed: int = -1) -> dict[int, Refusal]:
        """Only request number `last` asks for an acknowledgement: refusals come without asking, and in order.

        needed: number of the request after whose refusal the kernel looks at none of the others, nor answers.
        """
        first = self._sequence + 1
        self._sequence += len(requests)
        self._socket.send(
            b"".join(
                HEADER.pack(16 + len(body), kind, F_REQUEST | flags | (F_ACK if index == last else 0), first + index, 0)
                + body
                for index, (kind, flags, body) in enumerate(requests)
            )
        )
        refusals: dict[int, Refusal] = {}
        while True:
            for message in messages(self._socket.recv(RECEIVE_CHUNK)):
                if message.kind != NLMSG_ERROR or message.sequence < first:
                    continue
                index = message.sequence - first
                if refused := refusal(message):
                    refusals[index] = refused
                if index == last or (refused and index == needed):
                    return refusals

    def get(self, request: Request) -> Message | Refusal:
        """The one answer to a request that is no dump."""
        self._send(request)
        while True:
            for message in messages(self._socket.recv(RECEIVE_CHUNK)):
                if message.sequence == self._sequence:
                    return (refusal(message) if message.kind == NLMSG_ERROR else None) or message

    def each(self, requests: Sequence[Request]) -> list[Message | Refusal]:
        """The answer to each of many requests that are no dumps, sent in one sendmsg. At most BATCH at a time."""
        first = self._sequence + 1
        self._sequence += len(requests)
        self._socket.send(
            b"".join(
                HEADER.pack(16 + len(body), kind, F_REQUEST | flags, first + index, 0) + body
                for index, (kind, flags, body) in enumerate(requests)
            )
        )
        answers: dict[int, Message | Refusal] = {}
        while len(answers) < len(requests):
            for message in messages(self._socket.recv(RECEIVE_CHUNK)):
                if first <= message.sequence <= self._sequence:
                    refused = refusal(message) if message.kind == NLMSG_ERROR else None
                    answers[message.sequence] = refused or message
        return [answers[first + index] for index in range(len(requests))]

    def dump(self, request: Request) -> list[Message] | Refusal:
        """All entries that the kernel lists; asks again when they changed while it was listing."""
        for _ in range(DUMP_TRIES):
            self._send(Request(request.kind, request.flags | F_DUMP, request.body))
            listed, consistent = self._collect()
            if isinstance(listed, Refusal) or consistent:
                return listed
        return listed

    def _send(self, request: Request) -> None:
        self._sequence += 1
        length = 16 + len(request.body)
        header = HEADER.pack(length, request.kind, F_REQUEST | request.flags, self._sequence, 0)
        self._socket.send(header + request.body)

    def _collect(self) -> tuple[list[Message] | Refusal, bool]:
        listed: list[Message] = []
        consistent = True
        while True:
            for message in messages(self._socket.recv(RECEIVE_CHUNK)):
                if message.sequence != self._sequence:
                    continue
                consistent = consistent and not message.flags & F_DUMP_INTR
                if message.kind in (NLMSG_ERROR, NLMSG_DONE):
                    return refusal(message) or listed, consistent
                listed.append(message)


def widen(netlink: socket.socket, size: int) -> None:
    """Give the socket a receive buffer of that many bytes, beyond net.core.rmem_max where we may."""
    try:
        netlink.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, size)
    except PermissionError:
        netlink.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
