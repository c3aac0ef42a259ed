"""What of presence reaches the facts, with the clock and the bus in the test's hands."""

import asyncio

from structlog.testing import capture_logs

from services.signal.core.presence import PresenceTracker
from services.signal.errors import RetryLater
from services.signal.sessions import Sessions
from shared.bus.codec import encode
from shared.bus.lastvalues import Superseded
from shared.bus.undecodable import Undecodables
from shared.events import subjects
from shared.events.facts import SessionFact
from shared.events.signals import Beat
from shared.events.subjects import BeatKey

A = BeatKey("acc", "a")


class Facts:
    """FACTS as one stream: the last value of each peer, and how it was written."""

    def __init__(self) -> None:
        self.last: dict[BeatKey, tuple[int, SessionFact]] = {}
        self.written = 0
        self.away = False

    async def write(self, peer: BeatKey, fact: SessionFact, *, after: int) -> int:
        if self.away:
            raise RetryLater("away")
        if self.last.get(peer, (0, None))[0] != after:
            raise Superseded(peer.peer)
        self.written += 1
        self.last[peer] = (self.written, fact)
        return self.written


class World:
    """One replica on a clock that only the test moves. UNIX time is 1,000 s ahead of it."""

    def __init__(self) -> None:
        self.now = 0.0
        self.deaf_now = False
        self.facts = Facts()
        self.sessions = Sessions(
            PresenceTracker(15.0),
            self.facts,
            self,
            Undecodables(),
            clock=lambda: self.now,
            wall=lambda: self.now + 1000.0,
        )

    def deaf(self) -> bool:
        return self.deaf_now

    def beat(self, epoch: int = 1) -> None:
        self.sessions.beat(subjects.beat("acc", "a"), encode(Beat(peer_id="a", epoch=epoch)))

    def reads(self, sequence: int, fact: SessionFact) -> None:
        self.sessions.message(subjects.session_fact("acc", "a"), encode(fact), sequence)

    def ready(self) -> None:
        self.sessions.begin()
        self.sessions.caught_up()

    async def settle(self) -> None:
        """Let the writer do all it can do without waiting."""
        writer = asyncio.create_task(self.sessions.write())
        for _ in range(50):
            await asyncio.sleep(0)
        writer.cancel()

    def told(self) -> tuple[bool, int, float] | None:
        _, fact = self.facts.last.get(A, (0, None))
        return None if fact is None else (fact.connected, fact.epoch, fact.since)


async def test_nothing_is_written_before_the_facts_of_the_past_are_known() -> None:
    world = World()
    world.beat()
    await world.settle()
    assert world.told() is None
    world.ready()
    await world.settle()
    assert world.told() == (True, 1, 1000.0)


async def test_a_session_of_before_the_start_that_is_not_heard_dates_its_silence_from_the_start() -> None:
    world = World()
    world.now = 100.0
    before = SessionFact(peer_id="a", epoch=1, connected=True, since=500.0)
    world.facts.last[A] = (9, before)
    world.sessions.begin()
    world.reads(9, before)
    world.sessions.caught_up()
    world.now = 115.0
    world.sessions.look(overslept=False)
    await world.settle()
    assert world.told() == (False, 1, 1100.0)


async def test_while_the_bus_is_away_nobody_falls_silent() -> None:
    world = World()
    world.ready()
    world.beat()
    await world.settle()
    world.deaf_now = True
    world.now = 60.0
    world.sessions.look(overslept=False)
    world.deaf_now = False
    world.now = 74.9
    world.sessions.look(overslept=False)
    await world.settle()
    assert world.told() == (True, 1, 1000.0)
    world.now = 75.0
    world.sessions.look(overslept=False)
    await world.settle()
    assert world.told() == (False, 1, 1060.0)


async def test_a_process_that_stood_still_calls_nobody_silent() -> None:
    world = World()
    world.ready()
    world.beat()
    await world.settle()
    world.now = 60.0
    world.sessions.look(overslept=True)
    world.beat()
    await world.settle()
    assert world.told() == (True, 1, 1000.0)


async def test_an_edge_that_could_not_be_written_is_written_later() -> None:
    world = World()
    world.ready()
    world.facts.away = True
    world.beat()
    await world.settle()
    assert world.told() is None
    world.facts.away = False
    world.beat(epoch=1)
    world.now = 1.0
    world.ready()
    await world.settle()
    assert world.told() == (True, 1, 1000.0)


async def test_edges_that_wait_are_told_once_a_minute_and_once_that_they_are_written() -> None:
    world = World()
    world.ready()
    world.facts.away = True
    world.beat()
    with capture_logs() as lines:
        for world.now in (0.0, 9.0, 10.0, 11.0, 69.0, 70.0):
            await world.settle()
            world.sessions.caught_up()
        world.facts.away = False
        world.now = 75.0
        await world.settle()
    told = [(line["event"], line.get("problem") or line["after_s"]) for line in lines if "facts" in line["event"]]
    waits = ("session facts wait, going on trying", "away")
    assert told == [waits, waits, ("session facts are written again", 75.0)]


async def test_what_a_faster_replica_wrote_is_not_written_again() -> None:
    world = World()
    world.ready()
    theirs = SessionFact(peer_id="a", epoch=1, connected=True, since=999.0)
    world.facts.last[A] = (4, theirs)
    world.beat()
    await world.settle()
    world.reads(4, theirs)
    await world.settle()
    assert (world.told(), world.facts.written) == ((True, 1, 999.0), 0)


async def test_a_wrong_silence_of_another_replica_is_put_right_by_the_next_heartbeat() -> None:
    world = World()
    world.ready()
    world.beat()
    await world.settle()
    theirs = SessionFact(peer_id="a", epoch=1, connected=False, since=1001.0)
    world.facts.last[A] = (7, theirs)
    world.reads(7, theirs)
    world.now = 5.0
    world.beat()
    await world.settle()
    assert world.told() == (True, 1, 1005.0)


async def test_an_edge_that_waited_while_another_replica_saw_the_end_is_not_written() -> None:
    """A replica that starts hears a peer, and reads the facts only after the peer has fallen silent elsewhere."""
    world = World()
    world.beat()
    theirs = SessionFact(peer_id="a", epoch=1, connected=False, since=1001.0)
    world.facts.last[A] = (7, theirs)
    world.sessions.begin()
    world.reads(7, theirs)
    world.sessions.caught_up()
    await world.settle()
    assert (world.told(), world.facts.written) == ((False, 1, 1001.0), 0)


async def test_facts_that_the_bus_lost_are_written_again() -> None:
    world = World()
    world.ready()
    world.beat()
    await world.settle()
    world.facts.last.clear()
    world.ready()
    await world.settle()
    assert world.told() == (True, 1, 1000.0)


async def test_what_is_to_be_said_of_a_peer_whose_fact_was_removed_does_not_wait_for_ever() -> None:
    world = World()
    world.ready()
    world.beat()
    await world.settle()
    world.facts.last.clear()
    world.now = 15.0
    world.sessions.look(overslept=False)
    await world.settle()
    world.beat()
    await world.settle()
    assert world.told() == (True, 1, 1015.0)
