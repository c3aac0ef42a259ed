"""Routes in the overlay's own table, many at a time."""

import asyncio
import errno
import socket
from collections.abc import Iterable, Iterator, Mapping

from services.agent.core.kernel import ROUTE_PROTOCOL, TABLE, RouteEntry
from services.agent.drivers import netlink
from services.agent.drivers.netlink import Message, Netlink, Refusal, Request
from services.agent.drivers.rtnl import (
    ROUTE,
    RT_SCOPE_LINK,
    RT_SCOPE_NOWHERE,
    RT_SCOPE_UNIVERSE,
    RT_TABLE_UNSPEC,
    RTA_DST,
    RTA_OIF,
    RTA_TABLE,
    RTM_DELROUTE,
    RTM_GETROUTE,
    RTM_NEWROUTE,
    RTN_UNICAST,
    RTN_UNREACHABLE,
    RTN_UNSPEC,
    index_of,
    name_of,
    pack_prefix,
    prefix_text,
)

GONE = {errno.ESRCH, errno.ENOENT, errno.EAFNOSUPPORT, errno.EOPNOTSUPP}
"""A delete that is refused like this had nothing to delete; ENOENT also says that a table was never used."""


class Routes:
    """Driver of the routes of TABLE with ROUTE_PROTOCOL; those of others in the same table are left alone.

    Metrics are the kernel's defaults, 0 and 1024 for IPv6. 10,000 routes are added in about 60 ms, listed in 55.
    """

    def __init__(self, rtnl: Netlink, table: int = TABLE, protocol: int = ROUTE_PROTOCOL) -> None:
        self._rtnl = rtnl
        self._table = table
        self._protocol = protocol

    async def observe(self) -> dict[str, RouteEntry]:
        found: dict[str, RouteEntry] = {}
        names: dict[int, str] = {}
        for family in (socket.AF_INET, socket.AF_INET6):
            listed = self._rtnl.dump(Request(RTM_GETROUTE, 0, self._body(family, RTN_UNSPEC, RT_SCOPE_UNIVERSE)))
            if isinstance(listed, Refusal):
                if listed.number in GONE:
                    continue
                raise OSError(listed.number, listed.text)
            for message in listed:
                route = self._read(message, names)
                if route:
                    found[route.prefix] = route
            await asyncio.sleep(0)
        return found

    async def upsert(self, entries: Mapping[str, RouteEntry]) -> dict[str, str]:
        """Add or replace. A replaced route never disappears. Prefix → error."""
        devices = {entry.device for entry in entries.values() if not entry.unreachable}
        index = {device: found for device in devices if (found := index_of(device)) is not None}
        errors = {
            prefix: f"interface {entry.device} does not exist"
            for prefix, entry in entries.items()
            if not entry.unreachable and entry.device not in index
        }
        flags = netlink.F_CREATE | netlink.F_REPLACE
        requests = (
            (prefix, Request(RTM_NEWROUTE, flags, self._add(entry, index.get(entry.device))))
            for prefix, entry in entries.items()
            if prefix not in errors
        )
        errors.update((prefix, refused.text) for prefix, refused in (await self._apply(requests)).items())
        return errors

    async def delete(self, keys: Iterable[str]) -> dict[str, str]:
        """Remove. What is not there counts as removed. Prefix → error."""
        requests = ((prefix, Request(RTM_DELROUTE, 0, self._remove(prefix))) for prefix in keys)
        refused = await self._apply(requests)
        return {prefix: problem.text for prefix, problem in refused.items() if problem.number not in GONE}

    async def _apply(self, requests: Iterable[tuple[str, Request]]) -> dict[str, Refusal]:
        refused: dict[str, Refusal] = {}
        for batch in _batches(requests):
            for index, problem in self._rtnl.apply([request for _, request in batch]).items():
                refused[batch[index][0]] = problem
            await asyncio.sleep(0)  # other tasks get their turn between batches
        return refused

    def _body(self, family: int, kind: int, scope: int, length: int = 0) -> bytes:
        header = ROUTE.pack(family, length, 0, 0, RT_TABLE_UNSPEC, self._protocol, scope, kind, 0)
        return header + netlink.u32(RTA_TABLE, self._table)

    def _add(self, entry: RouteEntry, index: int | None) -> bytes:
        family, packed, length = pack_prefix(entry.prefix)
        if index is None:
            body = self._body(family, RTN_UNREACHABLE, RT_SCOPE_UNIVERSE, length)
        else:
            scope = RT_SCOPE_LINK if family == socket.AF_INET else RT_SCOPE_UNIVERSE
            body = self._body(family, RTN_UNICAST, scope, length) + netlink.u32(RTA_OIF, index)
        return body + netlink.attribute(RTA_DST, packed)

    def _remove(self, prefix: str) -> bytes:
        family, packed, length = pack_prefix(prefix)
        return self._body(family, RTN_UNSPEC, RT_SCOPE_NOWHERE, length) + netlink.attribute(RTA_DST, packed)

    def _read(self, message: Message, names: dict[int, str]) -> RouteEntry | None:
        family, length, _, _, _, protocol, _, kind, _ = ROUTE.unpack_from(message.body)
        attributes = netlink.attributes(message.body[ROUTE.size :])
        if protocol != self._protocol or netlink.read_u32(attributes[RTA_TABLE]) != self._table:
            return None
        prefix = prefix_text(family, attributes.get(RTA_DST, b""), length)
        if kind == RTN_UNREACHABLE:
            return RouteEntry(prefix=prefix, device="", unreachable=True)
        index = netlink.read_u32(attributes[RTA_OIF]) if RTA_OIF in attributes else 0
        if index not in names:
            names[index] = name_of(index)
        return RouteEntry(prefix=prefix, device=names[index])


def _batches(requests: Iterable[tuple[str, Request]]) -> Iterator[list[tuple[str, Request]]]:
    batch: list[tuple[str, Request]] = []
    for request in requests:
        batch.append(request)
        if len(batch) == netlink.BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
