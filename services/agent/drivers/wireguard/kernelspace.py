"""WireGuard in the kernel, through pyroute2's generic netlink messages.

Imported only where the kernel has WireGuard: pyroute2 costs 17 MB. One message per peer; within a message an allowed
IP moves from one peer to another in one step.
"""

import base64
import os
import socket
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import ip_address
from typing import Any

from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.generic.wireguard import AsyncWireGuard

from services.agent.core.kernel import PeerStats, WireGuardDevice, WireGuardPeer
from services.agent.drivers import netlink, rtnl_links
from services.agent.drivers.netlink import Netlink, Request
from services.agent.drivers.rtnl import IFLA_IFNAME, IFLA_INFO_KIND, IFLA_LINKINFO, LINK, RTM_NEWLINK
from services.agent.drivers.wireguard import userspace
from services.agent.drivers.wireguard.changes import DECOY, PeerChange, after, greeting, plan, whole
from services.agent.drivers.wireguard.uapi import public_key
from services.agent.errors import MechanismMissing

KIND = "wireguard"
CHUNK = 1000
"""Allowed IPs in one message: an attribute holds at most 64 KiB, an IPv6 one takes 40 bytes."""


async def key_behind(interface: str, genl: Any = None) -> str | None:
    """Public key of the interface, "" when it has none yet, None when it is no WireGuard. genl: who is asked."""
    try:
        return _device(await _info(genl or AsyncWireGuard(), interface)).public_key
    except NetlinkError:
        return None


class WireGuardKernel:
    """Driver of one interface of kind wireguard. private_key: base64; it goes to the kernel and nowhere else.

    genl: where the messages go.
    """

    name = "kernel"
    limit = ""

    def __init__(self, rtnl: Netlink, interface: str, private_key: str, genl: Any = None) -> None:
        self._rtnl = rtnl
        self._interface = interface
        self._private_key = private_key
        self._public_key = public_key(base64.b64decode(private_key))
        self._genl = genl or AsyncWireGuard()
        self._held: Mapping[str, frozenset[str]] | None = None

    async def create(self) -> None:
        """Make the interface; one that a predecessor left stays as it is, and traffic goes on.

        Raises MechanismMissing when somebody else has the name, or the kernel refuses.
        """
        link = rtnl_links.find(self._rtnl, self._interface)
        if link and link.kind == KIND:
            return
        if link and (link.kind != userspace.KIND or await userspace.key_behind(self._interface) is None):
            raise MechanismMissing(f"interface {self._interface} is somebody else's: choose another with --interface")
        rtnl_links.remove(self._rtnl, self._interface)  # a wireguard-go of ours, from before the kernel had the module
        info = netlink.nested(IFLA_LINKINFO, netlink.text(IFLA_INFO_KIND, KIND))
        body = LINK.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
        body += netlink.text(IFLA_IFNAME, self._interface) + info
        flags = netlink.F_CREATE | netlink.F_EXCL
        refused = self._rtnl.apply([Request(RTM_NEWLINK, flags, body)]).get(0)
        if refused:
            raise MechanismMissing(f"the kernel refuses interface {self._interface}: {refused.text}")

    async def destroy(self) -> None:
        """Remove the interface, its peers with it."""
        link = rtnl_links.find(self._rtnl, self._interface)
        if link and link.kind == KIND:
            rtnl_links.remove(self._rtnl, self._interface)

    async def observe(self) -> tuple[WireGuardDevice | None, dict[str, WireGuardPeer]]:
        """The device, None when there is none, and its peers by public key."""
        self._held = None
        try:
            messages = await _info(self._genl, self._interface)
        except NetlinkError:
            return None, {}
        peers = _peers(messages)
        self._held = {key: peer.allowed_ips for key, peer in peers.items()}
        return _device(messages), peers

    async def configure(self, device: WireGuardDevice) -> str | None:
        """Set key, port and mark; equal ones change nothing. The error, if any."""
        if device.public_key != self._public_key:
            return "the device is to have a key that this host does not hold"
        return await self._set(private_key=self._private_key, listen_port=device.listen_port, fwmark=device.fwmark)

    async def upsert(self, entries: Mapping[str, WireGuardPeer]) -> dict[str, str]:
        """Set peers; an allowed IP that moves between them is never without one. Key → error."""
        if self._held is None:
            await self.observe()
        held, self._held = self._held or {}, None
        errors = await self._carry_out(plan(entries, held))
        if not errors:
            self._held = after(entries, held)
        elif DECOY in errors:  # what is to go is still somebody's
            losing = [entry for key, entry in entries.items() if held.get(key, frozenset()) - entry.allowed_ips]
            errors |= await self._carry_out(map(whole, losing))
        return {key: error for key, error in errors.items() if key in entries}

    async def delete(self, keys: Iterable[str]) -> dict[str, str]:
        """Remove peers. What is not there counts as removed. Key → error."""
        self._held = None
        return await self._carry_out(PeerChange(key, remove=True) for key in keys)

    async def stats(self) -> dict[str, PeerStats]:
        """What the device counts, by public key; nothing when there is none."""
        try:
            messages = await _info(self._genl, self._interface)
        except NetlinkError:
            return {}
        whole = _peers(messages)
        return {key: _stats(peer, whole[key].allowed_ips) for key, peer in _each_peer(messages) if _begins(peer)}

    async def move(self) -> None:
        """The kernel looks at source and route with each packet: there is nothing to forget, but peers are to hear."""
        try:
            messages = await _info(self._genl, self._interface)
        except NetlinkError:
            return
        heard = {
            key for key, peer in _each_peer(messages) if _begins(peer) and _stats(peer, frozenset()).last_handshake
        }
        await self._carry_out(
            change for key, peer in _peers(messages).items() if key in heard for change in greeting(peer)
        )

    async def _carry_out(self, changes: Iterable[PeerChange]) -> dict[str, str]:
        errors: dict[str, str] = {}
        for change in changes:
            for peer in _messages(change):
                if error := await self._set(peer=peer):
                    errors[change.public_key] = error
        return errors

    async def _set(self, **what: Any) -> str | None:
        try:
            await self._genl.setup_endpoint()
            await self._genl.set(self._interface, **what)
        except NetlinkError as problem:
            return os.strerror(problem.code)
        return None


async def _info(genl: Any, interface: str) -> list[Any]:
    await genl.setup_endpoint()
    return [message async for message in await genl.info(interface)]


def _messages(change: PeerChange) -> Iterator[dict[str, Any]]:
    """The change as pyroute2's peers, so many that each fits in a message."""
    if change.remove:
        yield {"public_key": change.public_key, "remove": True}
        return
    parts = [change.add[at : at + CHUNK] for at in range(0, len(change.add), CHUNK)] or [()]
    for number, part in enumerate(parts):
        peer = {
            "public_key": change.public_key,
            "persistent_keepalive": change.keepalive_s,
            "allowed_ips": list(part),
            "replace_allowed_ips": change.replace and not number,
        }
        if change.only_known:
            peer["update_only"] = True
        if change.endpoint:
            address, _, port = change.endpoint.rpartition(":")
            peer |= {"endpoint_addr": address.strip("[]"), "endpoint_port": int(port)}
        yield peer


def _each_peer(messages: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    """Public key → what one message says of the peer; a long list of allowed IPs goes on in the next message."""
    for message in messages:
        for peer in message.get_attr("WGDEVICE_A_PEERS") or ():
            yield _key(peer.get_attr("WGPEER_A_PUBLIC_KEY")), peer


def _begins(peer: Any) -> bool:
    """Whether it is the first that is said of the peer: what follows holds nothing but allowed IPs."""
    return peer.get_attr("WGPEER_A_TX_BYTES") is not None


def _device(messages: Iterable[Any]) -> WireGuardDevice:
    first = next(iter(messages))
    return WireGuardDevice(
        public_key=_key(first.get_attr("WGDEVICE_A_PUBLIC_KEY")),
        listen_port=first.get_attr("WGDEVICE_A_LISTEN_PORT") or 0,
        fwmark=first.get_attr("WGDEVICE_A_FWMARK") or 0,
    )


def _peers(messages: Iterable[Any]) -> dict[str, WireGuardPeer]:
    found: dict[str, WireGuardPeer] = {}
    for key, peer in _each_peer(messages):
        before = found.get(key)
        ips = frozenset(allowed["addr"] for allowed in peer.get_attr("WGPEER_A_ALLOWEDIPS") or ())
        found[key] = WireGuardPeer(
            public_key=key,
            allowed_ips=before.allowed_ips | ips if before else ips,
            endpoint=before.endpoint if before else _endpoint(peer),
            keepalive_s=before.keepalive_s if before else peer.get_attr("WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL") or 0,
        )
    return found


def _stats(peer: Any, allowed_ips: frozenset[str]) -> PeerStats:
    handshake = peer.get_attr("WGPEER_A_LAST_HANDSHAKE_TIME")
    return PeerStats(
        endpoint=_endpoint(peer),
        last_handshake=handshake["tv_sec"] + handshake["tv_nsec"] / 1e9 if handshake else 0.0,
        rx_bytes=peer.get_attr("WGPEER_A_RX_BYTES") or 0,
        tx_bytes=peer.get_attr("WGPEER_A_TX_BYTES") or 0,
        allowed_ips=allowed_ips,
    )


def _endpoint(peer: Any) -> str:
    endpoint = peer.get_attr("WGPEER_A_ENDPOINT")
    if not endpoint:
        return ""
    address = ip_address(endpoint["addr"])
    return f"[{address}]:{endpoint['port']}" if address.version == 6 else f"{address}:{endpoint['port']}"


def _key(value: bytes | str | None) -> str:
    return value.decode() if isinstance(value, bytes) else value or ""
