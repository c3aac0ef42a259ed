"""Connection tracking over netlink: which connections the kernel knows, and forgetting some of them.

Layouts: linux/netfilter/nfnetlink_conntrack.h, nf_conntrack_tcp.h.
"""

import socket
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import cached_property
from typing import TypeAlias

from services.agent.core.ha.flows import Flow, FlowState
from services.agent.core.intervals import Version
from services.agent.drivers import netlink, sysctl
from services.agent.drivers.netlink import Message, Netlink, Refusal, Request, attribute, attributes, nested
from services.agent.errors import MechanismMissing

CT_GET, CT_DELETE = (netlink.NFNL_SUBSYS_CTNETLINK << 8 | kind for kind in (1, 2))
CTA_TUPLE_ORIG, CTA_PROTOINFO, CTA_TIMEOUT, CTA_ID, CTA_ZONE, CTA_FILTER = 1, 4, 7, 12, 18, 25
CTA_TUPLE_IP, CTA_TUPLE_PROTO = 1, 2
CTA_IP_SRC: dict[Version, int] = {4: 1, 6: 3}
CTA_IP_DST: dict[Version, int] = {4: 2, 6: 4}
CTA_PROTO_NUM = 1
CTA_PROTOINFO_TCP, CTA_PROTOINFO_TCP_STATE = 1, 1
CTA_FILTER_ORIG_FLAGS = 1
F_IP_SRC, F_PROTO_NUM = 1 << 0, 1 << 3

Timeouts: TypeAlias = Mapping[int, tuple[int, ...]]

VERSIONS: tuple[Version, Version] = (4, 6)
_FAMILY: dict[Version, int] = {4: socket.AF_INET, 6: socket.AF_INET6}
_STATES: dict[int, FlowState] = {1: "opening", 2: "opening", 3: "open", 9: "opening"}
"""enum tcp_conntrack: SYN_SENT, SYN_RECV, ESTABLISHED, SYN_SENT2. In the others one side is done."""
_TIMEOUTS_S: Timeouts = {1: (120,), 2: (60,), 3: (432_000, 300), 9: (120,)}
"""How long an entry is kept after a packet, by state: the kernel's values, where those of this host cannot be read. Of
a connection with unconfirmed data the second one."""
_SETTINGS: dict[int, tuple[str, ...]] = {
    1: ("syn_sent",),
    2: ("syn_recv",),
    3: ("established", "unacknowledged"),
    9: ("syn_sent",),
}
_PREFIX = "net/netfilter/nf_conntrack_tcp_timeout_"


class Conntrack:
    """Raises MechanismMissing where the kernel cannot do it, and OSError when an answer is lost.

    connect: opens the netlink socket when it is needed first; until then a kernel that lacks it is not noticed.
    settings: reads kernel settings of the same network namespace, path → value.
    """

    def __init__(
        self,
        connect: Callable[[], Netlink],
        settings: Callable[[Iterable[str]], Mapping[str, str]] = sysctl.read,
    ) -> None:
        self._connect = connect
        self._settings = settings

    @cached_property
    def _netfilter(self) -> Netlink:
        return self._connect()

    def _timeouts(self) -> Timeouts:
        """Read each time: people change them while connections are under way."""
        set_here = self._settings(f"{_PREFIX}{name}" for names in _SETTINGS.values() for name in names)
        return {
            state: tuple(int(set_here.get(_PREFIX + name, usual)) for name, usual in zip(names, usuals, strict=True))
            for (state, names), usuals in zip(_SETTINGS.items(), _TIMEOUTS_S.values(), strict=True)
        }

    def begun_by(self, addresses: Collection[str]) -> list[Flow]:
        """Connections whose first packet came from one of the addresses.

        The kernel finds those of a single IPv4 address. Of IPv6 addresses it takes every other one for it (Linux 6.18,
        ctnetlink_filter_match_tuple), and before 5.8 it lists all.
        """
        found: list[Flow] = []
        for version in VERSIONS:
            packed = [socket.inet_pton(_FAMILY[version], one) for one in addresses if (":" in one) == (version == 6)]
            if not packed:
                continue
            one = nested(CTA_TUPLE_IP, attribute(CTA_IP_SRC[version], packed[0]))
            flows = self._dump(version, one, F_IP_SRC if version == 4 and len(packed) == 1 else 0)
            sources = frozenset(map(int.from_bytes, packed))
            found += (flow for flow in flows if flow.source in sources)
        return found

    def tcp(self) -> list[Flow]:
        """All TCP connections."""
        wanted = nested(CTA_TUPLE_PROTO, netlink.u8(CTA_PROTO_NUM, socket.IPPROTO_TCP))
        flows = (one for version in VERSIONS for one in self._dump(version, wanted, F_PROTO_NUM))
        return [one for one in flows if one.protocol == socket.IPPROTO_TCP]

    def forget(self, flows: Iterable[Flow]) -> int:
        """Forget connections: the next packet of one is its first again. Gives how many were known."""
        forgotten, refusal = self._netfilter.delete_all(CT_DELETE, [one.handle for one in flows])
        if refusal is not None:
            raise MechanismMissing(f"the kernel does not forget connections ({refusal.text}): {_REMEDY}")
        return forgotten

    def _dump(self, version: Version, wanted: bytes = b"", flags: int = 0) -> Iterator[Flow]:
        """wanted: of the tuple. flags: which parts of it have to be equal."""
        chosen = nested(CTA_TUPLE_ORIG, wanted) + nested(CTA_FILTER, netlink.u32(CTA_FILTER_ORIG_FLAGS, flags))
        listed = self._netfilter.dump(Request(CT_GET, 0, _head(version) + (chosen if flags else b"")))
        if isinstance(listed, Refusal):
            raise MechanismMissing(f"the kernel does not list connections ({listed.text}): {_REMEDY}")
        timeouts = self._timeouts()
        for message in listed:
            if (found := _flow(message, version, timeouts)) is not None:
                yield found


_REMEDY = "load the module nf_conntrack_netlink"


def _head(version: Version) -> bytes:
    return bytes((_FAMILY[version], 0, 0, 0))


def _flow(message: Message, version: Version, timeouts: Timeouts) -> Flow | None:
    """None for an entry of the other family, which a kernel without filters lists."""
    parts = attributes(message.body[4:])
    tuple_ = attributes(parts[CTA_TUPLE_ORIG])
    addresses = attributes(tuple_[CTA_TUPLE_IP])
    if CTA_IP_SRC[version] not in addresses:
        return None
    protocol = attributes(tuple_[CTA_TUPLE_PROTO])[CTA_PROTO_NUM][0]
    told = attributes(attributes(parts.get(CTA_PROTOINFO, memoryview(b""))).get(CTA_PROTOINFO_TCP, memoryview(b"")))
    state = told.get(CTA_PROTOINFO_TCP_STATE)
    named = [nested(CTA_TUPLE_ORIG, bytes(parts[CTA_TUPLE_ORIG]))]
    named += [attribute(kind, bytes(parts[kind])) for kind in (CTA_ID, CTA_ZONE) if kind in parts]
    return Flow(
        version=version,
        protocol=protocol,
        source=int.from_bytes(addresses[CTA_IP_SRC[version]]),
        destination=int.from_bytes(addresses[CTA_IP_DST[version]]),
        state=_STATES.get(state[0], "closing") if state else "",
        idle_s=_idle_s(timeouts.get(state[0], ()), parts[CTA_TIMEOUT]) if state and CTA_TIMEOUT in parts else 0,
        handle=_head(version) + b"".join(named),
    )


def _idle_s(timeouts_s: tuple[int, ...], left: memoryview) -> int:
    """How long ago a packet passed. left: for how many seconds more the entry is kept."""
    left_s = int.from_bytes(left)
    return min((full - left_s for full in timeouts_s if full >= left_s), default=0)
