"""Routing peers that ask about a return address over the real bus, of replicas of management."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from services.management import factgc
from services.management.core.entities import Ref
from services.management.core.leases import lease_of
from services.management.leases import Leases
from shared.bus.codec import decode, encode
from shared.bus.keys import new_seed, public_key
from shared.bus.streams import FACTS
from shared.bus.undecodable import Undecodables
from shared.events import subjects
from shared.events.signals import Lease, LeaseRefused, LeaseReply, LeaseRequest, LeaseWish
from tests import builders
from tests.builders import ACCOUNT
from tests.bus.management.hosts import Host
from tests.bus.management.plane import PlainBus, admitting, answering
from tests.bus.management.replica import append, running
from tests.support.bus import LIMIT_S, eventually

LAN = builders.route("lan", peer_groups=("gws",), return_address="10.0.0.254")


class Gateway(Host):
    """A routing peer that asks."""

    async def wish(self, wish: LeaseWish, known: int, route: str = "lan") -> LeaseReply:
        request = LeaseRequest(route_id=route, wish=wish, known=known)
        answer = await self.client.request(subjects.lease(ACCOUNT, self.name), encode(request), timeout=10)
        return decode("reply", answer.data, LeaseReply)  # type: ignore[arg-type]

    async def lease(self, wish: LeaseWish, known: int) -> Lease:
        said = await self.wish(wish, known)
        assert isinstance(said, Lease)
        assert said.candidates == ("gw1", "gw2")
        return replace(said, candidates=())


@pytest.fixture
async def gateways(plain_bus: PlainBus, tmp_path: Path) -> AsyncIterator[tuple[Gateway, Gateway, Gateway]]:
    """Two routing peers of the route, and a stranger, with two replicas of management."""
    seeds = {name: new_seed("user") for name in ("gw1", "gw2", "alice")}
    peers = (
        builders.peer(name, *(("gws",) if name != "alice" else ()), bus_key=public_key(seed))
        for name, seed in seeds.items()
    )
    await append(plain_bus, builders.commit(builders.group("gws"), *peers, LAN))
    async with (
        admitting(plain_bus, tmp_path / "a.db") as one,
        running(plain_bus, tmp_path / "b.db") as other,
        answering(one),
        answering(other),
    ):
        gw1, gw2, alice = (Gateway(plain_bus.url, name, seed) for name, seed in seeds.items())
        for host in (gw1, gw2, alice):
            await host.connect()
        yield gw1, gw2, alice
        for host in (gw1, gw2, alice):
            await host.leave()


@contextmanager
def watching(gateway: Gateway, known: int) -> Iterator[asyncio.Task[Lease]]:
    task = asyncio.create_task(gateway.lease("watch", known))
    yield task
    task.cancel()


async def test_a_lease_goes_from_hand_to_hand_and_who_watches_hears_of_it(
    gateways: tuple[Gateway, Gateway, Gateway],
) -> None:
    gw1, gw2, _ = gateways
    assert await gw1.lease("watch", -1) == Lease(number=0, holder="")
    with watching(gw2, 0) as hears:
        taken = await gw1.lease("claim", 0)
        assert (taken.holder, await hears) == ("gw1", taken)
    assert await gw2.lease("claim", taken.number) == taken, "it is not free"
    with watching(gw1, taken.number) as hears:
        contested = await gw2.lease("contest", taken.number)
        assert (contested.holder, contested.contender, await hears) == ("gw1", "gw2", contested)
    kept = await gw1.lease("keep", contested.number)
    assert await gw2.lease("claim", contested.number) == kept == Lease(number=kept.number, holder="gw1")
    with watching(gw2, kept.number) as hears:
        left = await gw1.lease("release", kept.number)
        assert (left.holder, await hears) == ("", left)
    assert (await gw2.lease("claim", left.number)).holder == "gw2"


async def test_of_many_claims_at_once_one_is_granted_whoever_answers(
    gateways: tuple[Gateway, Gateway, Gateway],
) -> None:
    gw1, gw2, _ = gateways
    before = await gw1.lease("watch", -1)
    answers = await asyncio.gather(*(gateway.lease("claim", before.number) for gateway in (gw1, gw2) * 20))
    after = await gw1.lease("watch", before.number)
    assert {answer.holder for answer in answers if answer.number} == {after.holder}


async def test_a_contested_lease_whose_holder_says_nothing_goes_to_the_contender(
    gateways: tuple[Gateway, Gateway, Gateway],
) -> None:
    gw1, gw2, _ = gateways
    taken = await gw1.lease("claim", (await gw1.lease("watch", -1)).number)
    contested = await gw2.lease("contest", taken.number)
    moved = await gw2.lease("claim", contested.number)
    assert moved.holder == "gw2"
    late = await gw1.lease("keep", contested.number)
    assert late == moved, "the former holder comes too late"


async def test_a_stranger_gets_no_lease(gateways: tuple[Gateway, Gateway, Gateway], plain_bus: PlainBus) -> None:
    _, _, alice = gateways
    assert isinstance(await alice.wish("claim", 0), LeaseRefused)
    info = await plain_bus.management.jetstream().stream_info(FACTS, subjects_filter=">")
    assert not info.state.subjects


async def test_a_holder_whose_route_went_gives_the_lease_of_its_set_back_and_nothing_else(
    gateways: tuple[Gateway, Gateway, Gateway], plain_bus: PlainBus
) -> None:
    gw1, gw2, _ = gateways
    taken = await gw1.lease("claim", (await gw1.lease("watch", -1)).number)
    theirs = replace(LAN, id="theirs", peer_groups=(), peer="gw2")
    await append(plain_bus, builders.commit(theirs, deletes=(Ref("route", "lan"),)))

    async def refused() -> bool:
        return isinstance(await gw1.wish("watch", -1), LeaseRefused)

    for _ in range(20):  # whichever replica answers
        await eventually(refused)
    assert isinstance(await gw1.wish("keep", taken.number), LeaseRefused)
    assert isinstance(await gw1.wish("release", 0), LeaseRefused)
    assert isinstance(await gw2.wish("release", taken.number), LeaseRefused)
    left = await gw1.wish("release", taken.number)
    assert isinstance(left, Lease)
    assert left.holder == ""
    granted = await gw2.wish("claim", left.number, "theirs")
    assert isinstance(granted, Lease)
    assert granted.holder == "gw2"


async def test_a_lease_goes_with_its_route_and_comes_back_with_it(
    gateways: tuple[Gateway, Gateway, Gateway], plain_bus: PlainBus, tmp_path: Path
) -> None:
    gw1, _, _ = gateways
    taken = await gw1.lease("claim", (await gw1.lease("watch", -1)).number)
    subject = subjects.lease_fact(ACCOUNT, lease_of(LAN))

    async def stored() -> bool:
        info = await plain_bus.management.jetstream().stream_info(FACTS, subjects_filter=subject)
        return bool(info.state.subjects)

    assert await stored()
    async with running(plain_bus, tmp_path / "c.db") as third:
        sweeping = asyncio.create_task(factgc.sweep(third.connection, third.readmodel, every_s=0.05))
        await append(plain_bus, builders.commit(deletes=(Ref("route", "lan"),)))
        await eventually(lambda: not_any(stored))
        sweeping.cancel()
        await asyncio.gather(sweeping, return_exceptions=True)
    await append(plain_bus, builders.commit(LAN))
    known = taken

    async def granted() -> bool:
        nonlocal known
        known = await gw1.lease("release" if known.holder else "claim", known.number)
        return known.holder == "gw1" and known.number > taken.number

    await eventually(granted)


@pytest.fixture
async def deaf(plain_bus: PlainBus, tmp_path: Path) -> AsyncIterator[Leases]:
    """A replica that read the leases when there were none, and hears no news of them."""
    async with running(plain_bus, tmp_path / "deaf.db") as replica:
        leases = Leases(replica.connection, replica.readmodel, Undecodables())
        following = asyncio.create_task(leases.follow())
        await asyncio.wait_for(leases._held.known.wait(), LIMIT_S)
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        yield leases


@pytest.mark.parametrize(("wish", "is_known"), [("keep", True), ("claim", False)])
async def test_a_replica_that_is_behind_looks_into_the_stream_before_it_tells_an_older_lease(
    deaf: Leases, gateways: tuple[Gateway, Gateway, Gateway], wish: LeaseWish, is_known: bool
) -> None:
    """By an older one that names another holder, or nobody, the holder would leave the address."""
    gw1, _, _ = gateways
    taken = await gw1.lease("claim", (await gw1.lease("watch", -1)).number)
    request = LeaseRequest(route_id="lan", wish=wish, known=taken.number if is_known else 0)
    told = await deaf.answer(ACCOUNT, "gw1", request)
    assert told == replace(taken, candidates=("gw1", "gw2"))


async def test_who_watches_is_not_told_what_a_snapshot_of_a_server_that_is_behind_lacks(
    deaf: Leases, gateways: tuple[Gateway, Gateway, Gateway]
) -> None:
    gw1, _, _ = gateways
    taken = await gw1.lease("claim", (await gw1.lease("watch", -1)).number)
    told = await deaf.answer(ACCOUNT, "gw1", LeaseRequest(route_id="lan", wish="claim", known=0))
    watching = LeaseRequest(route_id="lan", wish="watch", known=taken.number)
    watch = asyncio.create_task(deaf.answer(ACCOUNT, "gw1", watching))
    await eventually(lambda: deaf._asking)
    deaf._held.begin()
    deaf._held.caught_up()
    assert await watch == told == replace(taken, candidates=("gw1", "gw2"))


async def test_a_lease_that_is_no_more_is_told_as_nobodys(
    deaf: Leases, gateways: tuple[Gateway, Gateway, Gateway]
) -> None:
    told = await deaf.answer(ACCOUNT, "gw1", LeaseRequest(route_id="lan", wish="keep", known=7))
    assert told == Lease(number=0, holder="", candidates=("gw1", "gw2"))


async def not_any(asked: object) -> bool:
    return not await asked()  # type: ignore[operator]
