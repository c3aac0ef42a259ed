"""Builds the agent and runs it: from settings to an exit code."""

import asyncio
import contextlib
import errno
import gc
import signal
import socket
import time
from collections.abc import Coroutine, Mapping
from typing import Any

import structlog
from msgspec.structs import replace

from services.agent.answers import Answers
from services.agent.control import Control
from services.agent.core.desired import Local
from services.agent.core.documents import Documents, FeedView
from services.agent.core.kernel import NFT_TABLE
from services.agent.core.selection import Selection
from services.agent.core.status import About
from services.agent.core.tunnel import PathBook
from services.agent.dial import Dialer
from services.agent.drivers import netlink
from services.agent.drivers.addresses import local_addresses
from services.agent.drivers.netlink import Netlink
from services.agent.drivers.nft import Nft
from services.agent.drivers.notifications import KernelNotifications
from services.agent.drivers.rtnl_links import Links, find
from services.agent.drivers.rtnl_routes import Routes
from services.agent.drivers.rtnl_rules import Rules
from services.agent.drivers.sysctl import Sysctls
from services.agent.drivers.wireguard import Mechanism, is_taken, open_wireguard, probe
from services.agent.enrolment import enrol
from services.agent.errors import AgentError, AlreadyRunning, SetupKeyMissing
from services.agent.feed.reader import HELD_BACK_S, Feed
from services.agent.feed.session import Peer
from services.agent.host import life_of_settings, meta
from services.agent.loop.kernel import PARTS, Drivers, Part
from services.agent.loop.loop import Loop
from services.agent.monitor import Monitor
from services.agent.paths import Paths
from services.agent.report import Reporter, report
from services.agent.settings import VERSION, Settings
from services.agent.signalling import Signalling
from services.agent.state import identity, lastgood, remembered
from services.agent.state.directory import StateDirectory
from services.agent.state.identity import Identity
from services.agent.state.lastgood import LastGoodKeeper
from services.agent.state.remembered import Picture
from shared.bus.undecodable import Undecodables
from shared.events.signals import EnrolRequest
from shared.events.subjects import SignalKey

log = structlog.get_logger()


async def run(settings: Settings) -> int:
    """Run the agent until it is told to stop; gives the exit code. Raises AgentError or BadSetting before it runs."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    dial, mechanism, nft = Dialer(settings.bus, settings.bus_ca), probe(), Nft()
    try:
        directory = StateDirectory(settings.state_dir, NFT_TABLE)
        who = identity.load(directory.path)
        setup_key = _setup_key(settings, wanted=who is None or not who.enrolled)
        rtnl = Netlink(netlink.ROUTE)
        if find(rtnl, settings.interface) is None:
            _require_free(settings.port)
        elif await is_taken(mechanism, rtnl, settings.interface, who.public_key if who else ""):
            raise AlreadyRunning(
                f"interface {settings.interface} is somebody else's: choose another with --interface, "
                f"or remove it with `ip link delete {settings.interface}`"
            )
        who = who or identity.create(directory.path)
        agent = Agent(settings, dial, mechanism, rtnl, nft, who, setup_key, stop)
        await agent.start()
    except OSError as problem:
        where = problem.filename or settings.control_socket
        raise AgentError(
            f"{where}: {problem.strerror or problem}: choose another with --state-dir or --socket"
        ) from None
    try:
        return await agent.run()
    except AgentError:
        raise
    except Exception:
        log.exception("the agent failed; the kernel stays as it is until it runs again")
        return 1


class Agent:
    """All parts of one agent, and who tells whom."""

    def __init__(
        self,
        settings: Settings,
        dial: Dialer,
        mechanism: Mechanism,
        rtnl: Netlink,
        nft: Nft,
        who: Identity,
        setup_key: str,
        stop: asyncio.Event,
    ) -> None:
        self._settings = settings
        self._rtnl = rtnl
        self._nft = nft
        self._who = who
        self._setup_key = setup_key
        self._not_enrolled = "this host is not enrolled yet"
        self._stop = stop
        self._left: asyncio.Future[Mapping[str, str]] = asyncio.get_running_loop().create_future()
        self._dial = dial
        self._meta = meta(settings.hostname)
        self._picture = remembered.picture(settings.state_dir)
        self._dial.known.update(self._picture.value.bus)
        self._selection = remembered.selection(settings.state_dir)
        self._view = FeedView(self._picture.value.feed)
        self._book = PathBook(who.public_key)
        self._device = open_wireguard(mechanism, rtnl, settings.interface, who.wireguard_key)
        rules = Rules(rtnl)
        self._loop = Loop(
            Local(
                public_key=who.public_key,
                listen_port=settings.port,
                interface=settings.interface,
                ipv6=self._meta.ipv6 and "v6" in rules.families(),
                selection=self._selection.value,
            ),
            Drivers(
                links=Links(rtnl, settings.interface),
                device=self._device,
                sysctls=Sysctls(settings.interface),
                rules=rules,
                routes=Routes(rtnl),
                ruleset=nft,
            ),
            self._documents,
            self._book,
            remembered.Originals(settings.state_dir, life_of_settings()),
            self._passed,
        )
        self._keeper = LastGoodKeeper(self._picture, self._take_picture)
        self._paths = Paths(
            self._book,
            self._loop.passed.local,
            self._device.stats,
            self._introduce,
            self._loop.reset,
            self._paths_changed,
        )
        answers = Answers(
            lambda: self._loop.passed, self._book, self._about, lambda: self._selection.value, self._choose, self._down
        )
        self._control = Control(settings.control_socket, answers.table())
        self._feed: Feed | None = None
        self._signalling: Signalling | None = None
        self._reporter: Reporter | None = None
        self._known = asyncio.Event()
        self._overlay: tuple[str, ...] = ()

    async def start(self) -> None:
        """Answer on the socket."""
        await self._control.start()

    async def run(self) -> int:
        """Work until told to stop, then remove everything from the kernel."""
        try:
            await _first_of(self._work(), self._goodbye())
            self._left.set_result(await self._clean_up())
        finally:
            await self._control.stop()
        for entry, problem in self._left.result().items():
            log.error("could not be removed", entry=entry, problem=problem)
        return 1 if self._left.result() else 0

    async def _work(self) -> None:
        """Enrol if needed, then keep everything going."""
        if not self._who.enrolled:
            request = EnrolRequest(wireguard_key=self._who.public_key, bus_key=self._who.bus_key, meta=self._meta)
            enrolled = await enrol(self._dial, self._setup_key, request, self._cannot_enrol)
            self._who = replace(self._who, account=enrolled.account, peer_id=enrolled.peer_id)
            identity.save(self._settings.state_dir, self._who)
            log.info("enrolled", account=enrolled.account, peer=enrolled.peer_id)
        self._setup_key = ""
        account, peer_id = self._who.account, self._who.peer_id
        feed = self._feed = Feed(
            self._dial, Peer(account, peer_id), self._who.bus_seed, self._view, self, Undecodables()
        )
        signalling = self._signalling = Signalling(
            account,
            peer_id,
            self._who.private_key,
            self._book,
            self._key_of,
            feed.publish,
            remembered.next_epoch(self._settings.state_dir, time.time()),
        )
        reporter = self._reporter = Reporter(account, peer_id, feed.publish, self._report)
        monitor = Monitor(KernelNotifications(self._settings.interface, {self._rtnl.port}, lambda: self._nft.accounted))
        await self._recall()
        gc.collect()
        gc.freeze()
        try:
            await _first_of(
                self._reconcile(),
                self._paths.run(),
                feed.run(),
                signalling.beat(),
                reporter.run(),
                self._keeper.run(),
                self._watch(monitor),
            )
        finally:
            monitor.close()

    def _cannot_enrol(self, problem: str) -> None:
        self._not_enrolled = f"this host is not enrolled yet: {problem}"

    async def _goodbye(self) -> None:
        """Wait for the end, and announce it while there is a bus."""
        await self._stop.wait()
        if self._signalling is not None:
            await self._signalling.leave()

    async def _reconcile(self) -> None:
        """Keep the kernel as it shall be. What a predecessor left is not judged by an empty picture."""
        if self._view.documents().self_doc is None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HELD_BACK_S):
                    await self._known.wait()
        await self._loop.run()

    async def _clean_up(self) -> Mapping[str, str]:
        """Remove what was made; gives what could not be removed."""
        left = await self._loop.stop()
        if self._who.enrolled:
            self._keeper.keep()
        return left

    # What the feed tells

    def changed(self) -> None:
        self._loop.changed()
        self._keeper.changed()

    def signal(self, key: SignalKey, sealed: bytes) -> None:
        if self._signalling is not None and self._signalling.hear(key.sender, sealed):
            self._paths.wake()

    def connected(self) -> None:
        assert self._signalling is not None
        assert self._reporter is not None
        self._known.set()
        self._keeper.changed()
        self._book.reconnected(time.monotonic())
        self._signalling.beat_now()
        self._reporter.again()
        self._paths.wake()

    # What the other parts tell and ask

    def _documents(self) -> Documents:
        return self._feed.documents() if self._feed else self._view.documents()

    def _passed(self) -> None:
        settings = self._loop.passed.documents.settings
        overlay = (settings.overlay_v4, settings.overlay_v6) if settings else ()
        if overlay != self._overlay:
            self._locate()
        due = self._book.next_deadline()
        if due is not None and due <= time.monotonic():
            self._paths.wake()
        if self._reporter is not None:
            self._reporter.changed()

    def _paths_changed(self) -> None:
        self._loop.changed()
        self._keeper.changed()

    def _choose(self, selection: Selection) -> None:
        self._selection.keep(selection)
        self._loop.choose(selection)

    def _key_of(self, peer_id: str) -> str | None:
        peer = self._documents().peers.get(peer_id)
        return peer.wireguard_key if peer else None

    async def _introduce(self, peer_id: str, answer_wanted: bool) -> None:
        assert self._signalling is not None
        await self._signalling.introduce(peer_id, answer_wanted)

    async def _down(self) -> Mapping[str, str]:
        self._stop.set()
        return await asyncio.shield(self._left)

    def _about(self) -> About:
        passed, feed = self._loop.passed, self._feed
        return About(
            version=VERSION,
            backend=self._device.name,
            bus_url=self._settings.bus,
            bus_connected=feed is not None and feed.standing == "connected",
            bus_error=feed.problem if feed else self._not_enrolled,
            applied_revision=passed.applied_revision,
            pending=passed.pending,
            now=time.monotonic(),
            wall=time.time(),
        )

    def _report(self) -> Any:
        passed, revision = self._loop.passed, self._documents().revision
        return report(passed, self._meta, self._who.peer_id, self._device.name, revision)

    def _take_picture(self) -> Picture:
        """What shall be on disk: nothing of what a banished host was once told."""
        banished = self._feed is not None and self._feed.banished
        return Picture() if banished else lastgood.taken(self._view, self._book, self._picture.value, self._dial.known)

    async def _recall(self) -> None:
        now, peers = time.monotonic(), self._view.documents().peers
        self._book.set_peers({peer.peer_id: peer.wireguard_key for peer in peers.values()}, now)
        self._locate()
        lastgood.recall(self._picture.value, self._book, await self._device.stats(), now, time.time())

    def _locate(self) -> None:
        """Find out where this host may be reached."""
        settings = self._documents().settings
        self._overlay = (settings.overlay_v4, settings.overlay_v6) if settings else ()
        try:
            found = local_addresses(self._rtnl)
        except OSError as problem:
            log.warning("cannot read this host's addresses", problem=str(problem))
            return
        self._paths.locate(found, self._overlay)

    async def _watch(self, monitor: Monitor) -> None:
        async for disturbed in monitor:
            parts: list[Part] = [part for part in PARTS if part in disturbed]
            if parts:
                self._loop.disturbed(parts)
            if "addresses" in disturbed:
                self._locate()


async def _first_of(*parts: Coroutine[Any, Any, Any]) -> None:
    """Run all until one ends or fails; the others are cancelled, and have ended on return."""
    tasks = [asyncio.ensure_future(part) for part in parts]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _setup_key(settings: Settings, *, wanted: bool) -> str:
    """The key; "" when none is wanted: whoever is enrolled may have removed its file. A pipe is emptied and closed."""
    file, key = settings.setup_key_file, settings.setup_key.strip()
    try:
        if file is not None and file.parts[:3] == ("/", "dev", "fd"):
            with open(int(file.name), closefd=True) as pipe:
                key = pipe.read().strip()
        elif file is not None and wanted:
            key = file.read_text().strip()
    except (OSError, ValueError) as problem:
        said = getattr(problem, "strerror", None) or "not readable as text"
        raise SetupKeyMissing(f"setup key file {file}: {said}") from None
    if wanted and not key:
        raise SetupKeyMissing("this host is not enrolled yet: give --setup-key or --setup-key-file")
    return key if wanted else ""


def _require_free(port: int) -> None:
    for family, address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe_socket:
                if family == socket.AF_INET6:
                    probe_socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                probe_socket.bind((address, port))
        except OSError as problem:
            if problem.errno == errno.EADDRINUSE:
                raise AlreadyRunning(
                    f"UDP port {port} is in use by another program: stop it, or choose another with --port"
                ) from None
