"""The feed of one peer over a real bus: everything it may read arrives, whatever happens to the connection."""

import asyncio
import contextlib
import functools
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import nats.errors
import pytest

from services.agent.bus import standing
from services.agent.bus.dial import Dialer
from services.agent.bus.feed import Feed
from services.agent.bus.outbox import Outbox
from services.agent.bus.session import Peer
from services.agent.cells import Watch
from services.agent.core.documents import Documents, FeedView
from services.agent.core.feed import audience as audience_module
from services.agent.core.feed import reading as reading_module
from services.agent.core.reconcile.desired import Local
from services.agent.situation import Bus, Situation
from shared.bus.keys import new_seed, public_key
from shared.bus.undecodable import Undecodables
from shared.events import subjects
from shared.events.documents import Beacon, FeedMessage, PeerDoc
from shared.events.subjects import FeedKey, SignalKey
from tests.bus.agent.plane import ACCOUNT, ALL, Plane, peer_doc
from tests.bus.management.hosts import Host
from tests.support.bus import eventually

ME = "me"


class Reader:
    """A feed, what it shows, and the signals that it heard."""

    def __init__(self, plane: Plane, seed: str) -> None:
        self.view = FeedView()
        self.situation = Situation(Local(public_key="", listen_port=1))
        self.outbox = Outbox()
        self.signals: list[tuple[SignalKey, bytes]] = []
        self.dials: list[str] = []
        self.feed = Feed(
            self.situation,
            Dialer(plane.url),
            Peer(ACCOUNT, ME),
            seed,
            self.view,
            self.outbox,
            self._hear,
            lambda subject, data: None,
            Undecodables(),
            banished_after_s=1.0,
        )

    def _hear(self, key: SignalKey, sealed: bytes) -> None:
        self.signals.append((key, sealed))

    @property
    def bus(self) -> Bus:
        return self.situation.bus.value

    @property
    def banished(self) -> bool:
        return self.bus.standing == "refused"

    @property
    def sessions(self) -> int:
        return self.bus.sessions

    @property
    def documents(self) -> Documents | None:
        """What the host acts upon."""
        return self.situation.documents.value

    @property
    def peers(self) -> set[str]:
        return set(self.view.documents().peers)


Start = Callable[[], Awaitable[Reader]]


@pytest.fixture
async def start(plane: Plane) -> AsyncIterator[Start]:
    """Starts the feed of peer ME."""
    seed = new_seed("user")
    tasks = []

    async def begin() -> Reader:
        plane.peers[public_key(seed)] = ME
        reader = Reader(plane, seed)
        tasks.append(asyncio.create_task(reader.feed.run()))
        return reader

    yield begin
    for task in tasks:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_documents_written_before_and_after_connecting_arrive(plane: Plane, start: Start) -> None:
    await plane.place(ME, 1)
    await plane.write(ALL, "a", peer_doc("a", 2))
    reader = await start()
    await eventually(lambda: reader.peers == {"a"})
    await plane.write(ALL, "b", peer_doc("b", 3))
    await eventually(lambda: reader.peers == {"a", "b"})
    await plane.delete(ALL, PeerDoc, "a")
    await eventually(lambda: reader.peers == {"b"})
    await eventually(lambda: reader.bus.standing == "connected")
    assert reader.sessions == 1


async def test_more_documents_than_one_batch_are_read_whole(plane: Plane, start: Start) -> None:
    await plane.place(ME, 1)
    names = {f"p{number}" for number in range(600)}
    await asyncio.gather(*(plane.write(ALL, name, peer_doc(name, 2)) for name in names))
    reader = await start()
    await eventually(lambda: reader.peers == names)


async def test_a_host_that_waits_for_its_own_document_goes_on_when_it_comes(plane: Plane, start: Start) -> None:
    await plane.write(ALL, "a", peer_doc("a", 2))
    plane.audiences[ME] = (ALL,)
    reader = await start()
    await eventually(lambda: reader.sessions == 1)
    assert reader.peers == set()
    await plane.place(ME, 1)
    await eventually(lambda: reader.peers == {"a"})


async def test_a_picture_that_is_being_read_is_not_shown_until_it_is_whole(plane: Plane) -> None:
    await plane.place(ME, 1)
    seed = new_seed("user")
    plane.peers[public_key(seed)] = ME
    reader = Reader(plane, seed)
    reader.view.apply(FeedKey(ACCOUNT, ALL, "peer", "a"), 7, FeedMessage(revision=7, document=peer_doc("a", 2)))
    assert reader.peers == {"a"}
    assert reader.documents is None

    running = asyncio.create_task(reader.feed.run())
    shown = reader.situation.documents
    await asyncio.wait_for(Watch(shown).wait(), 10.0)
    assert shown.value == reader.view.documents()
    assert shown.value.self_doc is not None
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


async def test_another_audience_is_read_at_once_over_a_new_session(plane: Plane, start: Start) -> None:
    await plane.place(ME, 1)
    await plane.write("g.db", "b", peer_doc("b", 3))
    reader = await start()
    await eventually(lambda: reader.sessions == 1)
    await plane.place(ME, 1, "db")
    await eventually(lambda: (reader.peers, reader.sessions) == ({"b"}, 2), within_s=20.0)


async def test_what_an_audience_showed_is_forgotten_on_leaving_it(plane: Plane, start: Start) -> None:
    await plane.place(ME, 1, "db")
    await plane.write("g.db", "b", peer_doc("b", 3))
    await plane.write(ALL, "a", peer_doc("a", 2))
    reader = await start()
    await eventually(lambda: reader.peers == {"a", "b"})
    await plane.place(ME, 1)
    await eventually(lambda: reader.peers == {"a"})
    await eventually(lambda: reader.sessions == 2)
    await plane.write("g.db", "c", peer_doc("c", 4))
    await plane.write(ALL, "d", peer_doc("d", 5))
    await eventually(lambda: reader.peers == {"a", "d"})


async def test_an_audience_that_the_bus_does_not_admit_yet_is_read_once_it_does(plane: Plane, start: Start) -> None:
    await plane.place(ME, 1)
    await plane.write(ALL, "a", peer_doc("a", 2))
    plane.audiences[ME] = ()
    reader = await start()
    await eventually(lambda: len(plane.admitted) > 1)
    assert (reader.sessions, reader.peers) == (0, set())
    plane.audiences[ME] = (ALL,)
    await eventually(lambda: (reader.sessions, reader.peers) == (1, {"a"}))


async def test_a_host_whose_addresses_flap_comes_back_ever_more_slowly(plane: Plane, start: Start) -> None:
    await plane.place(ME, 1)
    reader = await start()
    await eventually(lambda: reader.sessions == 1)
    took = []
    for sessions in range(2, 6):
        moved_at = time.monotonic()
        reader.feed.moved()
        await eventually(functools.partial(lambda reached: reader.sessions == reached, sessions))
        took.append(time.monotonic() - moved_at)
    for waited, least in zip(took, (0.0, 0.25, 0.5, 1.0), strict=True):
        assert waited >= least, took


async def test_a_host_cannot_have_others_read_again_by_having_an_answer_sent_to_them(
    plane: Plane, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bus answers to any subject the asker names, the one for elections too."""
    monkeypatch.setattr(reading_module, "CHECK_AFTER_ELECTION_S", 0.0)
    await plane.place(ME, 1)
    eve = Host(plane.url, "eve")
    plane.peers[eve.bus_key] = "eve"
    await eve.connect()
    reader = await start()
    await eventually(lambda: reader.bus.standing == "connected")
    await plane.write(ALL, "a", peer_doc("a", 2))
    await eventually(lambda: reader.peers == {"a"})
    reader.view.drop_audience(ALL)  # reading again would bring it back

    await eve.client.publish(subjects.report_fact(ACCOUNT, "eve"), b"", reply=subjects.FEED_LEADER)
    audience = subjects.peer_audience("eve")
    await eve.client.publish(subjects.create_catch_up(ACCOUNT, "eve", audience), b"", reply=subjects.FEED_LEADER)
    await eve.make_catch_up(ACCOUNT, audience)
    await eve.client.publish(subjects.pull_catch_up("eve", audience), b'{"no_wait": true}', reply=subjects.FEED_LEADER)
    await eve.client.flush()
    await eve.leave()
    names = [f"b{number}" for number in range(10)]  # written one by one: time for several readings
    for name in names:
        await plane.write(ALL, name, peer_doc(name, 3))
        await eventually(lambda name=name: name in reader.peers)  # type: ignore[misc]
    assert reader.peers == set(names)


async def test_no_document_is_lost_when_the_bus_is_killed_while_they_are_written(plane: Plane, start: Start) -> None:
    await plane.place(ME, 1)
    reader = await start()
    await eventually(lambda: reader.sessions == 1)
    written: set[str] = set()

    async def write() -> None:
        for number in range(300):
            name = f"p{number}"
            while name not in written:
                with contextlib.suppress(nats.errors.Error, TimeoutError):
                    await asyncio.wait_for(plane.write(ALL, name, peer_doc(name, 2)), 0.5)
                    written.add(name)

    def grown(seen: int) -> bool:
        return len(written) > seen + 20

    writing = asyncio.create_task(write())
    for _ in range(2):
        seen = len(written)
        await eventually(functools.partial(grown, seen), within_s=20.0)
        await plane.kill()
        await plane.revive()
    await asyncio.wait_for(writing, 40.0)
    await eventually(lambda: reader.peers == written, within_s=20.0)
    # It may have had everything before: what was sent is repeated until it is acknowledged.
    await eventually(lambda: reader.sessions >= 2, within_s=20.0)


async def test_deletions_that_happened_while_away_are_seen_on_resuming(plane: Plane, start: Start) -> None:
    await plane.place(ME, 1)
    for name in ("a", "b"):
        await plane.write(ALL, name, peer_doc(name, 2))
    reader = await start()
    await eventually(lambda: reader.sessions == 1)
    assert reader.peers == {"a", "b"}
    await plane.kill()
    await eventually(lambda: reader.bus.standing == "connecting")
    assert reader.peers == {"a", "b"}
    await plane.revive()
    await plane.delete(ALL, PeerDoc, "a")
    await eventually(lambda: reader.sessions == 2)
    await eventually(lambda: reader.peers == {"b"})


async def test_a_lost_live_message_leads_to_reading_again(plane: Plane, start: Start) -> None:
    await plane.place(ME, 1)
    reader = await start()
    await eventually(lambda: reader.sessions == 1)
    audiences = reader.feed._reading._audiences
    deaf = audiences.pop(ALL)  # two live messages pass unheard
    await plane.write(ALL, "a", peer_doc("a", 2))
    await plane.write(ALL, "b", peer_doc("b", 3))
    await plane.write(f"p.{ME}", "c", peer_doc("c", 4))
    await eventually(lambda: "c" in reader.peers)
    audiences[ALL] = deaf
    await plane.write(ALL, "a", peer_doc("a", 5))
    await eventually(lambda: reader.peers == {"a", "b", "c"})
    assert reader.sessions == 1


async def test_what_was_neither_read_nor_heard_is_read_soon_after_a_beacon(plane: Plane, start: Start) -> None:
    await plane.place(ME, 1)
    reader = await start()
    await eventually(lambda: reader.sessions == 1)
    audiences = reader.feed._reading._audiences
    hearing = audiences.pop(ALL)  # one live message passes unheard
    await plane.write(ALL, "a", peer_doc("a", 2))
    await plane.write(f"p.{ME}", "b", peer_doc("b", 3))
    await eventually(lambda: reader.peers == {"b"})
    audiences[ALL] = hearing
    heard = await plane.write(ALL, "c", peer_doc("c", 4))
    await eventually(lambda: reader.peers == {"b", "c"})
    await plane.tell(ALL, Beacon(after=0, newest=heard, count=2))
    await eventually(lambda: reader.peers == {"a", "b", "c"})
    await eventually(lambda: audiences[ALL].certainty.position == heard)
    assert reader.sessions == 1


async def test_what_is_no_beacon_is_passed_over(plane: Plane, start: Start) -> None:
    await plane.place(ME, 1)
    reader = await start()
    await eventually(lambda: reader.sessions == 1)
    await plane.tell(ALL, FeedMessage(revision=7, document=peer_doc("a", 2)))
    await plane.write(ALL, "b", peer_doc("b", 3))
    await eventually(lambda: reader.peers == {"b"})
    assert [one.next_deadline() for one in reader.feed._reading._audiences.values()] == [None, None]
    assert reader.sessions == 1


async def test_a_live_message_that_was_lost_is_read_over_the_next_connection(plane: Plane, start: Start) -> None:
    await plane.place(ME, 1)
    reader = await start()
    await eventually(lambda: reader.sessions == 1)
    audiences = reader.feed._reading._audiences
    hearing = audiences.pop(ALL)  # one live message passes unheard
    await plane.write(ALL, "a", peer_doc("a", 2))
    await plane.write(f"p.{ME}", "b", peer_doc("b", 3))
    await eventually(lambda: reader.peers == {"b"})
    audiences[ALL] = hearing
    await plane.write(ALL, "c", peer_doc("c", 4))
    await eventually(lambda: reader.peers == {"b", "c"})
    await plane.kill()
    await eventually(lambda: reader.bus.standing == "connecting")
    await plane.revive()
    await eventually(lambda: reader.sessions == 2)
    assert reader.peers == {"a", "b", "c"}


async def test_a_stream_made_anew_is_read_from_its_beginning(
    plane: Plane, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audience_module, "WITHDRAW_AFTER_S", 1.0)
    await plane.place(ME, 1)
    for number in range(20):
        await plane.write(ALL, f"p{number}", peer_doc(f"p{number}", 2))
    reader = await start()
    await eventually(lambda: reader.sessions == 1)
    assert len(reader.peers) == 20
    await plane.kill()
    await eventually(lambda: reader.bus.standing == "connecting")
    plane.wipe()
    await plane.revive()
    await plane.make_streams()
    await plane.place(ME, 1)
    await plane.write(ALL, "new", peer_doc("new", 3))
    await eventually(lambda: reader.peers == {"new"})


async def test_c5_a_refusal_that_management_stands_by_ends_what_the_host_may_do(plane: Plane, start: Start) -> None:
    await plane.place(ME, 1)
    reader = await start()
    await eventually(lambda: reader.sessions == 1)
    plane.peers.clear()
    await plane.kill()
    await plane.revive()
    await eventually(lambda: reader.banished, within_s=20.0)
    assert reader.bus.standing == "refused"
    assert "deleted or blocked" in reader.bus.problem


async def test_c5_a_bus_without_management_refuses_nobody_for_good(plane: Plane, start: Start) -> None:
    await plane.place(ME, 1)
    reader = await start()
    await eventually(lambda: reader.sessions == 1)
    await plane.management.close()
    await plane.kill()
    await plane.revive()
    await eventually(lambda: "does not admit" in reader.bus.problem, within_s=20.0)
    refused_since = reader.feed._refused_since
    assert refused_since is None
    assert not reader.banished
    assert reader.bus.problem == standing.NOBODY


async def test_c5_a_peer_that_only_nobody_answered_for_is_not_told_that_it_may_be_deleted(
    plane: Plane, start: Start
) -> None:
    """The bus refuses in the same words; and somebody who asks a moment later may well be answered."""
    await plane.place(ME, 1)
    reader = await start()
    await eventually(lambda: reader.sessions == 1)
    plane.silent = True
    await plane.kill()
    await plane.revive()
    await eventually(lambda: reader.bus.problem == standing.NOBODY, within_s=30.0)
    refused = len(plane.enrolments)
    await eventually(lambda: len(plane.enrolments) > refused + 1, within_s=40.0)
    assert reader.bus.problem == standing.NOBODY
    assert not reader.banished
    plane.silent = False
    await eventually(lambda: reader.sessions == 2, within_s=30.0)


async def test_signals_for_this_host_arrive_with_their_sender(plane: Plane, start: Start) -> None:
    await plane.place(ME, 1)
    reader = await start()
    await eventually(lambda: reader.sessions == 1)
    other = new_seed("user")
    plane.peers[public_key(other)] = "other"
    signal = await plane.service("signal")
    await signal.publish(subjects.signal_to(ACCOUNT, ME, "other"), b"sealed")
    await eventually(lambda: reader.signals == [(SignalKey(ACCOUNT, "other", ME), b"sealed")])


async def test_publishing_says_whether_there_is_a_connection(plane: Plane, start: Start) -> None:
    reader = await start()
    await eventually(lambda: reader.sessions == 1)
    subject = subjects.beat(ACCOUNT, ME)
    assert await reader.outbox.publish(subject, b"x")
    await plane.kill()
    await eventually(lambda: reader.bus.standing == "connecting")
    assert not await reader.outbox.publish(subject, b"x")
