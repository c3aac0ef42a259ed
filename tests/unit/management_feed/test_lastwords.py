"""What the projector takes of session and candidacy facts."""

from typing import Any

from services.management.core.entities import Ref
from services.management.core.feed.unit import LastWord
from services.management.core.leases import lease_of
from services.management.core.model.route import Route
from services.management.core.state import Intent
from services.management.projector.lastwords import LastWords
from shared.bus.codec import encode
from shared.bus.undecodable import Undecodables
from shared.events import subjects
from shared.events.documents import PresenceDoc, Withdrawn
from shared.events.facts import CandidacyFact, LeaseFact, SessionFact
from tests import builders
from tests.builders import ACCOUNT
from tests.unit.management_feed.test_facts import FoldAt

LAN = builders.route("lan", peer="gw", return_address="10.0.0.254")
NO_LINK = (Withdrawn("lan", "no link"),)
SHOWN = PresenceDoc(peer_id="gw", agent=True, draining=True, withdrawn=NO_LINK, holds=("lan",))


class Scene:
    """Facts that were read, in an account with the peer gw; `changed` gathers the peers that were reported."""

    def __init__(self) -> None:
        fold = FoldAt()
        fold.intent = builders.intent(builders.peer("gw"), LAN)
        self.changed: list[str] = []
        self.words = LastWords(fold, Undecodables())
        self.words.on_change = lambda _, peer: self.changed.append(peer)
        self.snapshot()

    @property
    def intent(self) -> Intent:
        return self.words._fold.intent

    def snapshot(self) -> None:
        """One that brings nothing."""
        for newest in (self.words.sessions, self.words.candidacies, self.words.holders):
            newest.begin()
            newest.caught_up()

    def session(self, epoch: int, *, connected: bool, peer: str = "gw") -> None:
        fact = SessionFact(peer_id=peer, epoch=epoch, connected=connected, since=0.0)
        self.words.sessions.message(subjects.session_fact(ACCOUNT, "gw"), encode(fact), 1)

    def candidacy(self, epoch: int, number: int, *, peer: str = "gw", **said: Any) -> None:
        fact = CandidacyFact(peer_id=peer, epoch=epoch, number=number, **said)
        self.words.candidacies.message(subjects.candidacy_fact(ACCOUNT, "gw"), encode(fact), 1)

    def lease(self, route: Route, holder: str) -> None:
        subject = subjects.lease_fact(ACCOUNT, lease_of(route))
        self.words.holders.message(subject, encode(LeaseFact(holder=holder)), 1)

    def word(self) -> LastWord | None:
        return self.words.of(ACCOUNT).get("gw")


def test_signal_says_whether_the_agent_is_there_and_the_agent_says_the_rest() -> None:
    scene = Scene()
    scene.session(1, connected=True)
    scene.candidacy(1, 1, draining=True, withdrawn=NO_LINK, holds=("lan",))
    assert scene.word() == LastWord(agent=True, draining=True, withdrawn=NO_LINK, holds=("lan",))
    scene.session(1, connected=False)
    assert scene.word() == LastWord(agent=False, draining=True, withdrawn=NO_LINK, holds=("lan",))


def test_an_agent_that_speaks_is_there_as_long_as_signal_said_nothing_of_it() -> None:
    scene = Scene()
    scene.candidacy(1, 1)
    assert scene.word() == LastWord(agent=True)


def test_what_changes_nothing_is_not_reported() -> None:
    scene = Scene()
    for _ in range(3):
        scene.session(1, connected=True)
    scene.candidacy(1, 1)
    scene.candidacy(1, 2)
    assert scene.changed == ["gw"]


def test_a_fact_of_before_changes_nothing() -> None:
    scene = Scene()
    scene.session(2, connected=True)
    scene.session(1, connected=False)
    scene.candidacy(2, 7, holds=("lan",))
    scene.candidacy(2, 6)
    scene.candidacy(2, 7)
    scene.candidacy(1, 9)
    assert scene.word() == LastWord(agent=True, holds=("lan",))
    scene.candidacy(3, 1)
    assert scene.word() == LastWord(agent=True)


def test_a_fact_that_names_another_peer_than_its_subject_is_dropped() -> None:
    scene = Scene()
    scene.session(1, connected=True, peer="somebody")
    scene.candidacy(1, 1, peer="somebody", draining=True)
    assert scene.words.of(ACCOUNT) == {}
    assert scene.changed == []


def test_what_cannot_be_decoded_is_dropped() -> None:
    scene = Scene()
    scene.words.candidacies.message(subjects.candidacy_fact(ACCOUNT, "gw"), b"nonsense", 1)
    scene.words.sessions.message("fact.acc.planet.gw.session", b"", 1)
    assert scene.words.of(ACCOUNT) == {}


def test_of_what_a_peer_says_no_more_is_kept_than_it_can_mean() -> None:
    scene = Scene()
    scene.candidacy(1, 1, withdrawn=tuple(Withdrawn(f"r{n}", "x" * 999) for n in range(9000)), holds=("r",) * 9000)
    word = scene.word()
    assert word
    assert (len(word.withdrawn), len(word.holds)) == (4096, 4096)
    assert {len(entry.reason) for entry in word.withdrawn} == {255}


def test_what_is_no_id_is_not_kept() -> None:
    scene = Scene()
    scene.candidacy(1, 1, withdrawn=(Withdrawn("r" * 256, "no link"), *NO_LINK), holds=("r" * 1_000_000, "lan"))
    assert scene.word() == LastWord(agent=True, withdrawn=NO_LINK, holds=("lan",))


def test_a_reason_becomes_one_line() -> None:
    scene = Scene()
    scene.candidacy(1, 1, withdrawn=(Withdrawn("lan", "no\nlink\t on  eth0 "),))
    word = scene.word()
    assert word
    assert word.withdrawn == (Withdrawn("lan", "no link on eth0"),)


def test_facts_that_are_lost_or_expire_hold_and_those_of_deleted_peers_go() -> None:
    scene = Scene()
    scene.session(1, connected=True)
    scene.candidacy(1, 1, withdrawn=NO_LINK)
    scene.snapshot()
    assert scene.word() == LastWord(agent=True, withdrawn=NO_LINK)
    scene.candidacy(1, 0)
    assert scene.word() == LastWord(agent=True, withdrawn=NO_LINK)
    scene.intent.apply(2, builders.commit(deletes=[Ref("peer", "gw")]))
    scene.snapshot()
    assert scene.word() is None


def test_what_the_feed_shows_holds_as_far_as_no_fact_is_known() -> None:
    scene = Scene()
    scene.words.keep(ACCOUNT, "gw", SHOWN)
    assert scene.word() == LastWord(agent=True, withdrawn=NO_LINK, holds=("lan",))
    scene.session(1, connected=False)
    assert scene.word() == LastWord(agent=False, withdrawn=NO_LINK, holds=("lan",))
    scene.candidacy(1, 1)
    assert scene.word() == LastWord(agent=False)
    scene.words.keep(ACCOUNT, "gw", SHOWN)
    assert scene.word() == LastWord(agent=False)


def test_what_the_feed_shows_of_a_peer_that_is_no_more_is_forgotten() -> None:
    scene = Scene()
    scene.words.keep(ACCOUNT, "gone", SHOWN)
    assert scene.words.of(ACCOUNT) == {}


def test_g7_a_holder_that_is_cut_off_holds_nothing_once_another_one_has_the_lease() -> None:
    scene = Scene()
    scene.candidacy(1, 1, holds=("lan", "other"))
    scene.changed.clear()
    for holder, held in (("gw", True), ("", True), ("gw2", False), ("", True), ("gw2", False)):
        scene.lease(LAN, holder)
        assert scene.word() == LastWord(agent=True, holds=("lan", "other") if held else ("other",)), holder
    assert scene.changed == ["gw", "gw", "gw"]
    scene.candidacy(1, 2, holds=("lan",))
    assert scene.word() == LastWord(agent=True)
    scene.snapshot()
    assert scene.word() == LastWord(agent=True, holds=("lan",)), "there is no lease any more"


def test_g7_the_lease_of_another_set_takes_nothing() -> None:
    scene = Scene()
    scene.candidacy(1, 1, holds=("lan",))
    scene.lease(builders.route("elsewhere", return_address="10.0.0.254"), "gw2")
    assert scene.word() == LastWord(agent=True, holds=("lan",))
