"""One agent in memory without its shell: the real reading of the feed, the real plan, a kernel that is a model.

Its sessions may break, be slow, hear late, and be opened beside the one before. Its server may spread the host's
interest late, so that live messages pass by, and may be behind the others when it answers a reading.
"""

from collections import deque
from collections.abc import Iterable, Mapping

from services.agent.core.desired_state import Desired
from services.agent.core.documents import Documents, FeedView
from services.agent.core.feed.reading import NewSession, Opened, Read, Reading, Subscribe
from services.agent.core.ha.hasets import HaSets, Known
from services.agent.core.ha.standing import Health, Switch
from services.agent.core.reconcile.desired import Computation, Local
from services.agent.core.reconcile.order import plan
from services.management.core.state import AccountState
from shared.events.documents import Beacon
from shared.events.subjects import group_audience, peer_audience
from tests.builders import wireguard_key
from tests.fakes.kernel import FakeKernel
from tests.sim.bus import Bus, Live, Pull
from tests.sim.fates import WELL, Fate

SYSCTLS = {"net/ipv4/ip_forward": "0", "net/ipv6/conf/all/forwarding": "0"}
CHANCE = 0.5


class Session:
    """A connection. rights: audiences it was admitted to. arriving: what the bus sent over it, oldest first."""

    def __init__(self, rights: frozenset[str], *, spread: bool) -> None:
        self.rights = rights
        self.spread = spread
        self.subscribed: set[str] = set()
        self.arriving: deque[Live | tuple[str, Beacon]] = deque()
        self.pulls: dict[str, Pull] = {}

    def send(self, audience: str, message: Live | tuple[str, Beacon]) -> None:
        if self.spread and audience in self.subscribed:
            self.arriving.append(message)


class Host:
    """session: the one that the feed is read over. former: the one before, which still brings what is written."""

    def __init__(self, name: str, bus: Bus) -> None:
        self.name = name
        self.kernel = FakeKernel(sysctls=SYSCTLS)
        self._bus = bus
        self._now = 0.0
        self._view = FeedView()
        self._reading = self._new_reading()
        self._computation = Computation()
        self._session: Session | None = None
        self._former: Session | None = None
        self._stalled_at: int | None = None
        self._wants_session = False
        self._routing_peers: dict[str, str] = {}
        self._banished = False
        self._sets = HaSets()
        self._heard: frozenset[str] = frozenset()
        self.fates: Mapping[str, Fate] = {}
        self.switches: list[Switch] = []

    @property
    def is_connected(self) -> bool:
        return self._session is not None

    def send(self, message: Live) -> None:
        """What the bus does for a host that may read it, is connected and whose interest has spread."""
        for session in self._sessions():
            session.send(message.key.audience, message)

    def tell(self, audience: str, beacon: Beacon) -> None:
        """A beacon takes the same way."""
        for session in self._sessions():
            session.send(audience, (audience, beacon))

    def elected(self) -> None:
        """The bus says that the stream has another leader."""
        self._reading.elected(self._now, CHANCE)
        self._obey()

    def stall(self) -> None:
        """The host's server gets nothing more of the stream."""
        self._stalled_at = self._bus.sequence

    def catch_up(self) -> None:
        """The host's server has all of the stream, and the others know of the host's interest."""
        self._stalled_at = None
        for session in self._sessions():
            session.spread = True

    def connect(self, state: AccountState, *, spread: bool = True) -> None:
        """Begin a session with the rights that the host has now. A deleted peer is shown nothing (C5).

        spread: whether the other servers know at once what the host listens to.
        """
        me = state.peers.get(self.name)
        self._banished = me is None
        if me is None:
            self.disconnect()
            return
        rights = frozenset({peer_audience(self.name), *map(group_audience, state.groups_of(me))})
        self._former = self._session or self._former
        self._session = Session(rights, spread=spread)
        self._wants_session = False
        self._reading.connected(self._now, CHANCE)
        self._obey()

    def disconnect(self) -> None:
        self._session = self._former = None
        self._reading.closed()

    def hear(self, count: int) -> None:
        """Take the next live messages."""
        for _ in range(count):
            for session in self._sessions():
                if session.arriving:
                    self._hear(session.arriving.popleft())
        self._obey()

    def _hear(self, message: Live | tuple[str, Beacon]) -> None:
        match message:
            case Live():
                self._reading.heard(message.key, message.sequence, message.message, message.before, self._now)
            case (audience, beacon):
                self._reading.told(audience, beacon, self._now, CHANCE)

    def read(self, count: int | None) -> None:
        """Take so many messages of each reading that goes on, all for None."""
        pulls = self._session.pulls if self._session else {}
        for audience, pull in list(pulls.items()):
            if pulls.get(audience) is not pull:
                continue  # given up: what came before has ended the session
            taken = pull.take(count, self._upto())
            for key, sequence, message in taken:
                self._reading.read(key, sequence, message, self._now)
            if count is None or len(taken) < count:
                del pulls[audience]
                self._reading.ended(audience, pull.last, self._now, CHANCE)
            self._obey()

    def look(self, now: float, state: AccountState) -> None:
        """So much time has passed that what was begun is done: readings, and a session with other rights."""
        self._now = now
        self._obey()
        while self._session is not None and self._session.pulls:
            self.read(None)
        if self._session is not None:
            self._reading.proved(now)
        if self._wants_session:
            self.connect(state, spread=self._session is None or self._session.spread)
        self.choose()

    def choose(self) -> None:
        """Decide who carries what, by what those answer who are asked."""
        documents, sets = self.documents(), self._sets
        connected = frozenset((documents.self_doc and self._reachable(documents.peers)) or ())
        alive = {name for name in connected if self._is_alive(name)}
        self._heard = (self._heard & connected) | (sets.probed.keys() & alive)
        health = {
            name: Health(
                verdict="up" if name in alive else "down" if name in self._heard else "unknown",
                public_key=asked.public_key,
            )
            for name, asked in sets.probed.items()
        }
        known = Known(
            documents,
            connected=frozenset(map(wireguard_key, connected)),
            health=health,
            is_open=self.is_connected,
            carried=self._routing_peers,
        )
        self.switches += sets.update(known, self._now, self._now)

    def _is_alive(self, name: str) -> bool:
        mine, other = self.fates.get(self.name, WELL), self.fates.get(name, WELL)
        return mine.dead_since is None and other.dead_since is None

    def _reachable(self, names: Iterable[str]) -> list[str]:
        if not self.fates.get(self.name, WELL).has_session(self._now):
            return []
        return [name for name in names if self.fates.get(name, WELL).has_session(self._now)]

    def hear_all(self) -> None:
        self.hear(max((len(session.arriving) for session in self._sessions()), default=0))

    def next_deadline(self) -> float | None:
        deadlines = self._reading.next_deadline(), self._sets.next_deadline()
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    def miss(self) -> None:
        """A live message never comes."""
        for session in self._sessions():
            if session.arriving:
                session.arriving.popleft()

    def deafen(self) -> None:
        """Whatever is on its way never comes, beacons among it: a leader died that had swallowed it."""
        for session in self._sessions():
            session.arriving.clear()

    def overrun(self) -> None:
        """The bus was faster than this host."""
        self.deafen()
        self._reading.overrun(self._now)
        self._obey()

    def crash(self) -> None:
        """kill -9: what is on disk and in the kernel stays."""
        self.disconnect()
        self._view = FeedView(self._view.export())
        self._reading = self._new_reading()
        self._computation = Computation()
        self._routing_peers = {}
        self._sets = HaSets({prefix: key for key, peer in self.kernel.peers.items() for prefix in peer.allowed_ips})
        self._heard = frozenset()

    def work(self, steps: int | None = None) -> None:
        """One pass, or as much of it as `steps` before the host is interrupted."""
        self.choose()
        want = self.desired()
        self.kernel.apply(plan(want, self.kernel.observe())[:steps])
        if steps is None:
            self._routing_peers = dict(want.routing_peers)

    def desired(self) -> Desired:
        documents = self.documents()
        local = Local(
            public_key=wireguard_key(self.name),
            listen_port=51820,
            connected=frozenset(self._reachable(documents.peers)),
            routing_peers=self._routing_peers,
            decisions={key: decision.peer_id for key, decision in self._sets.decisions.items()},
            sysctls=dict(self.kernel.sysctls),
        )
        return self._computation.update(documents, local)

    def documents(self) -> Documents:
        found = self._reading.documents(self._now)
        return Documents(revision=found.revision) if self._banished else found

    def _new_reading(self) -> Reading:
        return Reading(peer_audience(self.name), self._view, self._now)

    def _sessions(self) -> list[Session]:
        return [session for session in (self._former, self._session) if session is not None]

    def _upto(self) -> int:
        return self._bus.sequence if self._stalled_at is None else self._stalled_at

    def _obey(self) -> None:
        """Do what the reading of the feed asks for, as long as it does; readings go on from then."""
        self._reading.advance(self._now, CHANCE)
        session = self._session
        for command in self._reading.take() if session else ():
            assert session is not None
            match command:
                case Subscribe(audience) if audience in session.rights:
                    session.subscribed.add(audience)
                case Subscribe() | NewSession():
                    self._end_session(session)
                    return
                case Read(audience, after):
                    session.pulls[audience] = Pull(self._bus, audience, after, self._upto())
                case Opened():
                    self._former = None

    def _end_session(self, session: Session) -> None:
        """The rights are other ones than the session has, whoever says so: it goes on bringing what is written."""
        session.pulls.clear()
        self._reading.closed()
        self._wants_session = True
