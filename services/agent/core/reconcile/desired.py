"""From documents and what is known on this host to the state the kernel shall have: the same input, the same state.

One route, rule or peer that makes no sense never stops the others: it is left out and named in `skipped`.
"""

from collections.abc import Iterable, Mapping
from operator import is_

import msgspec

from services.agent.core.desired_state import Desired
from services.agent.core.documents import Documents
from services.agent.core.firewall.inputs import Inputs
from services.agent.core.firewall.ruleset import Around, Table
from services.agent.core.firewall.serving import Serving
from services.agent.core.kernel import (
    CONTROL_MARK,
    FORWARDER_PORT,
    INTERFACE,
    MTU,
    FloatingAddress,
    Link,
    WireGuardDevice,
)
from services.agent.core.parsed import address_of, prefix_of
from services.agent.core.reconcile.known import DevicePeers, Known
from services.agent.core.reconcile.sysctls import desired_sysctls, has_v6
from services.agent.core.routing.choices import Selection
from services.agent.core.routing.destinations import Overlay, overlay_of
from services.agent.core.routing.fib import Fib, Seen, Terms
from services.agent.core.routing.hagroups import EXITS, HaKey
from services.agent.core.routing.policyrules import policy_rules
from shared.events.documents import SelfDoc, SettingsDoc


class Local(msgspec.Struct, frozen=True, kw_only=True):
    """What this host itself knows. Peers are named by peer id.

    public_key: of the device. listen_port: the port the device has. ipv6: whether the host's kernel has IPv6.
    endpoints: PathBook.endpoints(), absent or "" leaves a peer's endpoint alone. connected: PathBook.connected().
    routing_peers: those of the last Desired. decisions: who carries an HA group, see fib.Seen. sysctls: current values
    of `sysctls.watched`, originals: the journal. withdrawn: ids of the routes that this host serves and does not carry
    by its own word. floating: addresses that this host has in LANs, see
    core/ha/holding.py.
    """

    public_key: str
    listen_port: int
    interface: str = INTERFACE
    mtu: int = MTU
    ipv6: bool = True
    selection: Selection = Selection()
    endpoints: Mapping[str, str] = {}
    connected: frozenset[str] = frozenset()
    routing_peers: Mapping[str, str] = {}
    decisions: Mapping[HaKey, str] = {}
    sysctls: Mapping[str, str] = {}
    originals: Mapping[str, str] = {}
    floating: Mapping[str, FloatingAddress] = {}
    withdrawn: frozenset[str] = frozenset()


def desired(documents: Documents, local: Local) -> Desired:
    """The whole desired state. Without documents: a closed host with a device, and no address, peer or route."""
    return Computation().update(documents, local)


class Computation:
    """Computes the desired state from what changed since the last time.

    What `update` gives is what `desired` gives for the same input, whatever came before; parts that stay are the same
    objects as last time. What everything depends on, this host's own document among it, is computed from nothing.
    """

    def __init__(self) -> None:
        self._basis: _Basis | None = None

    def update(self, documents: Documents, local: Local) -> Desired:
        """The whole desired state."""
        ipv6 = local.ipv6 and has_v6(local.sysctls)
        basis = _Basis(
            documents.self_doc,
            documents.settings,
            local.public_key,
            local.listen_port,
            local.interface,
            local.mtu,
            local.selection,
            ipv6,
        )
        if basis != self._basis:
            self._basis, self._parts = basis, _Parts(basis)
        return self._parts.update(documents, local)


class _Basis(msgspec.Struct, frozen=True):
    """What every part of the desired state may depend on. ipv6: whether the host has it now."""

    me: SelfDoc | None
    settings: SettingsDoc | None
    public_key: str
    listen_port: int
    interface: str
    mtu: int
    selection: Selection
    ipv6: bool

    @property
    def overlay(self) -> Overlay:
        return overlay_of(self.settings, self.me, ipv6=self.ipv6)


class _Parts:
    """The desired state on one basis."""

    def __init__(self, basis: _Basis) -> None:
        me, overlay = basis.me, basis.overlay
        self._basis = basis
        self._known = Known(basis.public_key, me, overlay)
        self._fib = Fib(
            Terms(
                me=me,
                overlay=overlay,
                selection=basis.selection,
                interface=basis.interface,
                ipv6=basis.ipv6,
            )
        )
        self._device_peers = DevicePeers()
        settings = basis.settings
        self._serving = Serving(me, overlay, forwarder=settings is not None and settings.routing_peer_dns_resolution)
        self._inputs = Inputs(me)
        self._table = Table(
            Around(
                interface=basis.interface,
                mtu=basis.mtu,
                listen_port=basis.listen_port,
                overlay=overlay.networks,
                forwarder_port=settings.forwarder_port if settings is not None else FORWARDER_PORT,
            )
        )
        self._skipped: tuple[Mapping[str, str], ...] = ()
        self._fixed = Desired(
            links={basis.interface: _link(basis, overlay)},
            devices={
                basis.interface: WireGuardDevice(
                    public_key=basis.public_key, listen_port=basis.listen_port, fwmark=CONTROL_MARK
                )
            },
        )

    def update(self, documents: Documents, local: Local) -> Desired:
        """What the documents and this host change."""
        known, fib, serving, inputs = self._known, self._fib, self._serving, self._inputs
        addresses = known.update(documents.peers)
        rerouted = fib.update(
            Seen(
                routes=documents.routes,
                resolutions=documents.resolutions,
                peers=known.peers,
                connected=local.connected,
                incumbents=local.routing_peers,
                decisions=local.decisions,
            )
        )
        rerouted |= {fib.routing_peer_of(address) for address in addresses}
        serving.update(documents.routes, documents.resolutions, documents.rules)
        inputs.update(documents.rules)
        closed = [family for family, exit_ in EXITS.items() if exit_ in fib.routes]
        return msgspec.structs.replace(
            self._fixed,
            revision=documents.revision,
            peers=self._device_peers.update(known, fib.allowed, rerouted, local.endpoints),
            routes=fib.routes,
            rules=policy_rules(ipv6=self._basis.ipv6, closed=closed),
            ruleset=self._table.update(inputs.matches, serving.served, known.peers, local.withdrawn),
            sysctls=desired_sysctls(
                forward_v4=4 in serving.versions,
                forward_v6=6 in serving.versions,
                current=local.sysctls,
                originals=local.originals,
            ),
            skipped=self._reasons(),
            routing_peers=fib.routing_peers,
            served=serving.ids,
            floating=local.floating,
        )

    def _reasons(self) -> Mapping[str, str]:
        parts = self._fib.skipped, self._serving.skipped, self._inputs.skipped, self._known.skipped
        if self._skipped[1:] and all(map(is_, self._skipped[1:], parts)):
            return self._skipped[0]
        self._skipped = ({id: reason for part in parts for id, reason in part.items()}, *parts)
        return self._skipped[0]


def _link(basis: _Basis, overlay: Overlay) -> Link:
    me, settings = basis.me, basis.settings
    addresses = set[str]()
    if me is not None and settings is not None:
        addresses.update(_with_length(me.address_v4, settings.overlay_v4))
        if overlay.ipv6:
            addresses.update(_with_length(me.address_v6, settings.overlay_v6))
    return Link(name=basis.interface, mtu=basis.mtu, up=True, addresses=frozenset(addresses))


def _with_length(address: str, network: str) -> Iterable[str]:
    """The address with the length of the prefix it lies in; nothing when either makes no sense."""
    prefix, canonical = prefix_of(network), address_of(address)
    if canonical is not None and prefix is not None:
        yield f"{canonical}/{prefix.prefixlen}"
