"""The overlay interface, the WireGuard device behind it and its peers, as three tables of one WireGuard driver."""

from collections.abc import Iterable, Mapping
from typing import Any

from services.agent.core.kernel import Link, WireGuardDevice, WireGuardPeer
from services.agent.core.reconcile.steps import Kind
from services.agent.errors import MechanismMissing
from services.agent.ports import Driver, WireGuardDriver


def tunnel(links: Driver[str, Link], wireguard: WireGuardDriver) -> dict[Kind, Driver[Any, Any]]:
    """The drivers of the kinds "link", "device" and "peer". links: of the interface that `wireguard` makes."""
    link = _Link(links, wireguard)
    device = _Device(link, wireguard)
    return {"link": link, "device": device, "peer": _Peers(device, wireguard)}


class _Link:
    """The interface. found: the names that were there when it was read."""

    def __init__(self, links: Driver[str, Link], wireguard: WireGuardDriver) -> None:
        self._links = links
        self._wireguard = wireguard
        self.found: tuple[str, ...] = ()

    async def observe(self) -> Mapping[str, Link]:
        links = await self._links.observe()
        self.found = tuple(links)
        return links

    async def upsert(self, entries: Mapping[str, Link]) -> Mapping[str, str]:
        if not entries.keys() <= set(self.found) and (error := await _create(self._wireguard)):
            return dict.fromkeys(entries, error)
        return await self._links.upsert(entries)

    async def delete(self, keys: Iterable[str]) -> Mapping[str, str]:
        await self._wireguard.destroy()
        return {}


class _Device:
    """The device. peers: what was read with it."""

    def __init__(self, link: _Link, wireguard: WireGuardDriver) -> None:
        self._link = link
        self._wireguard = wireguard
        self._answers = False
        self.peers: Mapping[str, WireGuardPeer] = {}

    async def observe(self) -> Mapping[str, WireGuardDevice]:
        device, self.peers = await self._wireguard.observe()
        found = dict.fromkeys(self._link.found, device) if device else {}
        self._answers = bool(found)
        return found

    async def upsert(self, entries: Mapping[str, WireGuardDevice]) -> Mapping[str, str]:
        """Configure it; one that did not answer behind its link is made anew, unless it answers by now."""
        error = None if self._answers else await _create(self._wireguard)
        error = error or await self._wireguard.configure(next(iter(entries.values())))
        return dict.fromkeys(entries, error) if error else {}

    async def delete(self, keys: Iterable[str]) -> Mapping[str, str]:
        """Nothing: a device goes with its link."""
        return {}


class _Peers:
    def __init__(self, device: _Device, wireguard: WireGuardDriver) -> None:
        self._device = device
        self.upsert = wireguard.upsert
        self.delete = wireguard.delete

    async def observe(self) -> Mapping[str, WireGuardPeer]:
        return self._device.peers


async def _create(wireguard: WireGuardDriver) -> str | None:
    try:
        await wireguard.create()
    except MechanismMissing as problem:
        return problem.message
    return None
