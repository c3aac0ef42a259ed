"""A whole overlay in memory: one control plane, a bus, and hosts that hear late, lose, crash and are meddled with.

Every part that decides is the real one: the fold, the feed index, the feed view, the desired state and the plan. The
bus and the kernels are models.
"""

from collections import deque
from collections.abc import Iterable

from msgspec.structs import replace

from services.agent.core.desired import Local, desired
from services.agent.core.desired_state import Desired
from services.agent.core.documents import Documents, FeedView
from services.agent.core.order import plan
from services.management.core.feed.compose import Resolutions, Unit, unit_documents, units
from services.management.core.feed.incremental import FeedIndex
from services.management.core.feed.published import Published
from services.management.core.model.commit import Commit
from services.management.core.state import AccountState
from shared.events.documents import FeedMessage, Tombstone
from shared.events.subjects import FeedKey, group_audience, peer_audience
from tests.builders import ACCOUNT, wireguard_key
from tests.fakes.kernel import FakeKernel
from tests.property.management_feed.histories import Fold

SYSCTLS = {"net/ipv4/ip_forward": "0", "net/ipv6/conf/all/forwarding": "0"}


class Bus:
    """The stream FEED: the last message of each subject, with its sequence."""

    def __init__(self) -> None:
        self.sequence = 0
        self.held: dict[FeedKey, tuple[int, FeedMessage]] = {}

    def write(self, key: FeedKey, message: FeedMessage) -> "Live":
        before = self.held[key][0] if key in self.held else 0
        self.sequence += 1
        self.held[key] = self.sequence, message
        return Live(key, self.sequence, before, message)

    def read(self, audience: str, start: int) -> list[tuple[FeedKey, int, FeedMessage]]:
        """What the audience's subjects hold from sequence `start` on."""
        found = [(key, *held) for key, held in self.held.items() if key.audience == audience and held[0] >= start]
        return sorted(found, key=lambda one: one[1])

    def expire(self) -> None:
        """Deletions are forgotten."""
        self.held = {key: held for key, held in self.held.items() if not isinstance(held[1].document, Tombstone)}


class Live:
    """A message as the server sends it on. before: the sequence of the subject's former message, 0 for none."""

    def __init__(self, key: FeedKey, sequence: int, before: int, message: FeedMessage) -> None:
        self.key, self.sequence, self.before, self.message = key, sequence, before, message


class Host:
    """One agent without its shell: a view of the feed, a kernel, and a connection that may break."""

    def __init__(self, name: str, bus: Bus) -> None:
        self.name = name
        self.kernel = FakeKernel(sysctls=SYSCTLS)
        self._bus = bus
        self._view = FeedView()
        self._queue: deque[Live] = deque()
        self._rights: frozenset[str] = frozenset()
        self._certain: dict[str, int] = {}
        self._carriers: dict[str, str] = {}
        self._away_too_long = True
        self._banished = False

    @property
    def is_connected(self) -> bool:
        return bool(self._rights)

    def send(self, message: Live) -> None:
        """What the bus does for a host that may read it and is connected."""
        if message.key.audience in self._rights:
            self._queue.append(message)

    def connect(self, state: AccountState) -> None:
        """A session with the rights that the host has now, read wholly. A deleted peer is shown nothing (C5)."""
        self.disconnect()
        me = state.peers.get(self.name)
        if me is None:
            self._banished = True
            return
        self._banished = False
        self._rights = frozenset({peer_audience(me.id), *map(group_audience, state.groups_of(me))})
        own = peer_audience(self.name)
        self._read(own)
        for audience in self._granted() & self._rights - {own}:
            self._read(audience)
        self._forget_others()
        self._away_too_long = False

    def disconnect(self) -> None:
        self._rights = frozenset()
        self._queue.clear()

    def stay_away(self) -> None:
        """Be away for longer than deletions are kept."""
        self._away_too_long = True

    def catch_up(self, state: AccountState) -> None:
        """Hear all, and read again what was written since the last reading: live messages may be lost unnoticed."""
        if not self.is_connected:
            self.connect(state)
        self.hear(len(self._queue), state)
        for audience in sorted(self._rights):
            self._read(audience)
        self._judge_rights(state)

    def hear(self, count: int, state: AccountState) -> None:
        """Take the next live messages."""
        for _ in range(min(count, len(self._queue))):
            live = self._queue.popleft()
            missed = self._view.gap(live.key, live.before)
            self._view.apply(live.key, live.sequence, live.message)
            if missed:
                self._read(live.key.audience)
        self._judge_rights(state)

    def miss(self) -> None:
        """A live message never comes."""
        if self._queue:
            self._queue.popleft()

    def crash(self) -> None:
        """kill -9: what is on disk and in the kernel stays."""
        self._view = FeedView(self._view.export())
        self._carriers, self._certain = {}, {}
        self.disconnect()
        self.stay_away()

    def work(self, steps: int | None = None) -> None:
        """One pass, or as much of it as `steps` before the host is interrupted."""
        want = self.wanted()
        self.kernel.apply(plan(want, self.kernel.observe())[:steps])
        if steps is None:
            self._carriers = dict(want.carriers)

    def wanted(self) -> Desired:
        documents = self.documents()
        local = Local(
            public_key=wireguard_key(self.name),
            listen_port=51820,
            connected=frozenset(documents.peers),
            carriers=self._carriers,
            sysctls=dict(self.kernel.sysctls),
        )
        return desired(documents, local)

    def documents(self) -> Documents:
        found = self._view.documents()
        return Documents(revision=found.revision) if self._banished else found

    def _granted(self) -> frozenset[str]:
        mine = self._view.documents().self_doc
        return frozenset(mine.audiences if mine else ()) | {peer_audience(self.name)}

    def _judge_rights(self, state: AccountState) -> None:
        """Other rights want another session."""
        self._forget_others()
        if self._rights and self._granted() != self._rights:
            self.connect(state)

    def _forget_others(self) -> None:
        for audience in self._view.audiences - self._granted():
            self._view.drop_audience(audience)
            self._certain.pop(audience, None)

    def _read(self, audience: str) -> None:
        position = 0 if self._away_too_long else self._certain.get(audience, 0)
        found = self._pull(audience, position) if position else []
        if not found:
            self._view.begin_snapshot(audience)
            found = self._pull(audience, 0)
            self._view.end_snapshot(audience)
        self._certain[audience] = max(found, default=0)

    def _pull(self, audience: str, start: int) -> list[int]:
        messages = self._bus.read(audience, start)
        for key, sequence, message in messages:
            self._view.apply(key, sequence, message)
        return [sequence for _, sequence, _ in messages]


class World:
    """Management over one account, and its hosts."""

    def __init__(self, names: tuple[str, ...], resolutions: Resolutions) -> None:
        self.bus = Bus()
        self.hosts = {name: Host(name, self.bus) for name in names}
        self._fold = Fold()
        self._resolutions = resolutions
        self._index = FeedIndex(self.state)
        self._published = Published({})
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

    def _publish(self, touched: Iterable[Unit]) -> None:
        wanted = {unit: unit_documents(self.state, self._resolutions, self._index, unit) for unit in touched}
        for key, document in self._published.update(ACCOUNT, wanted):
            live = self.bus.write(key, FeedMessage(self._fold.intent.sequence, document))
            for host in self.hosts.values():
                host.send(live)

    def expire(self) -> None:
        """So much time passes that deletions expire; hosts that are connected have read everything twice by then."""
        for host in self.hosts.values():
            if host.is_connected:
                host.catch_up(self.state)
            else:
                host.stay_away()
        self.bus.expire()

    def settle(self) -> None:
        """Everybody hears everything, reads again what may have been lost, and makes the kernel match."""
        for host in self.hosts.values():
            host.catch_up(self.state)
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
