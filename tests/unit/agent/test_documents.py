"""What a host holds of the feed, whatever the order, the gaps and the copies."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.agent.core.documents import DELETION_KEPT_S, Documents, FeedView, LastGood
from shared.events.documents import DnsRecord, Document, FeedMessage, PresenceDoc, Tombstone, Withdrawn
from shared.events.subjects import FeedKey
from tests.unit.agent import make

ALL, MINE, ROUTERS = "g.all", "p.me", "g.routers"


def at(audience: str, kind: str, name: str) -> FeedKey:
    return FeedKey("acc", audience, kind, name)


def said(document: Document | Tombstone, revision: int) -> FeedMessage:
    return FeedMessage(revision, document)


PEER = at(ALL, "peer", "p1")


def test_the_newest_document_of_a_subject_is_shown() -> None:
    view = FeedView()
    assert view.apply(PEER, 1, said(make.peer("p1", version="1"), 10))
    assert view.apply(PEER, 2, said(make.peer("p1", version="2"), 11))
    assert view.documents().peers["p1"].version == "2"
    assert view.documents().revision == 11


@pytest.mark.parametrize(("sequence", "revision"), [(4, 20), (5, 19), (4, 19), (9, 19), (5, 20)])
def test_an_older_sequence_or_revision_never_replaces(sequence: int, revision: int) -> None:
    view = FeedView()
    view.apply(PEER, 5, said(make.peer("p1", version="held"), 20))
    assert not view.apply(PEER, sequence, said(make.peer("p1", version="old"), revision))
    assert view.documents().peers["p1"].version == "held"


def test_a_deletion_stays_known_so_that_a_late_older_message_does_not_bring_the_document_back() -> None:
    view = FeedView()
    view.apply(PEER, 5, said(make.peer("p1"), 20))
    assert view.apply(PEER, 7, said(Tombstone(), 22))
    assert not view.apply(PEER, 6, said(make.peer("p1"), 21))
    assert view.documents().peers == {}
    assert view.documents().revision == 22


def test_deletions_are_forgotten_in_the_end_and_what_came_after_them_is_not() -> None:
    view, other = FeedView(), at(ALL, "peer", "p2")
    view.apply(PEER, 5, said(Tombstone(), 20))
    view.apply(other, 6, said(Tombstone(), 21))
    view.forget_deletions(1000.0)
    view.apply(other, 7, said(make.peer("p2", version="new"), 22))
    view.forget_deletions(1000.0 + DELETION_KEPT_S - 1)
    assert view.gap(PEER, 5) is False
    view.apply(at(ALL, "peer", "p3"), 8, said(Tombstone(), 23))
    view.forget_deletions(1000.0 + DELETION_KEPT_S)
    assert view.gap(PEER, 5) is True
    assert view.gap(at(ALL, "peer", "p3"), 8) is False
    assert [peer.version for peer in view.documents().peers.values()] == ["new"]
    assert view.documents().revision == 23


def test_a_message_that_changes_nothing_says_so_and_still_counts_as_newer() -> None:
    view = FeedView()
    view.apply(PEER, 5, said(make.peer("p1"), 20))
    assert not view.apply(PEER, 6, said(make.peer("p1"), 21))
    assert view.documents().revision == 21


def test_a_stream_made_anew_from_the_log_counts_its_sequences_from_the_start() -> None:
    view = FeedView()
    view.apply(PEER, 500, said(make.peer("p1", version="1"), 20))
    assert view.apply(PEER, 3, said(make.peer("p1", version="2"), 21))
    assert view.documents().peers["p1"].version == "2"


def test_groups_of_a_peer_are_those_of_all_its_copies() -> None:
    view = FeedView()
    view.apply(at(ALL, "peer", "p1"), 1, said(make.peer("p1", "office"), 10))
    view.apply(at(ROUTERS, "peer", "p1"), 2, said(make.peer("p1", "guests", version="2"), 11))
    assert view.documents().peers["p1"].groups == ("all", "guests", "office")
    assert view.documents().peers["p1"].version == "2"


def test_a_routing_peer_stands_as_all_its_copies_say_of_its_routes_together() -> None:
    view, lan, db = FeedView(), Withdrawn("lan", "no leg"), Withdrawn("db", "no way")
    view.apply(at(ALL, "presence", "gw"), 1, said(PresenceDoc(peer_id="gw", agent=False, withdrawn=(lan,)), 10))
    both = PresenceDoc(peer_id="gw", agent=True, withdrawn=(db, lan), holds=("web",))
    view.apply(at(ROUTERS, "presence", "gw"), 2, said(both, 10))
    assert view.documents().presences == {"gw": both}
    view.apply(at(ROUTERS, "presence", "gw"), 3, said(PresenceDoc(peer_id="gw", agent=True), 10))
    assert view.documents().presences == {"gw": PresenceDoc(peer_id="gw", agent=True, withdrawn=(lan,))}


def test_the_copy_of_a_route_with_permits_wins_over_a_newer_one_without() -> None:
    view = FeedView()
    view.apply(at(MINE, "route", "r1"), 1, said(make.served("r1"), 10))
    view.apply(at(ALL, "route", "r1"), 2, said(make.route("r1", by="me"), 11))
    assert view.documents().routes["r1"].permits is not None


def test_this_host_is_not_among_its_peers() -> None:
    view = FeedView()
    view.apply(at(MINE, "self", "me"), 1, said(make.me("me"), 10))
    view.apply(at(ALL, "peer", "me"), 2, said(make.peer("me"), 10))
    view.apply(at(ALL, "settings", "account"), 3, said(make.settings(), 10))
    shown = view.documents()
    assert (shown.peers, shown.self_doc, shown.settings) == ({}, make.me("me"), make.settings())


def test_what_a_snapshot_does_not_show_is_dropped_at_its_end_and_not_before() -> None:
    view = FeedView()
    view.apply(at(ALL, "peer", "p1"), 1, said(make.peer("p1"), 10))
    view.apply(at(ALL, "peer", "p2"), 2, said(make.peer("p2"), 10))
    view.apply(at(MINE, "rule", "q1"), 3, said(make.rule("q1"), 10))
    view.begin_snapshot(ALL)
    assert not view.apply(at(ALL, "peer", "p2"), 2, said(make.peer("p2"), 10))
    assert view.documents().peers.keys() == {"p1", "p2"}
    assert view.end_snapshot(ALL)
    assert view.documents().peers.keys() == {"p2"}
    assert view.documents().rules.keys() == {"q1"}


def test_a_snapshot_replaces_documents_of_a_stream_that_was_lost() -> None:
    view = FeedView(LastGood(99, FeedView().export().held))
    view.apply(PEER, 700, said(make.peer("p1", version="lost"), 99))
    view.begin_snapshot(ALL)
    assert view.apply(PEER, 2, said(make.peer("p1", version="now"), 7))
    view.end_snapshot(ALL)
    assert view.documents().peers["p1"].version == "now"


def test_a_snapshot_that_is_cut_off_and_begun_again_loses_nothing_meanwhile() -> None:
    view = FeedView()
    view.begin_snapshot(ALL)
    view.apply(PEER, 1, said(make.peer("p1"), 10))
    view.begin_snapshot(ALL)
    assert view.documents().peers.keys() == {"p1"}
    view.end_snapshot(ALL)
    assert view.documents().peers == {}


def test_live_messages_during_a_snapshot_belong_to_it() -> None:
    view = FeedView()
    view.begin_snapshot(ALL)
    view.apply(PEER, 9, said(make.peer("p1", version="live"), 12))
    view.apply(PEER, 4, said(make.peer("p1", version="stored"), 10))
    view.apply(at(ALL, "peer", "p2"), 5, said(make.peer("p2"), 10))
    view.apply(at(ALL, "peer", "p2"), 10, said(Tombstone(), 13))
    view.end_snapshot(ALL)
    assert {name: peer.version for name, peer in view.documents().peers.items()} == {"p1": "live"}


@pytest.mark.parametrize(
    ("held", "last_sequence", "gap"), [(None, 0, False), (None, 3, True), (5, 5, False), (5, 7, True), (9, 5, False)]
)
def test_a_gap_is_a_former_message_that_never_came(held: int | None, last_sequence: int, gap: bool) -> None:
    view = FeedView()
    if held is not None:
        view.apply(PEER, held, said(make.peer("p1"), 10))
    assert view.gap(PEER, last_sequence) is gap


def test_an_audience_the_host_left_takes_its_documents_with_it() -> None:
    view = FeedView()
    view.apply(PEER, 1, said(make.peer("p1"), 10))
    view.apply(at(ROUTERS, "peer", "p2"), 2, said(make.peer("p2"), 10))
    assert view.audiences == {ALL, ROUTERS}
    assert view.drop_audience(ALL)
    assert not view.drop_audience(ALL)
    assert view.documents().peers.keys() == {"p2"}
    assert view.audiences == {ROUTERS}


def test_what_is_kept_on_disk_shows_the_same_picture() -> None:
    view = FeedView()
    view.begin_snapshot(ALL)
    view.apply(PEER, 4, said(make.peer("p1"), 10))
    view.apply(at(ALL, "route", "r1"), 5, said(make.route("r1"), 11))
    view.apply(at(ALL, "route", "r2"), 6, said(make.route("r2"), 11))
    view.apply(at(ALL, "route", "r2"), 7, said(Tombstone(), 12))
    view.end_snapshot(ALL)
    again = FeedView(view.export())
    assert again.documents() == view.documents()
    assert again.export() == view.export()
    assert [held.key.id for held in view.export().held] == ["p1", "r1"]


messages = st.lists(
    st.tuples(
        st.sampled_from((at(ALL, "peer", "p1"), at(ALL, "peer", "p2"), at(ROUTERS, "peer", "p1"))),
        st.sampled_from(("1", "2", "gone")),
    ),
    max_size=12,
)


@given(messages, st.randoms(use_true_random=False))
def test_the_picture_does_not_depend_on_the_order_of_arrival(
    history: list[tuple[FeedKey, str]], shuffle: Random
) -> None:
    stream = [
        (key, number, said(Tombstone() if version == "gone" else make.peer(key.id, version=version), number))
        for number, (key, version) in enumerate(history, 1)
    ]
    expected = {key: message.document for key, _, message in stream}
    shuffled = list(stream)
    shuffle.shuffle(shuffled)
    view = FeedView()
    for key, sequence, message in shuffled:
        view.apply(key, sequence, message)
    shown = {held.key: held.message.document for held in view.export().held}
    assert shown == {key: document for key, document in expected.items() if not isinstance(document, Tombstone)}


def test_nothing_is_held_at_first() -> None:
    assert FeedView().documents() == Documents()


def test_nameservers_and_zones_are_held_by_id_whichever_audience_shows_them() -> None:
    view = FeedView()
    corp, everything = make.nameservers("corp", "corp.example"), make.nameservers("all")
    lab = make.zone("lab", DnsRecord("www.lab.example", "A", "10.1.0.80", 300))
    for audience in (ALL, ROUTERS):
        view.apply(at(audience, "nameservers", "corp"), 1, said(corp, 10))
        view.apply(at(audience, "zone", "lab"), 2, said(lab, 10))
    view.apply(at(ALL, "nameservers", "all"), 3, said(everything, 10))
    assert view.documents().nameservers == {"all": everything, "corp": corp}
    assert view.documents().zones == {"lab": lab}
    view.apply(at(ALL, "nameservers", "corp"), 4, said(Tombstone(), 11))
    assert view.documents().nameservers == {"all": everything, "corp": corp}
    view.drop_audience(ROUTERS)
    assert (view.documents().nameservers, view.documents().zones) == ({"all": everything}, {"lab": lab})
