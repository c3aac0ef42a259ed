"""WireGuard in user space: wireguard-go over /dev/net/tun.

wireguard-go outlives an agent that is killed, so that traffic goes on, and the next agent takes it over.
"""

import asyncio
import base64
import contextlib
import errno
from collections.abc import Iterable, Mapping

from msgspec.structs import replace

from services.agent.core.kernel import MTU, PeerStats, WireGuardDevice, WireGuardPeer
from services.agent.drivers import rtnl_links
from services.agent.drivers.netlink import Netlink
from services.agent.drivers.rtnl import IFF_UP
from services.agent.drivers.wireguard import sockets, uapi
from services.agent.drivers.wireguard.changes import PeerChange, after, greeting, plan, whole
from services.agent.drivers.wireguard.process import PROGRAM, SOCKETS, WireGuardGoProcess, is_here
from services.agent.drivers.wireguard.uapi import Silent
from services.agent.errors import MechanismMissing

KIND = "tun"
NEEDED = MTU + 60
"""Bytes of an IPv4 packet that carries the tunnel's largest: 20 of IPv4, 8 of UDP, 32 of WireGuard."""
OPEN_LOOKS, OPEN_LOOK_S = 20, 0.005
GOES_WITHIN_S, LOOK_AGAIN_S = 2.0, 0.01
MAY_NOT = (errno.EPERM, errno.EACCES, errno.ENOSYS)
NARROW = (
    f"IPv4 paths narrower than {NEEDED} bytes that do not say so stall: {PROGRAM} forbids fragments, and its socket "
    "cannot be had ({}): load the kernel's module wireguard, or allow CAP_SYS_PTRACE"
)


async def key_behind(interface: str) -> str | None:
    """Public key of the wireguard-go of this network namespace that has the interface, None when none has it.

    "" when it has no key yet, or does not say.
    """
    process = WireGuardGoProcess(interface)
    pid = await process.pid()
    if pid is None:
        return "" if process.deaf() else None
    if not is_here(pid):
        return None
    try:
        return uapi.device(await uapi.get(process.socket)).public_key
    except Silent:
        return ""


async def goes(rtnl: Netlink, interface: str) -> bool:
    """Whether an interface that nobody serves goes by itself: the kernel removes it a while after its process died."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(GOES_WITHIN_S):
            while rtnl_links.find(rtnl, interface):
                await asyncio.sleep(LOOK_AGAIN_S)
            return True
    return False


class WireGuardGo:
    """Driver of one interface that wireguard-go serves. private_key: base64; it goes to the socket and nowhere else.

    Setting one peer takes 1 ms, reading 1,000 peers 25.
    """

    name = "wireguard-go"

    def __init__(self, rtnl: Netlink, interface: str, private_key: str) -> None:
        self._rtnl = rtnl
        self._interface = interface
        self._private_key = base64.b64decode(private_key)
        self._public_key = uapi.public_key(self._private_key)
        self._process = WireGuardGoProcess(interface)
        self._held: Mapping[str, frozenset[str]] | None = None
        self.limit = ""

    async def create(self) -> None:
        """Make sure that a wireguard-go of this host serves the interface; a live one is taken over as it is.

        Raises MechanismMissing when it cannot start, or when somebody else has the name.
        """
        pid = await self._process.pid()
        link = rtnl_links.find(self._rtnl, self._interface)
        if pid and not is_here(pid):
            raise MechanismMissing(
                f"{self._process.socket} belongs to process {pid} in another network namespace: "
                f"give this one a {SOCKETS} of its own, or another --interface"
            )
        # A tun device goes with the process that made it, so that one without a wireguard-go is another program's.
        if (
            link
            and (link.kind != KIND or await key_behind(self._interface) is None)
            and not await goes(self._rtnl, self._interface)
        ):
            raise MechanismMissing(f"interface {self._interface} is somebody else's: choose another with --interface")
        if pid and link and await self._answers():
            return
        await self._clear(pid)
        await self._process.start()

    async def destroy(self) -> None:
        """End wireguard-go, which takes the interface along; a socket that is left is removed."""
        pid = await self._process.pid()
        if pid is None or is_here(pid):
            await self._clear(pid)
            self._process.socket.unlink(missing_ok=True)

    async def observe(self) -> tuple[WireGuardDevice | None, dict[str, WireGuardPeer]]:
        """The device, None when nothing serves the interface, and its peers by public key."""
        self._held = None
        try:
            fields = await uapi.get(self._process.socket)
        except Silent:
            return None, {}
        link = rtnl_links.find(self._rtnl, self._interface)
        if link is None:
            return None, {}
        peers = uapi.peers(fields)
        self._held = {key: peer.allowed_ips for key, peer in peers.items()}
        device = uapi.device(fields)
        return replace(device, keeps_whole=await self._keeps_whole(device.listen_port)), peers

    async def configure(self, device: WireGuardDevice) -> str | None:
        """Set what differs: setting the same port again would open its socket anew. The error, if any."""
        if device.public_key != self._public_key:
            return "the device is to have a key that this host does not hold"
        try:
            current = uapi.device(await uapi.get(self._process.socket))
        except (Silent, OSError) as problem:
            return self._why(problem)
        lines = []
        if current.public_key != device.public_key:
            lines.append(("private_key", self._private_key.hex()))
        if current.listen_port != device.listen_port:
            lines.append(("listen_port", str(device.listen_port)))
        if current.fwmark != device.fwmark:
            lines.append(("fwmark", str(device.fwmark)))
        error = await self._set(lines)
        pid = await self._process.pid()
        if error is None and pid and await self._keeps_whole(device.listen_port):
            with contextlib.suppress(OSError):  # reading it back tells
                sockets.allow_fragments(pid, device.listen_port)
        return error

    async def upsert(self, entries: Mapping[str, WireGuardPeer]) -> dict[str, str]:
        """Set peers in one message; an allowed IP that moves between them is never without one. Key → error."""
        if self._held is None:
            await self.observe()
        held, self._held = self._held or {}, None
        changes = [line for change in plan(entries, held) for line in uapi.change_lines(change)]
        try:
            refused = await uapi.set_(self._process.socket, changes)
        except (Silent, OSError) as problem:
            return dict.fromkeys(entries, self._why(problem))
        if refused is None:
            self._held = after(entries, held)
            return {}
        # It stopped at the first bad line, and what the device has is no longer known: one by one and as a whole, so
        # that only what is bad stays undone.
        errors = {key: await self._set(uapi.change_lines(whole(entry))) for key, entry in entries.items()}
        return {key: error for key, error in errors.items() if error}

    async def delete(self, keys: Iterable[str]) -> dict[str, str]:
        """Remove peers. What is not there counts as removed. Key → error."""
        gone = {key: uapi.change_lines(PeerChange(key, remove=True)) for key in keys}
        self._held = None
        if await self._set(line for lines in gone.values() for line in lines) is None:
            return {}
        errors = {key: await self._set(lines) for key, lines in gone.items()}  # it stopped at the first bad one
        return {key: error for key, error in errors.items() if error}

    async def stats(self) -> dict[str, PeerStats]:
        """What the device counts, by public key; nothing when it does not answer or cannot be asked."""
        try:
            return uapi.stats(await uapi.get(self._process.socket))
        except (Silent, OSError):
            return {}

    async def _keeps_whole(self, port: int) -> bool:
        """Whether its socket forbids fragments. wireguard-go opens it a moment after its interface is up."""
        self.limit = ""
        pid, link = await self._process.pid(), rtnl_links.find(self._rtnl, self._interface)
        looks = OPEN_LOOKS if pid and port and link and link.flags & IFF_UP else 0
        for _ in range(looks):
            try:
                found = sockets.forbid_fragments(pid or 0, port)
            except OSError as problem:
                if problem.errno in MAY_NOT:
                    self.limit = NARROW.format(problem.strerror)
                return False
            if found:
                return any(found)
            await asyncio.sleep(OPEN_LOOK_S)
        return False

    async def move(self) -> None:
        """wireguard-go goes on sending from the address at which it last heard a peer, also when that is gone.

        Another mark makes it forget these; the low bit means nothing to the rules that look for our mark, so that
        the packets in between go the same way. Nothing is closed and no session is lost.
        """
        try:
            fields = await uapi.get(self._process.socket)
        except (Silent, OSError):
            return
        mark = uapi.device(fields).fwmark
        lines = [("fwmark", str(mark ^ 1)), ("fwmark", str(mark))]
        heard = uapi.stats(fields)
        for key, peer in uapi.peers(fields).items():
            if heard[key].last_handshake:
                lines += [line for change in greeting(peer) for line in uapi.change_lines(change)]
        await self._set(lines)

    async def _answers(self) -> bool:
        try:
            await uapi.get(self._process.socket)
        except Silent:
            return False
        return True

    async def _clear(self, pid: int | None) -> None:
        """End the process, and the interface with it, as far as they are there."""
        for each in [pid] if pid else self._process.deaf():
            await self._process.end(each)
        self._process.reap()

    async def _set(self, lines: Iterable[tuple[str, str]]) -> str | None:
        lines = list(lines)
        try:
            return await uapi.set_(self._process.socket, lines) if lines else None
        except (Silent, OSError) as problem:
            return self._why(problem)

    def _why(self, problem: Silent | OSError) -> str:
        if isinstance(problem, OSError):
            return f"{PROGRAM} cannot be asked: {problem.strerror}"
        return f"{PROGRAM} does not answer at {self._process.socket}"
