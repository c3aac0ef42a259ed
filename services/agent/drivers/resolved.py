"""systemd-resolved, by its D-Bus interface: our server and our domains belong to our link, as those of any other do."""

import asyncio
import contextlib
import socket
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from dbus_fast import BusType, Message, MessageType
from dbus_fast.aio import MessageBus
from dbus_fast.errors import AuthError, InvalidAddressError

from services.agent.core.dns.hostdns import Mechanism, Wanted
from services.agent.core.dns.resolvconf import ResolvConf, parse

UPLINKS = Path("/run/systemd/resolve/resolv.conf")
"""Where it writes the servers of all links."""

CALL_S = 5.0

RESOLVED = "org.freedesktop.resolve1"
_PATH = "/org/freedesktop/resolve1"
_MANAGER = "org.freedesktop.resolve1.Manager"
_DBUS = "org.freedesktop.DBus"


class Resolved:
    """interface: whose DNS is set; the kernel's index of it is asked anew each time. address: of the bus, in tests."""

    name: Mechanism = "systemd-resolved"
    limit = ""

    def __init__(self, interface: str, address: str | None = None, uplinks: Path = UPLINKS) -> None:
        self._interface = interface
        self._address = address
        self._uplinks = uplinks
        self._bus: MessageBus | None = None
        self._told: tuple[str, int, Wanted] | None = None

    async def is_there(self) -> bool:
        """Whether it is on the bus, or would be started by a call."""
        try:
            return bool(await self._owner())
        except OSError:
            return False

    async def own(self) -> ResolvConf:
        """The servers of all links, ours among them; where they search it knows itself. Raises OSError."""
        return ResolvConf(servers=parse(self._uplinks.read_bytes().decode(errors="replace")).servers)

    async def apply(self, wanted: Wanted) -> bool:
        """Tell it, unless it was told the same and has not been started anew since. Raises OSError.

        A domain that is searched is also asked for at us; "." makes us the one for all names.
        """
        telling = await self._owner(), self._index(), wanted
        if telling == self._told:
            return False
        index, server = telling[1], ip_address(wanted.server)
        family = socket.AF_INET6 if server.version == 6 else socket.AF_INET
        domains = dict.fromkeys((*wanted.domains, *((".",) if wanted.default else ())), True)
        domains |= dict.fromkeys(wanted.search, False)
        await self._call("SetLinkDNS", "ia(iay)", index, [[int(family), server.packed]])
        await self._call("SetLinkDomains", "ia(sb)", index, [[name, only] for name, only in domains.items()])
        await self._call("SetLinkDefaultRoute", "ib", index, wanted.default)
        await self._call("SetLinkDNSSEC", "is", index, "no")
        await self._call("SetLinkDNSOverTLS", "is", index, "no")
        await self._call("FlushCaches", "")
        again = self._told is not None and self._told[2] == wanted
        self._told = telling
        return again

    async def revert(self) -> None:
        """The link as it was. It is so by itself once the link is gone. Raises OSError."""
        self._told = None
        with contextlib.suppress(NoLink):
            await self._call("RevertLink", "i", self._index())
            await self._call("FlushCaches", "")
        self.close()

    def close(self) -> None:
        if self._bus is not None:
            self._bus.disconnect()
            self._bus = None

    def _index(self) -> int:
        try:
            return socket.if_nametoindex(self._interface)
        except OSError as problem:
            raise NoLink(f"there is no interface {self._interface}") from problem

    async def _owner(self) -> str:
        (owner,) = await self._send(_DBUS, "/org/freedesktop/DBus", _DBUS, "GetNameOwner", "s", RESOLVED)
        return str(owner)

    async def _call(self, member: str, signature: str, *body: Any) -> None:
        await self._send(RESOLVED, _PATH, _MANAGER, member, signature, *body)

    async def _send(self, to: str, path: str, interface: str, member: str, signature: str, *body: Any) -> list[Any]:
        message = Message(
            destination=to, path=path, interface=interface, member=member, signature=signature, body=list(body)
        )
        try:
            async with asyncio.timeout(CALL_S):
                if self._bus is None or not self._bus.connected:
                    self._bus = await MessageBus(self._address, BusType.SYSTEM).connect()
                reply = await self._bus.call(message)
        except (OSError, EOFError, AuthError, InvalidAddressError) as problem:
            self.close()
            raise OSError(f"D-Bus does not answer: {problem}") from problem
        if reply.message_type is MessageType.ERROR:
            raise OSError(f"{member}: {reply.body[0] if reply.body else reply.error_name}")
        return list(reply.body)


class NoLink(OSError):
    """The interface is not there now."""
