"""A whole overlay in memory: one control plane, a bus, and hosts that hear late, lose, crash and are meddled with.

Every part that decides is the real one: the fold, the feed index, the beacons, the reading of the feed, the desired
state and the plan. The bus and the kernels are models.
"""

from collections.abc import Iterable

from msgspec.structs import replace

from services.agent.core.feed.reading import CHECK_EVERY_S
from services.management.core.feed.beacons import Beacons
from services.management.core.feed.compose import unit_documents, units
from services.management.core.feed.incremental import FeedIndex
from services.management.core.feed.published import Published
from services.management.core.feed.unit import Observed, Resolutions, Unit
from services.management.core.model.commit import Commit
from services.management.core.state import AccountState
from shared.events.documents import TOMBSTONE_TTL_S, FeedMessage
from tests.builders import ACCOUNT
from tests.fakes.kernel import FakeKernel
from tests.property.management_feed.histories import Fold
from tests.sim.bus import Bus
from tests.sim.fates import WELL, Fate
from tests.sim.host import SYSCTLS, Host

SETTLED_AFTER_S = 200
"""By then every beacon of a change has been sent but two, WireGuard has given up who is dead, and who fell again and
again was waited for: a minute each, and the minute that an agent is missed."""

SETTLED_UNTOLD_AFTER_S = int(CHECK_EVERY_S) + 60
"""By then every host has read again what it had not heard, and what another stream lacked is withdrawn."""


class World:
    """Management over one account, and its hosts. beacons: whether any arrives."""

    def __init__(self, names: tuple[str, ...], resolutions: Resolutions, *, beacons: bool = True) -> None:
        self.bus = Bus()
        self.hosts = {name: Host(name, self.bus) for name in names}
        self._fold = Fold()
        self._resolutions, self._routes = resolutions, tuple(resolutions)
        self._observed = Observed(resolutions)
        self._index = FeedIndex(self.state)
        self._published = Published({})
        self._beacons = Beacons()
        self._beacons.begin()
        self._beacons_arrive = beacons
        self._now = 0.0
        self._fates: dict[str, Fate] = {}
        for host in self.hosts.values():
            host.fates = self._fates
        self._publish(units(self.state))

    @property
    def state(self) -> AccountState:
        return self._fold.state

    def commit(self, change: Commit) -> None:
        """Fold it, write what it touches, and send that on; who was deleted is disconnected."""
        self._publish(self._index.touched(self._fold.apply(change)))
        for host in self.hosts.values():
            if host.name not in self.state.peers:
                host.connect(self.state)

    def fate(self, name: str) -> Fate:
        return self._fates.get(name, WELL)

    def befall(self, name: str, fate: Fate) -> None:
        """Something happens to a host; what its agent says of it is written."""
        said = fate.last_word(self._routes)
        self._fates[name] = fate
        self._observed = Observed(self._resolutions, {**self._observed.last_words, name: said})
        self._publish([Unit("presence", name)])

    @property
    def now(self) -> float:
        return self._now

    def _publish(self, touched: Iterable[Unit]) -> None:
        wanted = {unit: unit_documents(self.state, self._observed, self._index, unit) for unit in touched}
        for key, document in self._published.update(ACCOUNT, wanted):
            live = self.bus.write(key, FeedMessage(self._fold.intent.sequence, document))
            self._beacons.stored((key.account, key.audience), live.sequence, self._now)
            for host in self.hosts.values():
                host.send(live)

    def let_pass(self, seconds: float, *, hearing: bool = False) -> None:
        """Time passes: beacons are sent, and hosts see to what they doubt, though not to what they have not heard.

        hearing: they hear everything as well.
        """
        until = self._now + seconds
        while (deadline := self._next_deadline()) is not None and deadline <= until:
            self._now = max(self._now, deadline)
            self._tick(hearing=hearing)
        self._now = until
        self._tick(hearing=hearing)

    def _next_deadline(self) -> float | None:
        deadlines = (self._beacons.next_deadline(), *(host.next_deadline() for host in self.hosts.values()))
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    def _tick(self, *, hearing: bool) -> None:
        for (_, audience), beacon in self._beacons.take(self._now, most=1000):
            for host in self.hosts.values() if self._beacons_arrive else ():
                host.tell(audience, beacon)
        for host in self.hosts.values():
            if hearing:
                host.hear_all()
            host.look(self._now, self.state)

    def elect(self) -> None:
        """The stream has another leader."""
        for host in self.hosts.values():
            host.elected()

    def expire(self) -> None:
        """So much time passes that deletions expire; hosts that are connected have read everything by then."""
        for host in self.hosts.values():
            host.catch_up()
        self.let_pass(TOMBSTONE_TTL_S, hearing=True)
        self.bus.expire()

    def settle(self) -> None:
        """The servers come together; everybody hears everything, beacons among it, and makes the kernel match."""
        for host in self.hosts.values():
            host.catch_up()
            if not host.is_connected:
                host.connect(self.state)
        for _ in range(SETTLED_AFTER_S if self._beacons_arrive else SETTLED_UNTOLD_AFTER_S):
            self.let_pass(1.0, hearing=True)
        for host in self.hosts.values():
            host.work()


def meddle(kernel: FakeKernel, what: str) -> None:
    """What a stranger, another program or a suspend does to a host."""
    match what:
        case "ruleset":
            kernel.ruleset = None
        case "routes":
            kernel.routes.clear()
        case "rules":
            kernel.rules.clear()
        case "peers":
            kernel.peers = {key: replace(peer, allowed_ips=frozenset()) for key, peer in kernel.peers.items()}
        case "addresses":
            kernel.links = {name: replace(link, up=False, addresses=frozenset()) for name, link in kernel.links.items()}
        case "link":
            for part in (kernel.links, kernel.devices, kernel.peers, kernel.routes):
                part.clear()
        case "forwarding":
            kernel.sysctls.update(SYSCTLS)
