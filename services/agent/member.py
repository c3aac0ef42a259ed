"""An enrolled host: what goes on there all the time, as a list of tasks."""

import gc
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, NamedTuple

from services.agent.asking import Asking, new_identifier
from services.agent.bus.candidacy import CandidacyReporter
from services.agent.bus.dial import Dialer
from services.agent.bus.feed import Feed
from services.agent.bus.moving import Moving
from services.agent.bus.outbox import Outbox
from services.agent.bus.report import Reporter
from services.agent.bus.session import Peer
from services.agent.bus.signalling import Signalling
from services.agent.candidacy import CandidacyWatch
from services.agent.choosing import Choosing
from services.agent.connections import Connections
from services.agent.core.documents import FeedView
from services.agent.core.kernel import PROBE_IDENTIFIER
from services.agent.core.paths.pathbook import PathBook
from services.agent.departures import Departures
from services.agent.dns.exchange import Exchange
from services.agent.dns.hostdns import HostDns
from services.agent.dns.learning import Learning
from services.agent.dns.local import LocalDns
from services.agent.dns.resolving import Resolving
from services.agent.draining import Draining
from services.agent.drivers import forwarder_process, netlink
from services.agent.drivers.addresses import whereabouts
from services.agent.drivers.conntrack import Conntrack
from services.agent.drivers.gateway import Gateway
from services.agent.drivers.icmp import Icmp
from services.agent.drivers.neighbours import Lans
from services.agent.drivers.netlink import Netlink
from services.agent.drivers.nft import Nft
from services.agent.drivers.notifications import KernelNotifications
from services.agent.drivers.rtnl_ways import Ways
from services.agent.drivers.sockdiag import TcpSockets
from services.agent.drivers.tcp_probe import TcpProbe
from services.agent.forwarding import Forwards
from services.agent.handover import Handover
from services.agent.holding import Holdings
from services.agent.loop.following import Following
from services.agent.loop.loop import Loop
from services.agent.monitor import Monitor
from services.agent.paths import Paths
from services.agent.ports import WireGuardDriver
from services.agent.probes import Probes
from services.agent.settings import Settings
from services.agent.situation import Situation
from services.agent.state import statefile
from services.agent.state.identity import Identity
from services.agent.state.lastgood import LastGoodKeeper
from services.agent.state.statefile import Picture, StateFile
from services.agent.state.switches import SwitchKeeper
from services.agent.targets import ProbeTargets
from shared.bus.undecodable import Undecodables
from shared.events.signals import Candidates, Departed, PeerMeta
from shared.events.subjects import SignalKey
from shared.tasks import first_of


class Host(NamedTuple):
    """Where the agent runs: what it was told, and its ways to the bus and to the kernel."""

    settings: Settings
    meta: PeerMeta
    dial: Dialer
    rtnl: Netlink
    device: WireGuardDriver
    nft: Nft


class Base(NamedTuple):
    """What there is from the start, also on a host that has to enrol first."""

    host: Host
    situation: Situation
    picture: StateFile[Picture]
    view: FeedView
    book: PathBook
    loop: Loop
    host_dns: HostDns
    learning: Learning
    names: LocalDns


class Member:
    """Builds the parts of an enrolled host, and runs them. A part that comes is built here, and a line in the list."""

    def __init__(self, base: Base, who: Identity) -> None:
        host, situation, book = base.host, base.situation, base.book
        account, peer_id, outbox = who.account, who.peer_id, Outbox()
        epoch = statefile.next_epoch(host.settings.state_dir, time.time())
        bus = host.dial.addresses
        self._endpoints = base.picture.value.endpoints
        self.signalling = Signalling(situation, outbox.publish, account, peer_id, who.private_key, epoch)
        self._paths = Paths(situation, book, self.signalling, host.device, partial(whereabouts, host.rtnl), bus)
        self._picture = LastGoodKeeper(situation, base.picture, base.view, book, host.dial.known)
        self.draining = Draining(situation, host.nft.counts)
        sockets, conntrack = TcpSockets(partial(Netlink, netlink.SOCK_DIAG)), partial(Netlink, netlink.NETFILTER)
        self._connections = Connections(situation, sockets, self.signalling)
        self._departures = Departures(situation, Conntrack(conntrack))
        exchange, undecodables = Exchange(), Undecodables()
        resolving = Resolving(situation, exchange, outbox.publish, account, peer_id, undecodables)
        feed = Feed(
            situation,
            host.dial,
            Peer(account, peer_id),
            who.bus_seed,
            base.view,
            outbox,
            self._hear,
            resolving.hear,
            undecodables,
        )
        self.holdings = Holdings(situation, Lans(host.rtnl), outbox.request, account, peer_id)
        notifications = KernelNotifications(host.settings.interface, {host.rtnl.port}, lambda: host.nft.accounted)
        self.forwards = Forwards(situation, host.nft, Conntrack(conntrack), forwarder_process.start)
        ways, gateway = Ways(host.rtnl), Gateway(host.rtnl, host.settings.interface)
        own_ways = statefile.own_ways(host.settings.state_dir)
        switches = statefile.switches(host.settings.state_dir)
        self._choosing, self._switches = Choosing(situation, switches.value), SwitchKeeper(situation, switches)
        self._learning = base.learning
        self._tasks: tuple[Callable[[], Coroutine[Any, Any, None]], ...] = (
            base.loop.run,
            self._choosing.run,
            self._paths.run,
            feed.run,
            Moving(situation, host.dial, outbox, feed).run,
            self.signalling.beat,
            Reporter(situation, outbox.publish, account, peer_id, host.meta, host.device.name).run,
            self._picture.run,
            self._switches.run,
            Following(situation, ways).run,
            ProbeTargets(situation, _asking_targets()).run,
            CandidacyWatch(situation, ways, gateway, own_ways).run,
            CandidacyReporter(situation, outbox.publish, account, peer_id, epoch).run,
            self.holdings.run,
            Monitor(situation, notifications).run,
            base.host_dns.run,
            self._learning.run,
            LocalDns(situation, exchange, self._learning).run,
            resolving.run,
            self._connections.run,
            self._departures.run,
            Handover(situation, sockets, Conntrack(conntrack), host.nft).run,
            self.forwards.run,
            Probes(situation, _asking_gateways(host.settings.interface)).run,
        )

    async def run(self) -> None:
        """Until cancelled."""
        await self._paths.begin(self._endpoints)
        self._choosing.begin()
        self._connections.begin()
        await self.holdings.begin()
        gc.collect()
        gc.freeze()
        await first_of(*(task() for task in self._tasks))

    def keep(self) -> None:
        """Write to disk now what is written some time after it changed."""
        self._picture.keep()
        self._switches.keep()
        self._learning.keep()

    def _hear(self, key: SignalKey, sealed: bytes) -> None:
        """Take a signal of another peer."""
        match self.signalling.opened(key.sender, sealed):
            case Candidates() as candidates:
                self._paths.hear(key.sender, candidates)
            case Departed() as departed:
                self._departures.hear(key.sender, departed)


def _asking_targets() -> Asking:
    identifier = new_identifier()
    return Asking("target", identifier, Icmp(identifier), TcpProbe())


def _asking_gateways(interface: str) -> Asking:
    return Asking("gateway", PROBE_IDENTIFIER, Icmp(PROBE_IDENTIFIER, interface))
