"""Who may ask the resolver of this host: the host itself, and what runs on it behind bridges of its own."""

from ipaddress import ip_interface

from services.agent.core.dns.learned import Address
from services.agent.core.intervals import Network
from services.agent.core.paths.whereabouts import Interface, Whereabouts

INSIDE = frozenset({"veth", "tun"})
"""Kinds that attach containers and virtual machines of this host to a bridge."""


class Askers:
    """own: the address that is asked. overlay: prefixes that other peers have addresses of.

    A host takes packets for any of its addresses on any interface, so that neighbours in its LAN reach the overlay
    address as well; they are told nothing.
    """

    def __init__(self, own: Address, overlay: tuple[Network, ...], where: Whereabouts) -> None:
        interfaces = [(one.interface, ip_interface(one.address)) for one in where.addresses]
        self._own = {own, *(there.ip for _, there in interfaces)}
        self._overlay = overlay
        self._behind = tuple(
            there.network for name, there in interfaces if _is_inside(where.interfaces.get(name, Interface()))
        )

    def may_ask(self, sender: Address) -> bool:
        """Whether the sender gets an answer."""
        if sender in self._own:
            return True
        if any(sender in network for network in self._overlay):
            return False
        return sender.is_loopback or any(sender in network for network in self._behind)


def _is_inside(interface: Interface) -> bool:
    """Whether what is attached to the interface runs on this host: a bridge with a card in it leads to the LAN."""
    return interface.kind == "bridge" and not interface.has_default and interface.ports <= INSIDE
