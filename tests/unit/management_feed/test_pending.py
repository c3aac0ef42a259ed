"""Which units are looked at first."""

from msgspec.structs import replace

from services.management.core.feed.pending import FEW, Lane, Pending, Stage, look_at
from services.management.core.feed.published import Published
from services.management.core.feed.unit import Documents, Unit
from shared.events.documents import Tombstone
from shared.events.subjects import FeedKey
from tests.unit.management_feed.test_published import PEER

CROWD = [Unit("peer", f"p{number}") for number in range(FEW + 1)]
LAN = Unit("route", "lan")
WEB = Unit("policy", "web")


def all_of(lane: Lane) -> list[tuple[Unit, Stage]]:
    taken = []
    while look := lane.take():
        taken.append((look.unit, look.stage))
    return taken


def test_a_small_change_is_urgent_and_a_large_one_is_not() -> None:
    pending = Pending()
    pending.mark("a", CROWD, 7)
    pending.mark("a", (LAN,), 8)
    assert all_of(pending.urgent) == [(LAN, Stage.ADD)]
    assert {unit for unit, _ in all_of(pending.bulk)} == set(CROWD)
    assert not pending


def test_a_unit_that_a_small_change_touches_too_leaves_the_large_one() -> None:
    pending = Pending()
    pending.mark("a", CROWD, 7)
    pending.mark("a", CROWD[:1], 8)
    pending.mark("a", CROWD, 9)
    assert all_of(pending.urgent) == [(CROWD[0], Stage.ADD)]
    assert {unit for unit, _ in all_of(pending.bulk)} == set(CROWD[1:])


def test_what_is_no_more_comes_first_of_a_large_change_and_peers_before_rules_and_routes() -> None:
    pending = Pending()
    pending.mark("a", [LAN, WEB, *CROWD], 7)
    taken = []
    while look := pending.bulk.take():
        taken.append((look.unit, look.stage))
        if look.stage is Stage.GONE:
            pending.bulk.later(look, Stage.ADD)
    assert taken[:2] == [(WEB, Stage.GONE), (LAN, Stage.GONE)]
    assert {unit for unit, _ in taken[2:-2]} == set(CROWD)
    assert taken[-2:] == [(WEB, Stage.ADD), (LAN, Stage.ADD)]


def test_what_is_left_of_a_unit_is_withdrawn_after_everything_new() -> None:
    moved, other = FeedKey("a", "g.old", "peer", "x"), FeedKey("a", "g.new", "peer", "x")
    published, pending = Published({moved: PEER}), Pending()
    pending.mark("a", [*CROWD, Unit("peer", "x")], 7)
    written: list[tuple[FeedKey, bool]] = []
    while look := pending.bulk.take():
        document = PEER if look.unit.id == "x" else replace(PEER, peer_id=look.unit.id)
        desired: Documents = {FeedKey("a", "g.new", "peer", look.unit.id): document}
        for key, content in look_at(published, pending.bulk, look, desired):
            written.append((key, isinstance(content, Tombstone)))
    assert written[-1] == (moved, True)
    assert (other, False) in written
    assert len(written) == len(CROWD) + 2


def test_commits_are_done_when_nothing_of_them_is_left_in_any_lane() -> None:
    pending = Pending()
    assert pending.since is None
    pending.mark("a", CROWD, 7)
    pending.mark("a", (LAN,), 8)
    assert pending.since == 7
    look = pending.bulk.take()
    assert look
    pending.bulk.later(look, Stage.UPDATE)
    all_of(pending.bulk)
    assert pending.since == 8
    all_of(pending.urgent)
    assert pending.since is None
    pending.mark("a", (LAN,), 9)
    assert pending.since == 9


def test_a_unit_that_is_finished_later_holds_back_its_own_commit() -> None:
    pending = Pending()
    pending.mark("a", (LAN,), 8)
    look = pending.urgent.take()
    assert look
    pending.urgent.later(look, Stage.UPDATE)
    pending.mark("a", (WEB,), 9)
    assert pending.since == 8
