"""TCP sockets of this host over netlink: which of them go where, what they are doing, and their end.

Layouts: linux/sock_diag.h, linux/inet_diag.h, struct tcp_info of linux/tcp.h.
"""

import socket
import struct
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property

from services.agent.core.ha.flows import Socket
from services.agent.core.intervals import Version
from services.agent.drivers import netlink
from services.agent.drivers.netlink import Message, Netlink, Refusal, Request
from services.agent.errors import MechanismMissing

SOCK_DIAG_BY_FAMILY, SOCK_DESTROY = 20, 21
INET_DIAG_REQ_BYTECODE = 1
INET_DIAG_INFO = 2
INET_DIAG_BC_S_COND = 7
ESTABLISHED, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT, LAST_ACK, CLOSING = 1, 4, 5, 8, 9, 11
"""net/tcp_states.h. Not SYN_SENT: whoever opens a connection asks again, and whoever carries it then answers."""
STATES = sum(1 << state for state in (ESTABLISHED, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT, LAST_ACK, CLOSING))

_REQUEST = struct.Struct("=BBBBI")
_CONDITION = struct.Struct("=BBHBBxxi")
"""inet_diag_bc_op, and the inet_diag_hostcond that it is about."""
_ANSWER = struct.Struct("=BBBB48sIIIII")
_UNACKED, _LAST_DATA_SENT, _LAST_DATA_RECV, _RTT = 24, 44, 52, 68
"""Offsets in tcp_info: segments, milliseconds, milliseconds, microseconds."""
_MAPPED = bytes(10) + b"\xff\xff"


class TcpSockets:
    """Raises MechanismMissing where the kernel cannot do it, and OSError when an answer is lost.

    connect: opens the netlink socket when it is needed first; until then a kernel that lacks it is not noticed.
    """

    def __init__(self, connect: Callable[[], Netlink]) -> None:
        self._connect = connect

    @cached_property
    def _diag(self) -> Netlink:
        return self._connect()

    def of(self, addresses: Iterable[str]) -> list[Socket]:
        """The connections of this host's own that have one of its addresses given."""
        return [found for address in addresses for found in self._of(address)]

    def end(self, sockets: Iterable[Socket]) -> int:
        """End connections: whoever waits for one gets ECONNABORTED, the other side a reset. Gives how many ended.

        One that has ended in the meantime is none that failed.
        """
        ended, refusal = self._diag.delete_all(SOCK_DESTROY, [one.handle for one in sockets])
        if refusal is not None:
            raise MechanismMissing(f"the kernel does not end connections ({refusal.text}): {_REMEDY}")
        return ended

    def _of(self, address: str) -> Iterator[Socket]:
        own = socket.AF_INET6 if ":" in address else socket.AF_INET
        packed = socket.inet_pton(own, address)
        reach = _CONDITION.size + len(packed)
        chosen = _CONDITION.pack(INET_DIAG_BC_S_COND, reach, reach + 4, own, len(packed) * 8, -1) + packed
        for family in {own, socket.AF_INET6}:  # a socket for both families has an IPv4 address in an IPv6 one
            body = _request(family, bytes(48)) + netlink.attribute(INET_DIAG_REQ_BYTECODE, chosen)
            listed = self._diag.dump(Request(SOCK_DIAG_BY_FAMILY, 0, body))
            if isinstance(listed, Refusal):
                raise MechanismMissing(f"the kernel does not list connections ({listed.text}): {_REMEDY}")
            yield from map(_socket, listed)


_REMEDY = "it needs CONFIG_INET_TCP_DIAG and CONFIG_INET_DIAG_DESTROY"


def _request(family: int, identity: bytes) -> bytes:
    return _REQUEST.pack(family, socket.IPPROTO_TCP, 1 << (INET_DIAG_INFO - 1), 0, STATES) + identity


def _socket(message: Message) -> Socket:
    family, state, _, _, identity, _, unread, unsent, _, _ = _ANSWER.unpack_from(message.body)
    version, destination = _address(family, identity[20:36])
    info = bytes(netlink.attributes(message.body[_ANSWER.size :]).get(INET_DIAG_INFO, b"")).ljust(72, b"\0")
    unacked, sent_ms, received_ms, rtt_us = (
        struct.unpack_from("=I", info, at)[0] for at in (_UNACKED, _LAST_DATA_SENT, _LAST_DATA_RECV, _RTT)
    )
    return Socket(
        version=version,
        destination=destination,
        port=int.from_bytes(identity[2:4]),
        sending=bool(unsent or unacked),
        unread=state == ESTABLISHED and bool(unread),
        sent_ms=sent_ms,
        received_ms=received_ms,
        rtt_ms=rtt_us / 1000,
        handle=_request(family, identity),
    )


def _address(family: int, packed: bytes) -> tuple[Version, int]:
    if family == socket.AF_INET:
        return 4, int.from_bytes(packed[:4])
    if packed.startswith(_MAPPED):
        return 4, int.from_bytes(packed[12:])
    return 6, int.from_bytes(packed)
