"""What a host reads of its feed, when it reads again, and when it asks for another session."""

from collections.abc import Callable
from itertools import product

import pytest

from services.agent.core.documents import DELETION_KEPT_S, FeedView
from services.agent.core.feed import audience as module
from services.agent.core.feed.audience import (
    BEING_READ,
    FOLLOWED,
    MIXED,
    RESUMABLE_S,
    TRANSITIONS,
    WITHDRAW_AFTER_S,
    Event,
    State,
)
from services.agent.core.feed.certainty import PATIENCE_S
from services.agent.core.feed.heldback import HELD_BACK_S
from services.agent.core.feed.reading import (
    CHECK_AFTER_ELECTION_S,
    CHECK_EVERY_S,
    READINGS_AT_ONCE,
    Command,
    NewSession,
    Opened,
    Read,
    Reading,
    Subscribe,
)
from shared.events.documents import KINDS, TOMBSTONE_TTL_S, Beacon, FeedMessage, PeerDoc, SelfDoc, Tombstone
from shared.events.subjects import FeedKey
from tests.unit.agent import make

OWN, ALL, DB = "p.me", "g.all", "g.db"


class Feed:
    """A stream and one host that reads it. chance: what the host draws, always the same."""

    def __init__(self, view: FeedView | None = None, chance: float = 0.0) -> None:
        self.view = view or FeedView()
        self.reading = Reading(OWN, self.view, 0.0)
        self.now, self.chance, self.sequence = 0.0, chance, 0
        self.stream: dict[FeedKey, tuple[int, FeedMessage]] = {}
        self.groups: tuple[str, ...] = ()
        self.place()

    def place(self, *groups: str, heard: bool = False) -> None:
        """The host is in group All and in these."""
        self.groups = groups
        self.write(OWN, "me", make.me("me", *groups), heard=heard)

    def write(self, audience: str, name: str, document: SelfDoc | PeerDoc | Tombstone, *, heard: bool = True) -> int:
        """heard: whether it comes live. Gives its sequence."""
        self.sequence += 1
        kind = KINDS[SelfDoc] if name == "me" else KINDS[PeerDoc]
        key, message = FeedKey("acc", audience, kind, name), FeedMessage(self.sequence, document)
        before = self.stream.get(key, (0, message))[0]
        self.stream[key] = self.sequence, message
        if heard:
            self.reading.heard(key, self.sequence, message, before, self.now)
        return self.sequence

    def peer(self, name: str, audience: str = ALL, *, heard: bool = True) -> int:
        return self.write(audience, name, make.peer(name, version=str(self.sequence)), heard=heard)

    def commands(self) -> list[Command]:
        """What the host does now."""
        self.reading.advance(self.now, self.chance)
        return self.reading.take()

    def later(self, seconds: float) -> list[Command]:
        self.now += seconds
        return self.commands()

    def answer(self, command: Command, *, end: bool = True) -> None:
        """What the stream holds of the audience comes to a host that reads it."""
        assert isinstance(command, Read)
        for key, (sequence, message) in sorted(self.stream.items(), key=lambda one: one[1][0]):
            if key.audience == command.audience and sequence >= command.after:
                self.reading.read(key, sequence, message, self.now)
        if end:
            self.end(command)

    def end(self, command: Command) -> None:
        assert isinstance(command, Read)
        there = (sequence for key, (sequence, _) in self.stream.items() if key.audience == command.audience)
        last = max((sequence for sequence in there if sequence >= command.after), default=0)
        self.reading.ended(command.audience, last, self.now, self.chance)

    def read_all(self) -> list[Command]:
        """Answer readings until there are none; give all that was commanded meanwhile."""
        done: list[Command] = []
        while commands := self.commands():
            done += commands
            for command in commands:
                if isinstance(command, Read):
                    self.answer(command)
        return done

    def open(self) -> list[Command]:
        self.reading.connected(self.now, self.chance)
        return self.read_all()

    @property
    def peers(self) -> set[str]:
        return set(self.view.documents().peers)

    @property
    def shown(self) -> set[str]:
        return set(self.reading.documents(self.now).peers)


@pytest.fixture
def feed() -> Feed:
    """A host that is in group All, with everything read that there is: the peers a and b."""
    feed = Feed()
    feed.peer("a", heard=False)
    feed.peer("b", heard=False)
    feed.open()
    feed.reading.take_changed()
    return feed


def test_a_session_reads_what_the_host_alone_sees_and_then_what_its_document_names() -> None:
    feed = Feed()
    feed.place("db")
    feed.reading.connected(0.0, 0.0)
    assert feed.commands() == [Subscribe(OWN), Read(OWN, 0)]
    feed.answer(Read(OWN, 0))
    assert feed.commands() == [Subscribe(ALL), Subscribe(DB), Read(ALL, 0), Read(DB, 0)]
    feed.answer(Read(DB, 0))
    assert feed.commands() == []
    feed.answer(Read(ALL, 0))
    assert feed.commands() == [Opened()]


def test_a_host_that_has_no_document_yet_is_there_and_waits_for_it() -> None:
    feed = Feed()
    feed.stream.clear()
    assert feed.open() == [Subscribe(OWN), Read(OWN, 0), Opened()]
    feed.place(heard=True)
    assert feed.commands() == [NewSession()]


LEADS: dict[str, tuple[Callable[[Feed], object], list[Command], float]] = {
    "a gap": (lambda feed: (feed.peer("a", heard=False), feed.peer("a")), [Read(ALL, 3)], 0.0),
    "a message that came": (lambda feed: feed.peer("a"), [], 0.0),
    "a gap of what nobody knew": (lambda feed: (feed.peer("c", heard=False), feed.peer("c")), [Read(ALL, 2)], 0.0),
    "a beacon that speaks of more": (
        lambda feed: feed.reading.told(ALL, Beacon(after=3, newest=5, count=2), feed.now, 0.0),
        [Read(ALL, 2)],
        PATIENCE_S,
    ),
    "a beacon of what is here": (
        lambda feed: feed.reading.told(ALL, Beacon(after=3, newest=3, count=0), feed.now, 0.0),
        [],
        PATIENCE_S,
    ),
    "a beacon of an audience that is not ours": (
        lambda feed: feed.reading.told(DB, Beacon(after=3, newest=9, count=2), feed.now, 0.0),
        [],
        PATIENCE_S,
    ),
    "an election": (
        lambda feed: feed.reading.elected(feed.now, 0.5),
        [Read(ALL, 2), Read(OWN, 1)],
        CHECK_AFTER_ELECTION_S / 2,
    ),
    "a subscription that was too slow": (
        lambda feed: feed.reading.overrun(feed.now),
        [Read(ALL, 2), Read(OWN, 1)],
        0.0,
    ),
    "ten minutes": (lambda feed: None, [Read(ALL, 2), Read(OWN, 1)], CHECK_EVERY_S / 2),
}


@pytest.mark.parametrize("what", LEADS)
def test_what_leads_to_reading_again_and_when(feed: Feed, what: str) -> None:
    happens, commands, after = LEADS[what]
    happens(feed)
    if after:
        assert feed.reading.stirred == ("beacon that" in what or "election" in what)
        assert feed.later(after - 0.1) == []
        assert feed.reading.next_deadline() == (after if commands else CHECK_EVERY_S / 2)
        assert feed.later(0.1) == commands
    else:
        assert feed.reading.stirred == bool(commands)
        assert feed.commands() == commands
    feed.read_all()
    assert feed.commands() == []


def test_the_first_check_of_many_hosts_is_spread_and_the_next_one_is_ten_minutes_later() -> None:
    deadlines = []
    for chance in (0.0, 0.5, 0.999):
        feed = Feed(chance=chance)
        feed.open()
        deadlines.append(feed.reading.next_deadline())
    assert deadlines == [300.0, 450.0, pytest.approx(599.7)]
    feed.now = 600.0
    feed.read_all()
    assert feed.reading.next_deadline() == 1200.0


def test_an_election_does_not_put_off_the_check(feed: Feed) -> None:
    feed.now = CHECK_EVERY_S / 2 - 1.0
    feed.reading.elected(feed.now, 0.5)
    assert feed.reading.next_deadline() == CHECK_EVERY_S / 2


def test_a_doubt_does_not_put_off_the_check_after_an_election(feed: Feed) -> None:
    feed.reading.told(ALL, Beacon(after=3, newest=5, count=2), feed.now, 0.9)
    feed.reading.elected(feed.now, 0.01)
    assert feed.reading.next_deadline() == CHECK_AFTER_ELECTION_S * 0.01


def test_without_a_session_there_is_nothing_to_do(feed: Feed) -> None:
    feed.reading.closed()
    assert feed.reading.next_deadline() is None
    assert feed.later(10 * CHECK_EVERY_S) == []


def test_what_is_missed_while_it_is_read_is_read_again_after_that(feed: Feed) -> None:
    feed.reading.overrun(feed.now)
    own, everybody = Read(OWN, 1), Read(ALL, 2)
    assert feed.commands() == [everybody, own]
    feed.reading.overrun(feed.now)
    assert feed.commands() == []
    feed.answer(own)
    assert feed.commands() == [own]
    feed.answer(own)
    assert feed.commands() == []
    feed.answer(everybody)
    assert feed.commands() == [everybody]
    feed.answer(everybody)
    assert feed.commands() == []


def test_a_gap_while_the_audience_is_read_is_filled_by_that(feed: Feed) -> None:
    feed.reading.overrun(feed.now)
    assert feed.commands() == [Read(ALL, 2), Read(OWN, 1)]
    feed.peer("a", heard=False)
    feed.peer("a")
    feed.answer(Read(ALL, 2))
    assert feed.commands() == []


def test_many_audiences_are_read_a_few_at_a_time() -> None:
    feed = Feed()
    feed.place(*(f"g{number}" for number in range(READINGS_AT_ONCE + 2)))
    feed.reading.connected(0.0, 0.0)
    feed.answer(feed.commands()[-1])
    first = [command for command in feed.commands() if isinstance(command, Read)]
    assert len(first) == READINGS_AT_ONCE
    feed.answer(first[0])
    assert len(feed.commands()) == 1
    feed.answer(first[1])
    feed.answer(first[2])
    assert len(feed.commands()) == 2


def test_what_is_being_read_is_held_back_for_a_while_and_then_told(feed: Feed) -> None:
    feed.peer("c", heard=False)
    feed.reading.overrun(feed.now)
    [everybody, own] = feed.commands()
    feed.answer(everybody, end=False)
    assert feed.reading.take_changed()
    assert (feed.shown, feed.peers) == ({"a", "b"}, {"a", "b", "c"})
    feed.end(everybody)
    assert feed.shown == {"a", "b"}
    assert not feed.reading.take_changed()
    feed.answer(own)
    assert feed.shown == {"a", "b", "c"}
    assert feed.reading.take_changed()


def test_a_reading_that_changes_nothing_is_not_told(feed: Feed) -> None:
    feed.reading.overrun(feed.now)
    feed.read_all()
    assert not feed.reading.take_changed()


def test_a_picture_whose_reading_was_cut_off_is_held_back_for_a_while_and_read_in_the_next_session(feed: Feed) -> None:
    feed.peer("c", heard=False)
    feed.reading.overrun(feed.now)
    [everybody, _] = feed.commands()
    feed.answer(everybody, end=False)
    feed.reading.closed()
    assert feed.shown == {"a", "b"}
    feed.now += HELD_BACK_S
    assert feed.shown == {"a", "b"}
    feed.now += 0.1
    assert feed.shown == {"a", "b", "c"}
    assert Read(ALL, 2) in feed.open()


def test_the_last_good_picture_is_shown_until_the_first_session_has_read() -> None:
    view = FeedView()
    feed = Feed(view)
    feed.view.apply(FeedKey("acc", ALL, "peer", "old"), 1, FeedMessage(1, make.peer("old")))
    assert feed.shown == set()
    feed.peer("a", heard=False)
    feed.open()
    assert feed.shown == {"a"}


def test_a_host_that_lost_its_session_goes_on_where_it_was(feed: Feed) -> None:
    feed.reading.closed()
    feed.peer("c", heard=False)
    assert feed.open() == [Subscribe(OWN), Read(OWN, 1), Subscribe(ALL), Read(ALL, 2), Opened()]
    assert feed.peers == {"a", "b", "c"}


def test_a_session_that_did_not_open_leaves_nothing_for_the_next_one_to_wait_for() -> None:
    feed = Feed()
    feed.place("db")
    feed.reading.connected(0.0, 0.0)
    feed.answer(feed.commands()[-1])
    feed.answer(Read(ALL, 0))
    feed.reading.closed()
    feed.place()
    assert feed.open()[-1] == Opened()


AWAY: list[tuple[float, int]] = [(RESUMABLE_S, 2), (RESUMABLE_S + 1, 0)]


@pytest.mark.parametrize(("away_s", "after"), AWAY)
def test_after_a_long_absence_everything_is_read_for_deletions_may_be_gone(
    feed: Feed, away_s: float, after: int
) -> None:
    feed.reading.closed()
    feed.now += away_s
    assert Read(ALL, after) in feed.open()


def test_the_absence_begins_with_the_last_reading(feed: Feed) -> None:
    feed.now = CHECK_EVERY_S
    feed.read_all()
    feed.reading.proved(CHECK_EVERY_S - 10.0)  # asked for before the reading ended
    feed.reading.closed()
    feed.now += RESUMABLE_S
    assert Read(ALL, 2) in feed.open()


def test_the_absence_begins_when_the_bus_last_proved_itself(feed: Feed) -> None:
    feed.reading.proved(100.0)
    feed.reading.closed()
    feed.now = RESUMABLE_S + 100.0
    assert Read(ALL, 2) in feed.open()


def test_an_audience_that_is_being_read_is_not_complete_whatever_the_bus_proves(feed: Feed) -> None:
    feed.reading.overrun(feed.now)
    feed.commands()
    feed.reading.proved(100.0)
    feed.reading.closed()
    feed.now = RESUMABLE_S + 100.0
    assert Read(ALL, 0) in feed.open()


def test_a_host_that_was_suspended_reads_everything_and_not_only_where_it_first_hears_of_a_gap(feed: Feed) -> None:
    feed.now += RESUMABLE_S + 1
    feed.peer("a", heard=False)
    feed.peer("a")
    assert feed.commands() == [Read(ALL, 0), Read(OWN, 0)]


def test_a_deletion_that_was_missed_is_seen_by_reading_everything(feed: Feed) -> None:
    feed.reading.closed()
    for key in [key for key in feed.stream if key.id == "b"]:
        del feed.stream[key]
    feed.now = TOMBSTONE_TTL_S
    feed.open()
    assert feed.peers == {"a"}
    assert feed.reading.take_changed()


def test_what_another_stream_lacks_is_kept_until_it_had_time_to_be_written_again(feed: Feed) -> None:
    feed.reading.closed()
    feed.stream.clear()
    feed.sequence = 0
    feed.place()
    feed.peer("c", heard=False)
    assert Opened() in feed.open()
    assert feed.peers == {"a", "b", "c"}
    assert feed.reading.next_deadline() == WITHDRAW_AFTER_S
    assert feed.later(WITHDRAW_AFTER_S - 0.1) == []
    assert feed.later(0.1) == [Read(ALL, 0)]
    feed.answer(Read(ALL, 0))
    assert feed.peers == {"c"}
    assert feed.reading.next_deadline() == CHECK_EVERY_S / 2


@pytest.mark.parametrize("away_s", [0.0, TOMBSTONE_TTL_S])
def test_what_was_known_of_one_stream_is_not_known_of_another(feed: Feed, away_s: float) -> None:
    feed.reading.closed()
    feed.now += away_s
    feed.stream.clear()
    feed.sequence = 0
    feed.place()
    feed.peer("c", heard=False)
    feed.open()
    feed.reading.told(ALL, Beacon(after=2, newest=3, count=1), feed.now, 0.0)
    assert feed.later(PATIENCE_S)[0] in (Read(ALL, 2), Read(ALL, 0))


def test_a_stream_is_read_beside_in_the_same_reading_when_it_proves_to_be_another(feed: Feed) -> None:
    feed.reading.closed()
    del feed.stream[FeedKey("acc", ALL, "peer", "a")], feed.stream[FeedKey("acc", ALL, "peer", "b")]
    feed.peer("c", heard=False)
    feed.reading.connected(feed.now, 0.0)
    feed.answer(feed.commands()[-1])
    assert feed.commands()[-1] == Read(ALL, 2)
    feed.answer(Read(ALL, 2))
    assert feed.commands() == [Read(ALL, 0)]
    feed.answer(Read(ALL, 0))
    assert feed.commands() == [Opened()]


def test_a_doubt_outlives_sessions(feed: Feed) -> None:
    feed.reading.closed()
    feed.stream.clear()
    feed.place()
    feed.peer("c", heard=False)
    feed.open()
    feed.reading.closed()
    feed.now += 10.0
    feed.open()
    assert feed.peers == {"a", "b", "c"}
    feed.now = WITHDRAW_AFTER_S
    feed.read_all()
    assert feed.peers == {"c"}


def test_another_audience_is_asked_for_with_another_session(feed: Feed) -> None:
    feed.peer("d", DB, heard=False)
    feed.place("db", heard=True)
    assert feed.commands() == [NewSession()]
    assert Read(DB, 0) in feed.open()
    assert feed.peers == {"a", "b", "d"}


def test_an_audience_that_this_host_left_is_forgotten_at_once_and_for_ever(feed: Feed) -> None:
    feed.peer("d", DB, heard=False)
    feed.place("db", heard=True)
    feed.open()
    feed.reading.told(DB, Beacon(after=0, newest=99, count=9), feed.now, 0.0)
    feed.place(heard=True)
    assert feed.peers == {"a", "b"}
    assert feed.commands() == [NewSession()]
    feed.peer("e", DB)
    feed.reading.ended(DB, 99, feed.now, 0.0)
    assert feed.peers == {"a", "b"}
    assert DB not in [getattr(command, "audience", "") for command in feed.open()]
    assert feed.later(2 * PATIENCE_S) == []


def test_rights_that_changed_unheard_are_read(feed: Feed) -> None:
    feed.place("db")
    feed.reading.overrun(feed.now)
    assert feed.read_all()[-1] == NewSession()


def test_a_session_over_which_rights_changed_begins_no_readings_and_its_own_are_over(feed: Feed) -> None:
    feed.reading.overrun(feed.now)
    feed.commands()
    feed.answer(Read(OWN, 1))
    feed.place("db", heard=True)
    assert feed.commands() == [NewSession()]
    feed.reading.ended(ALL, 99, feed.now, 0.0)
    assert feed.later(CHECK_EVERY_S) == []


def test_what_the_session_before_still_brings_is_taken_until_the_next_one_is_open(feed: Feed) -> None:
    feed.place("db", heard=True)
    assert feed.commands() == [NewSession()]
    feed.peer("c")
    feed.peer("c", heard=False)
    feed.peer("c")  # a gap: the next session reads it anyhow
    assert feed.commands() == []
    feed.reading.connected(feed.now, 0.0)
    feed.peer("d")
    assert feed.peers == {"a", "b", "c", "d"}
    assert feed.read_all()[-1] == Opened()


def test_rights_that_change_while_a_session_opens_are_seen_when_it_is_open() -> None:
    feed = Feed()
    feed.reading.connected(0.0, 0.0)
    feed.answer(feed.commands()[-1])
    feed.place("db", heard=True)
    assert feed.commands() == [Subscribe(ALL), Read(ALL, 0)]
    feed.answer(Read(ALL, 0))
    assert feed.commands() == [Opened(), NewSession()]


def test_an_old_document_of_its_own_that_a_reading_brings_is_not_judged_by() -> None:
    """A server that is behind sends it first."""
    feed = Feed()
    feed.place("db")
    feed.open()
    feed.now += RESUMABLE_S + 1
    feed.reading.overrun(feed.now)
    assert feed.commands() == [Read(ALL, 0), Read(DB, 0), Read(OWN, 0)]
    key = FeedKey("acc", OWN, "self", "me")
    feed.reading.read(key, 1, FeedMessage(1, make.me("me")), feed.now)
    assert feed.commands() == []
    feed.answer(Read(OWN, 0))
    assert feed.commands() == []


def test_a_new_session_forgets_what_the_one_before_was_to_do(feed: Feed) -> None:
    feed.place("db", heard=True)
    feed.reading.connected(feed.now, 0.0)
    assert feed.commands() == [Subscribe(OWN), Read(OWN, 0)]


def test_a_message_that_cannot_be_decoded_has_been_heard(feed: Feed) -> None:
    feed.reading.heard(FeedKey("acc", ALL, "future", "x"), 4, None, 0, feed.now)
    feed.reading.told(ALL, Beacon(after=3, newest=4, count=1), feed.now, 0.0)
    assert not feed.reading.stirred
    assert feed.later(PATIENCE_S) == []


def test_deletions_are_forgotten_when_everything_is_checked(feed: Feed) -> None:
    def deletions() -> list[str]:
        return [held.key.id for held in feed.view.held(ALL) if isinstance(held.message.document, Tombstone)]

    feed.write(ALL, "a", Tombstone())
    feed.now = CHECK_EVERY_S
    feed.read_all()
    assert deletions() == ["a"]
    feed.now += DELETION_KEPT_S - 1
    feed.read_all()
    assert deletions() == ["a"]
    feed.now += CHECK_EVERY_S
    feed.commands()
    assert deletions() == []


def test_every_state_says_what_may_happen_in_it() -> None:
    possible = {
        State.AWAY: {Event.FOLLOWED},
        State.CUT_OFF: {Event.FOLLOWED},
        State.DUE: {Event.BEGUN, Event.MISSED, Event.LOST},
        State.READING: {Event.ENDED, Event.MISSED, Event.LOST},
        State.OVERTAKEN: {Event.ENDED, Event.MISSED, Event.LOST},
        State.LIVE: {Event.MISSED, Event.LOST},
    }
    for state, event in product(State, Event):
        assert ((state, event) in TRANSITIONS) == (event in possible[state])
    for state in State:
        one = module.Audience(ALL, FeedView())
        one.state = state
        for event in set(Event) - possible[state]:
            with pytest.raises(KeyError):
                one.on(event)


def test_what_was_missed_is_never_believed_to_be_here() -> None:
    """Whatever is missed leads to a reading, and a session that is lost leaves nothing believed to be half read."""
    assert {TRANSITIONS[state, Event.MISSED] for state in FOLLOWED} == {State.DUE, State.OVERTAKEN}
    assert {TRANSITIONS[state, Event.LOST] for state in FOLLOWED & MIXED} == {State.CUT_OFF}
    assert TRANSITIONS[State.LIVE, Event.LOST] is State.AWAY
    assert {state for state in FOLLOWED if (state, Event.ENDED) in TRANSITIONS} == BEING_READ
