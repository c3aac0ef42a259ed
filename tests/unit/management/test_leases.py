"""What a routing peer's request changes of a lease."""

import asyncio

import pytest
from nats.aio.client import Client

from services.management.core.leases import asked_for, candidates, decide, gives_back, lease_of, leases_of
from services.management.leases import Leases
from shared.bus.codec import encode
from shared.bus.undecodable import Undecodables
from shared.events import subjects
from shared.events.facts import LeaseFact
from shared.events.signals import Lease, LeaseRequest, LeaseWish
from tests.builders import ACCOUNT, group, intent, peer, route, state
from tests.unit.management_feed.test_facts import FoldAt

FREE = LeaseFact(holder="")
LEFT = LeaseFact(holder="", contender="gw2")
HELD = LeaseFact(holder="gw1")
LAN = route("lan", peer_groups=("gws",), return_address="10.0.0.254")
CONTESTED = LeaseFact(holder="gw1", contender="gw2", hears=True)


@pytest.mark.parametrize(
    ("who", "wish", "held", "after"),
    [
        ("gw1", "claim", FREE, LeaseFact(holder="gw1", at=5.0)),
        ("gw1", "claim", LEFT, LeaseFact(holder="gw1", at=5.0)),
        ("gw2", "claim", HELD, None),
        ("gw2", "claim", CONTESTED, LeaseFact(holder="gw2", at=5.0)),
        ("gw3", "claim", CONTESTED, None),
        ("gw2", "contest", HELD, LeaseFact(holder="gw1", contender="gw2", at=5.0)),
        ("gw3", "contest", CONTESTED, LeaseFact(holder="gw1", contender="gw3", at=5.0)),
        ("gw1", "contest", HELD, None),
        ("gw2", "contest", FREE, None),
        ("gw1", "keep", CONTESTED, LeaseFact(holder="gw1", at=5.0)),
        ("gw1", "keep", HELD, None),
        ("gw2", "keep", CONTESTED, None),
        ("gw1", "release", HELD, LeaseFact(holder="", at=5.0)),
        ("gw1", "release", CONTESTED, LeaseFact(holder="", contender="gw2", at=5.0)),
        ("gw2", "release", HELD, None),
        ("gw1", "watch", CONTESTED, None),
    ],
)
def test_a_lease_changes_hands_when_it_is_free_or_was_contested_in_vain(
    who: str, wish: LeaseWish, held: LeaseFact, after: LeaseFact | None
) -> None:
    assert decide(LeaseRequest(route_id="lan", wish=wish, known=7), who, held, 7, 5.0) == after


@pytest.mark.parametrize("wish", ["claim", "contest", "keep", "release"])
@pytest.mark.parametrize("who", ["gw1", "gw2"])
def test_whoever_goes_by_a_former_lease_changes_nothing(who: str, wish: LeaseWish) -> None:
    assert decide(LeaseRequest(route_id="lan", wish=wish, known=6), who, CONTESTED, 7, 5.0) is None


def test_only_routing_peers_of_a_route_with_a_return_address_may_ask() -> None:
    there = state(
        group("gws"),
        peer("gw1", "gws"),
        peer("alice"),
        route("lan", peer_groups=("gws",), return_address="10.0.0.254"),
        route("plain", peer_groups=("gws",)),
        route("off", peer_groups=("gws",), return_address="10.0.0.254", enabled=False),
    )
    assert asked_for(there, "gw1", "lan")
    assert not asked_for(there, "alice", "lan")
    assert not asked_for(there, "gw1", "plain")
    assert not asked_for(there, "gw1", "off")
    assert not asked_for(there, "gw1", "gone")


@pytest.mark.parametrize(
    ("who", "wish", "lease", "is_given_back"),
    [
        ("gw1", "release", lease_of(LAN), True),
        ("gw2", "release", lease_of(LAN), False),
        ("gw1", "watch", lease_of(LAN), False),
        ("gw1", "keep", lease_of(LAN), False),
        ("gw1", "claim", lease_of(LAN), False),
        ("gw1", "contest", lease_of(LAN), False),
        ("gw1", "release", "0123456789abcdef", False),
    ],
)
def test_a_holder_that_serves_the_route_no_more_may_give_its_lease_back(
    who: str, wish: LeaseWish, lease: str, is_given_back: bool
) -> None:
    """Otherwise the others of the set wait until it is found silent."""
    there = state(group("gws"), peer("gw1"), peer("gw2", "gws"), LAN)
    request = LeaseRequest(route_id="gone", wish=wish, known=7)
    assert gives_back(there, lease, request, who, CONTESTED) == is_given_back


def test_routes_of_one_set_share_a_lease_and_two_lans_with_the_same_address_do_not() -> None:
    one = route("a", network_id="office", peer="gw1", metric=200, return_address="10.0.0.254")
    other = route("b", network_id="office", peer="gw2", metric=100, return_address="10.0.0.254")
    elsewhere = route("c", network_id="branch", peer="gw3", return_address="10.0.0.254")
    assert lease_of(one) == lease_of(other) != lease_of(elsewhere)
    there = state(peer("gw1"), peer("gw2"), peer("gw3"), one, other, elsewhere, route("d"))
    assert leases_of(there) == {lease_of(one), lease_of(elsewhere)}
    assert candidates(there, one) == ("gw2", "gw1")
    assert candidates(there, elsewhere) == ("gw3",)


class KnownFold(FoldAt):
    """As new as the log, by itself."""

    async def catch_up(self) -> None: ...


def leases() -> Leases:
    """Of gw1 and gw2, which serve the route lan."""
    fold = KnownFold()
    set_up = group("gws"), peer("gw1", "gws"), peer("gw2", "gws")
    fold.intent = intent(*set_up, LAN)
    return Leases(Client(), fold, Undecodables())


async def test_a_replica_that_has_not_read_the_leases_yet_says_of_none_that_it_is_free() -> None:
    answering = leases()
    watch = LeaseRequest(route_id="lan", wish="watch", known=-1)
    with pytest.raises(TimeoutError):
        await answering.answer(ACCOUNT, "gw1", watch)
    answer = asyncio.create_task(answering.answer(ACCOUNT, "gw1", watch))
    answering._held.begin()
    answering._held.message(subjects.lease_fact(ACCOUNT, lease_of(LAN)), encode(HELD), 57)
    answering._held.caught_up()
    assert await answer == Lease(number=57, holder="gw1", candidates=("gw1", "gw2"))


@pytest.mark.parametrize(("wish", "known"), [("watch", 0), ("claim", 10**9)])
async def test_of_what_a_peer_asks_about_a_lease_only_the_last_waits(wish: LeaseWish, known: int) -> None:
    """A host may send 2,000 questions a second; those that nobody waits for any more must not keep others out."""
    answering = leases()
    answering._held.begin()
    answering._held.caught_up()
    request = LeaseRequest(route_id="lan", wish=wish, known=known)
    first, others, second = (
        asyncio.create_task(answering.answer(ACCOUNT, who, request)) for who in ("gw1", "gw2", "gw1")
    )
    await asyncio.wait((first, others, second), return_when=asyncio.FIRST_COMPLETED)
    assert [first.done(), others.done(), second.done()] == [True, False, False]
    assert first.cancelled()
    for waiting in (others, second):
        waiting.cancel()
