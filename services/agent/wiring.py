"""Builds the agent and runs it: from settings to an exit code."""

import asyncio
import gc
import signal
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import structlog
from msgspec.structs import replace

from services.agent.answers import Answers
from services.agent.bus.dial import Dialer, ends
from services.agent.bus.enrolment import enrol, read_setup_key
from services.agent.bus.feed import Feed
from services.agent.bus.report import Reporter, report
from services.agent.bus.session import Peer
from services.agent.bus.signalling import Signalling
from services.agent.control import Control
from services.agent.core.documents import Documents, FeedView
from services.agent.core.kernel import NFT_TABLE, PeerStats
from services.agent.core.paths.pathbook import PathBook
from services.agent.core.paths.whereabouts import Told, Whereabouts, bus_moved
from services.agent.core.reconcile.desired import Local
from services.agent.core.routing.choices import Selection
from services.agent.core.show.status import About
from services.agent.drivers import netlink
from services.agent.drivers.addresses import whereabouts
from services.agent.drivers.netlink import Netlink
from services.agent.drivers.nft import Nft
from services.agent.drivers.notifications import KernelNotifications
from services.agent.drivers.rtnl_links import Links
from services.agent.drivers.rtnl_routes import Routes
from services.agent.drivers.rtnl_rules import Rules
from services.agent.drivers.rtnl_ways import Ways
from services.agent.drivers.sysctl import Sysctls
from services.agent.drivers.wireguard.mechanism import open_wireguard, probe, require_free
from services.agent.errors import AgentError
from services.agent.host import life_of_settings, meta
from services.agent.lifetime import Lifetime, first_of
from services.agent.loop.following import Following
from services.agent.loop.kernel import Drivers
from services.agent.loop.loop import Loop
from services.agent.loop.tunnel import tunnel
from services.agent.monitor import Monitor
from services.agent.paths import Paths
from services.agent.ports import WireGuardDriver
from services.agent.settings import Settings
from services.agent.state import identity, lastgood, remembered
from services.agent.state.directory import StateDirectory
from services.agent.state.identity import Identity
from services.agent.state.lastgood import LastGoodKeeper
from services.agent.state.remembered import Picture, Remembered
from shared.bus.undecodable import Undecodables
from shared.disk import NO_ROOM
from shared.events.facts import ReportFact
from shared.events.signals import EnrolRequest, PeerMeta
from shared.events.subjects import SignalKey
from shared.tasks import end_if_cancelled
from shared.version import VERSION

NOT_ENROLLED = "this host is not enrolled yet"

log = structlog.get_logger()


async def run(settings: Settings) -> int:
    """Run the agent until it is told to stop; gives the exit code. Raises AgentError or BadSetting before it runs."""
    lifetime = Lifetime()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, lifetime.stop)
    dial, mechanism, nft = Dialer(settings.bus, settings.bus_ca), probe(), Nft()
    try:
        directory = StateDirectory(settings.state_dir, NFT_TABLE)
        who = identity.load(directory.path)
        setup_key = read_setup_key(settings, wanted=who is None or not who.enrolled)
        rtnl = Netlink(netlink.ROUTE)
        await require_free(mechanism, rtnl, settings.interface, settings.port, who.public_key if who else "")
        who = who or identity.create(directory.path)
        device = open_wireguard(mechanism, rtnl, settings.interface, who.wireguard_key)
        agent = Agent(Host(settings, dial, rtnl, device, nft), who, setup_key, lifetime)
        await agent.control.start()
    except OSError as problem:
        where = problem.filename or settings.control_socket
        remedy = "make room on its disk, or " if problem.errno in NO_ROOM else ""
        raise AgentError(
            f"{where}: {problem.strerror or problem}: {remedy}choose another with --state-dir or --socket"
        ) from None
    try:
        return await agent.run()
    except AgentError:
        raise
    except Exception:
        log.exception("the agent failed; the kernel stays as it is until it runs again")
        return 1


class Host(NamedTuple):
    """Where the agent runs: what it was told, and its ways to the bus and to the kernel."""

    settings: Settings
    dial: Dialer
    rtnl: Netlink
    device: WireGuardDriver
    nft: Nft


class Parts(NamedTuple):
    """What there is from the start, also on a host that has to enrol first."""

    host: Host
    meta: PeerMeta
    picture: Remembered[Picture]
    view: FeedView
    book: PathBook
    loop: Loop


class Agent:
    """A host from its start to its end: answers on the socket, enrols if needed, and is a member from then on."""

    def __init__(self, host: Host, who: Identity, setup_key: str, lifetime: Lifetime) -> None:
        settings = host.settings
        self._who = who
        self._setup_key = setup_key
        self._in_the_way = NOT_ENROLLED
        self._lifetime = lifetime
        self._member: Member | None = None
        self._selection = remembered.selection(settings.state_dir)
        picture = remembered.picture(settings.state_dir)
        if not who.enrolled:  # a former identity may have left it, whose audiences are not this one's
            picture.keep(Picture(bus=picture.value.bus))
        host.dial.known.update(picture.value.bus)
        about, book, rules = meta(settings.hostname), PathBook(who.public_key), Rules(host.rtnl)
        self._loop = Loop(
            Local(
                public_key=who.public_key,
                listen_port=settings.port,
                interface=settings.interface,
                ipv6="v6" in rules.families(),
                selection=self._selection.value,
            ),
            Drivers(
                ruleset=host.nft,
                others={
                    **tunnel(Links(host.rtnl, settings.interface), host.device),
                    "sysctl": Sysctls(settings.interface),
                    "rule": rules,
                    "route": Routes(host.rtnl),
                },
            ),
            self._documents,
            book,
            remembered.Originals(settings.state_dir, life_of_settings()),
            self._passed,
        )
        self._parts = Parts(host, about, picture, FeedView(picture.value.feed), book, self._loop)
        answers = Answers(
            lambda: self._loop.passed, book, self._about, lambda: self._selection.value, self._choose, lifetime.down
        )
        self.control = Control(settings.control_socket, answers.table())

    async def run(self) -> int:
        """Work until told to stop, then remove everything from the kernel."""
        try:
            return await self._lifetime.run(self._work, self._leave, self._clean_up)
        finally:
            await self.control.stop()

    async def _work(self) -> None:
        if not self._who.enrolled:
            await self._enrol()
        self._setup_key = ""
        self._member = Member(self._parts, self._who)
        await self._member.run()

    async def _enrol(self) -> None:
        def tell(problem: str) -> None:
            self._in_the_way = f"{NOT_ENROLLED}: {problem}"

        request = EnrolRequest(wireguard_key=self._who.public_key, bus_key=self._who.bus_key, meta=self._parts.meta)
        enrolled = await enrol(self._parts.host.dial, self._setup_key, request, tell)
        self._who = replace(self._who, account=enrolled.account, peer_id=enrolled.peer_id)
        await self._keep_identity(tell)
        log.info("enrolled", account=enrolled.account, peer=enrolled.peer_id)

    async def _keep_identity(self, tell: Callable[[str], None]) -> None:
        """Try until it is on disk: the setup key may be used up."""
        while True:
            end_if_cancelled()
            try:
                identity.save(self._parts.host.settings.state_dir, self._who)
                return
            except OSError as problem:
                line = f"the identity cannot be kept: {problem}: make room on its disk"
                tell(line)
                log.warning("enrolled, going on trying", problem=line)
                await asyncio.sleep(lastgood.TRY_AGAIN_S)

    async def _leave(self) -> None:
        """Say goodbye while there is a bus."""
        if self._member is not None:
            await self._member.signalling.leave()

    async def _clean_up(self) -> Mapping[str, str]:
        left = await self._loop.stop()
        if self._member is not None:
            self._member.keeper.keep()
        return left

    def _documents(self) -> Documents:
        return self._member.feed.documents() if self._member else Documents()

    def _passed(self) -> None:
        if self._member is not None:
            self._member.passed()

    def _choose(self, selection: Selection) -> None:
        self._selection.keep(selection)
        self._loop.choose(selection)

    def _about(self) -> About:
        passed, feed, host = self._loop.passed, self._member.feed if self._member else None, self._parts.host
        return About(
            version=VERSION,
            backend=host.device.name,
            bus_url=host.settings.bus,
            bus_connected=feed is not None and feed.standing == "connected",
            bus_error=feed.problem if feed else self._in_the_way,
            applied_revision=passed.applied_revision,
            pending=passed.pending,
            limit=host.device.limit,
            told=self._member.paths.told if self._member else Told(),
            now=time.monotonic(),
            wall=time.time(),
        )


class Member:
    """An enrolled host, from then to its end: what goes on all the time, and who tells whom (a feed's Listener)."""

    def __init__(self, parts: Parts, who: Identity) -> None:
        host, account, peer_id = parts.host, who.account, who.peer_id
        self._host = host
        self._parts = parts
        self._peer_id = peer_id
        self._loop = parts.loop
        self.feed = Feed(host.dial, Peer(account, peer_id), who.bus_seed, parts.view, self, Undecodables())
        self.signalling = Signalling(
            account,
            peer_id,
            who.private_key,
            parts.book,
            self._key_of,
            self.feed.publish,
            remembered.next_epoch(host.settings.state_dir, time.time()),
        )
        self.keeper = LastGoodKeeper(parts.picture, self._picture)
        self._following = Following(Ways(host.rtnl), lambda: parts.loop.passed.desired.routes, parts.loop.told)
        self._reporter = Reporter(account, peer_id, self.feed.publish, self._report)
        self.paths = Paths(
            parts.book,
            parts.loop.passed.local,
            lambda peers: whereabouts(host.rtnl, (*host.dial.addresses(), *peers)),
            self._stats,
            self.signalling.introduce,
            host.device.move,
            self._moved,
            parts.loop.reset,
            self.changed,
        )

    async def run(self) -> None:
        """Until cancelled."""
        host = self._host
        monitor = Monitor(KernelNotifications(host.settings.interface, {host.rtnl.port}, lambda: host.nft.accounted))
        try:
            await self._recall()
            gc.collect()
            gc.freeze()
            await first_of(
                self._reconcile(),
                self.paths.run(),
                self.feed.run(),
                self.signalling.beat(),
                self._reporter.run(),
                self.keeper.run(),
                self._following.run(),
                self._watch(monitor),
            )
        finally:
            monitor.close()

    async def _recall(self) -> None:
        now, documents, book = time.monotonic(), self._parts.view.documents(), self._parts.book
        book.set_peers({peer.peer_id: peer.wireguard_key for peer in documents.peers.values()}, now)
        self.paths.follow(documents)
        stats = await self._host.device.stats()
        lastgood.recall(self._parts.picture.value, book, stats, now, time.time())

    async def _reconcile(self) -> None:
        """Keep the kernel as it shall be. What a predecessor left is not judged by an empty picture."""
        if self._parts.view.documents().self_doc is None:
            await self.feed.known()
        await self._loop.run()

    async def _watch(self, monitor: Monitor) -> None:
        async for dirty in monitor:
            self._loop.dirty(dirty)
            if "addresses" in dirty:
                self.paths.disturbed()
            if dirty & {"addresses", "link", "rule", "route", "ways"}:
                self._following.disturbed()

    async def _stats(self) -> Mapping[str, PeerStats]:
        stats = await self._host.device.stats()
        self._loop.counted(stats)
        return stats

    def changed(self) -> None:
        self._loop.changed()
        self.keeper.changed()

    def signal(self, key: SignalKey, sealed: bytes) -> None:
        if self.signalling.hear(key.sender, sealed):
            self.paths.wake()

    def connected(self) -> None:
        self.keeper.changed()
        self.paths.locate()
        self.paths.reconnected()
        self.signalling.beat_now()
        self._reporter.again()

    def _moved(self, before: Whereabouts, after: Whereabouts) -> None:
        """This host's addresses were read."""
        connection, bus = self.feed.connection, self._host.dial.addresses()
        if bus_moved(before, after, bus, ends(connection) if connection else None):
            self.feed.moved()

    def passed(self) -> None:
        """The loop has gone round."""
        self.paths.follow(self._loop.passed.documents)
        self._following.passed()
        self._reporter.changed()

    def _key_of(self, peer_id: str) -> str | None:
        peer = self.feed.documents().peers.get(peer_id)
        return peer.wireguard_key if peer else None

    def _report(self) -> ReportFact:
        revision = self.feed.documents().revision
        return report(self._loop.passed, self._parts.meta, self._peer_id, self._host.device.name, revision)

    def _picture(self) -> Picture:
        """What shall be on disk: nothing of what a banished host was once told."""
        parts = self._parts
        if self.feed.banished:
            return Picture()
        return lastgood.taken(parts.view, parts.book, parts.picture.value, self._host.dial.known)
