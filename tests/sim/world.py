"""A whole overlay in memory: one control plane, a bus, and hosts that hear late, lose, crash and are meddled with.

Every part that decides is the real one: the fold, the feed index, the beacons, the feed view, a host's certainty, the
desired state and the plan. The bus and the kernels are models. Each host has a server of its own: it may spread the
host's interest late, so that live messages pass by, and it may be behind the others when it answers a reading.
"""

from collections import deque
from collections.abc import Iterable

from msgspec.structs import replace

from services.agent.core.documents import Documents, FeedView
from services.agent.core.feed.certainty import Certainty
from services.agent.core.feed.landmarks import Landmarks
from services.agent.core.reconcile.desired import Computation, Local
from services.agent.core.reconcile.desired_state import Desired
from services.agent.core.reconcile.order import plan
from services.management.core.feed.beacons import Beacons
from services.management.core.feed.compose import unit_documents, units
from services.management.core.feed.incremental import FeedIndex
from services.management.core.feed.published import Published
from services.management.core.feed.unit import Resolutions, Unit
from services.management.core.model.commit import Commit
from services.management.core.state import AccountState
from shared.events.documents import TOMBSTONE_TTL_S, Beacon, FeedMessage, Tombstone
from shared.events.subjects import FeedKey, group_audience, peer_audience
from tests.builders import ACCOUNT, wireguard_key
from tests.fakes.kernel import FakeKernel
from tests.property.management_feed.histories import Fold

SETTLED_AFTER_S = 60
"""By then every beacon of a change has been sent but two."""

SYSCTLS = {"net/ipv4/ip_forward": "0", "net/ipv6/conf/all/forwarding": "0"}


class Bus:
    """The stream FEED: the last message of each subject, with its sequence. undo: what each write replaced."""

    def __init__(self) -> None:
        self.sequence = 0
        self.held: dict[FeedKey, tuple[int, FeedMessage]] = {}
        self.undo: list[tuple[FeedKey, tuple[int, FeedMessage] | None]] = []

    def write(self, key: FeedKey, message: FeedMessage) -> "Live":
        before = self.held.get(key)
        self.sequence += 1
        self.held[key] = self.sequence, message
        self.undo.append((key, before))
        return Live(key, self.sequence, before[0] if before else 0, message)

    def read(self, audience: str, start: int, upto: int) -> list[tuple[FeedKey, int, FeedMessage]]:
        """What the audience's subjects hold from sequence `start` on, on a server that has got everything to `upto`."""
        former = dict(reversed(self.undo[upto:]))
        held = ((key, former.get(key, newest)) for key, newest in self.held.items() if key.audience == audience)
        found = [(key, *there) for key, there in held if there and there[0] >= start]
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
        self._computation = Computation()
        self._queue: deque[Live | tuple[str, Beacon]] = deque()
        self._rights: frozenset[str] = frozenset()
        self._following: frozenset[str] = frozenset()
        self._certainty = Certainty()
        self._now = 0.0
        self._stalled_at: int | None = None
        self._spread = True
        self._carriers: dict[str, str] = {}
        self._away_too_long = True
        self._banished = False

    @property
    def is_connected(self) -> bool:
        return bool(self._rights)

    def send(self, message: Live) -> None:
        """What the bus does for a host that may read it, is connected and whose interest has spread."""
        if self._spread and message.key.audience in self._following:
            self._queue.append(message)

    def tell(self, audience: str, beacon: Beacon) -> None:
        """A beacon takes the same way."""
        if self._spread and audience in self._following:
            self._queue.append((audience, beacon))

    def stall(self) -> None:
        """The host's server gets nothing more of the stream."""
        self._stalled_at = self._bus.sequence

    def catch_up(self) -> None:
        """The host's server has all of the stream, and the others know of the host's interest."""
        self._stalled_at = None
        self._spread = True

    def connect(self, state: AccountState, *, spread: bool = True) -> None:
        """A session with the rights that the host has now. A deleted peer is shown nothing (C5).

        spread: whether the other servers know at once what the host listens to.
        """
        self.disconnect()
        me = state.peers.get(self.name)
        if me is None:
            self._banished = True
            return
        self._banished = False
        self._spread = spread
        own = peer_audience(self.name)
        self._rights = frozenset({own, *map(group_audience, state.groups_of(me))})
        self._following = frozenset({own})
        self._read(own)
        self._following |= self._granted() & self._rights
        for audience in sorted(self._following - {own}):
            self._read(audience)
        self._forget_others()
        self._away_too_long = False

    def disconnect(self) -> None:
        self._rights = self._following = frozenset()
        self._queue.clear()

    def stay_away(self) -> None:
        """Be away for longer than deletions are kept."""
        self._away_too_long = True

    def read_all(self, state: AccountState) -> None:
        """Read again what was written since the last reading, as every ten minutes."""
        for audience in sorted(self._following):
            self._read(audience)
        self._judge_rights(state)

    def hear(self, count: int, state: AccountState) -> None:
        """Take the next live messages."""
        for _ in range(min(count, len(self._queue))):
            match self._queue.popleft():
                case Live() as live:
                    self._take(live)
                case (str() as audience, Beacon() as beacon):
                    self._certainty.told(audience, beacon, self._now, 0.0)
        self._judge_rights(state)

    def hear_all(self, state: AccountState) -> None:
        self.hear(len(self._queue), state)

    def _take(self, live: Live) -> None:
        if live.key.audience not in self._following:
            return
        missed = self._view.gap(live.key, live.before)
        self._certainty.took(live.key.audience, live.sequence)
        self._view.apply(live.key, live.sequence, live.message)
        if missed:
            self._read(live.key.audience)

    def look(self, now: float, state: AccountState) -> None:
        """Read again what there is reason to doubt, and ask for the rights that its document speaks of."""
        self._now = now
        for audience in sorted(self._certainty.take_due(now, 0.0) & self._following):
            self._read(audience)
        self._judge_rights(state)

    def next_deadline(self) -> float | None:
        return self._certainty.next_deadline() if self.is_connected else None

    def miss(self) -> None:
        """A live message never comes."""
        if self._queue:
            self._queue.popleft()

    def crash(self) -> None:
        """kill -9: what is on disk and in the kernel stays."""
        self._view = FeedView(self._view.export())
        self._computation = Computation()
        self._carriers, self._certainty = {}, Certainty()
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
        return self._computation.update(documents, local)

    def documents(self) -> Documents:
        found = self._view.documents()
        return Documents(revision=found.revision) if self._banished else found

    def _granted(self) -> frozenset[str]:
        mine = self._view.documents().self_doc
        return frozenset(mine.audiences if mine else ()) | {peer_audience(self.name)}

    def _judge_rights(self, state: AccountState) -> None:
        """Other rights want another session; the next document will say so again when a reading is behind."""
        self._forget_others()
        if self.is_connected and self._granted() != self._following:
            self.connect(state, spread=self._spread)

    def _forget_others(self) -> None:
        for audience in self._view.audiences - self._granted():
            self._view.drop_audience(audience)
            self._certainty.drop(audience)

    def _read(self, audience: str) -> None:
        position = 0 if self._away_too_long else self._certainty.position(audience)
        landmarks = Landmarks(self._view.held(audience), position)
        found = self._pull(audience, landmarks.start, landmarks) if position and landmarks.start else []
        if not landmarks.found:
            self._view.begin_snapshot(audience)
            self._certainty.begin(audience)
            found = self._pull(audience, 0)
            self._view.end_snapshot(audience)
        self._certainty.read(audience, max(found, default=0))

    def _pull(self, audience: str, start: int, landmarks: Landmarks | None = None) -> list[int]:
        upto = self._bus.sequence if self._stalled_at is None else self._stalled_at
        messages = self._bus.read(audience, start, upto)
        for key, sequence, message in messages:
            self._certainty.took(audience, sequence)
            if landmarks is not None:
                landmarks.saw(key, sequence, message)
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
        self._beacons = Beacons()
        self._beacons.begin()
        self._now = 0.0
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
            self._beacons.stored((key.account, key.audience), live.sequence, self._now)
            for host in self.hosts.values():
                host.send(live)

    def let_pass(self, seconds: float) -> None:
        """Time passes: beacons are sent, and hosts see to what they doubt, though not to what they have not heard."""
        until = self._now + seconds
        while (deadline := self._next_deadline()) is not None and deadline <= until:
            self._now = max(self._now, deadline)
            self._tick()
        self._now = until
        self._tick()

    def _next_deadline(self) -> float | None:
        deadlines = (self._beacons.next_deadline(), *(host.next_deadline() for host in self.hosts.values()))
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    def _tick(self) -> None:
        for (_, audience), beacon in self._beacons.take(self._now, most=1000):
            for host in self.hosts.values():
                host.tell(audience, beacon)
        for host in self.hosts.values():
            host.look(self._now, self.state)

    def expire(self) -> None:
        """So much time passes that deletions expire; hosts that are connected have read everything twice by then."""
        for host in self.hosts.values():
            host.catch_up()
            if host.is_connected:
                host.hear_all(self.state)
                host.read_all(self.state)
            else:
                host.stay_away()
        self.let_pass(TOMBSTONE_TTL_S)
        self.bus.expire()

    def settle(self) -> None:
        """The servers come together; everybody hears everything, beacons among it, and makes the kernel match."""
        for host in self.hosts.values():
            host.catch_up()
            if not host.is_connected:
                host.connect(self.state)
        for _ in range(SETTLED_AFTER_S):
            self.let_pass(1.0)
            for host in self.hosts.values():
                host.hear_all(self.state)
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
