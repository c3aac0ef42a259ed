"""The resolver's facts become documents."""

from services.management.core.entities import Ref
from services.management.projector.succession import Claim
from services.management.projector.writer import FencedWriter
from shared.bus.streams import FACTS
from shared.events import subjects
from shared.events.documents import ResolvedAddress, ResolvedName
from shared.events.subjects import FeedKey
from tests.builders import ACCOUNT, group, peer, policy, route
from tests.bus.projector.conftest import NewReplica, Plane, untold
from tests.support.bus import eventually
from tests.support.damage import break_off

OFFICE = (group("office"), peer("alice", "office"), peer("gateway"), policy("default"))
NAMED = route("db", domains=("db.example",), peer="gateway", groups=("office",))
SHOWN = FeedKey(ACCOUNT, "g.office", "resolution", "db")


def names(address: str = "10.9.0.1", *, name: str = "db.example") -> tuple[ResolvedName, ...]:
    return (ResolvedName(name, (ResolvedAddress(address, 5.0, 0.0),)),)


async def test_resolved_addresses_are_shown_to_whoever_sees_the_route(plane: Plane, new_replica: NewReplica) -> None:
    revision = await plane.found(*OFFICE, NAMED)
    await new_replica()
    await plane.resolve("db", revision, names())
    await plane.becomes_right()
    await plane.resolve("db", revision, names("10.9.0.2"))
    await plane.becomes_right()
    assert {key.audience for key in await plane.shown() if key.kind == "resolution"} == {"g.office", "p.gateway"}


async def test_addresses_are_withdrawn_with_their_route_and_come_back_with_it(
    plane: Plane, new_replica: NewReplica
) -> None:
    revision = await plane.found(*OFFICE, NAMED)
    await new_replica()
    await plane.resolve("db", revision, names())
    await plane.becomes_right()
    await plane.commit(route("db", domains=("db.example",), peer="gateway", groups=("office",), enabled=False))
    await plane.becomes_right()
    assert SHOWN not in await plane.shown()
    await plane.commit(NAMED)
    await plane.becomes_right()
    assert SHOWN in await plane.shown()


async def test_addresses_from_before_the_start_are_shown(plane: Plane, new_replica: NewReplica) -> None:
    revision = await plane.found(*OFFICE, NAMED)
    await plane.resolve("db", revision, names())
    await new_replica()
    await plane.becomes_right()


async def test_addresses_stay_where_their_facts_were_lost_until_the_resolver_says_otherwise(
    plane: Plane, new_replica: NewReplica
) -> None:
    routes = {f"db{n}": route(f"db{n}", domains=("db.example",), peer="gateway", groups=("office",)) for n in range(12)}
    revision = await plane.found(*OFFICE, *routes.values())
    replica = await new_replica()
    for name in routes:
        await plane.resolve(name, revision, names())
    await plane.becomes_right()
    before = {key: message.revision for key, message in (await plane.stored()).items() if key.kind == "resolution"}
    claimed = await plane.claimed()
    await break_off(plane.bus, FACTS)
    assert (await plane.bus.management.jetstream().stream_info(FACTS)).state.messages < len(routes)

    async def taken_over(before: int) -> bool:
        return await plane.claimed() > before

    for number in range(2):  # the replica that knew them, and one that does not
        await eventually(lambda before=claimed: taken_over(before))  # type: ignore[misc]
        await plane.commit(group(f"later-{number}"))  # whoever writes now would give them another revision
        await plane.becomes_right()
        stored = await plane.stored()
        assert {key: stored[key].revision for key in before} == before
        await replica.stop()
        claimed = await plane.claimed()
        replica = await new_replica()
    await plane.resolve("db1", revision, ())
    await plane.resolve("db2", revision, names("10.9.0.3"))
    await plane.becomes_right()


async def test_a_route_that_changes_after_a_restart_takes_its_addresses_along(
    plane: Plane, new_replica: NewReplica
) -> None:
    revision = await plane.found(*OFFICE, group("lab"), NAMED)
    first = await new_replica()
    await plane.resolve("db", revision, names())
    await plane.becomes_right()
    await first.stop()
    await new_replica()
    await plane.commit(route("db", domains=("db.example",), peer="gateway", groups=("lab",)))
    await plane.becomes_right()
    assert {key.audience for key in await plane.shown() if key.kind == "resolution"} == {"g.lab", "p.gateway"}


async def test_an_owner_that_was_superseded_by_mistake_claims_the_feed_again(
    plane: Plane, new_replica: NewReplica
) -> None:
    revision = await plane.found(*OFFICE, NAMED)
    await new_replica()
    await plane.resolve("db", revision, names())
    await plane.becomes_right()
    await FencedWriter(plane.bus.management, untold).claim(Claim())
    await plane.commit(deletes=(Ref("route", "db"),))
    await plane.becomes_right(within_s=1.0)


async def test_a_fact_about_a_route_the_fold_does_not_know_yet_waits_for_it(
    plane: Plane, new_replica: NewReplica
) -> None:
    other = route("other", domains=("other.example",), peer="gateway", groups=("office",))
    first = await plane.found(*OFFICE, NAMED, other)
    replica = await new_replica()
    await plane.resolve("db", first, names())
    await plane.becomes_right()
    before = (await plane.shown())[SHOWN]
    await replica.lag()
    second = await plane.commit(route("db", domains=("web.example",), peer="gateway", groups=("office",)))
    await plane.resolve("db", second, names(name="web.example"))
    await plane.resolve("other", first, names(name="other.example"))

    async def the_other_is_shown() -> bool:
        return FeedKey(ACCOUNT, "g.office", "resolution", "other") in await plane.shown()

    await eventually(the_other_is_shown)
    assert (await plane.shown())[SHOWN] == before
    await replica.catch_up()
    await plane.becomes_right()
    assert (await plane.stored())[SHOWN].revision == second


async def test_a_fact_that_cannot_be_decoded_is_dropped_and_the_next_one_taken(
    plane: Plane, new_replica: NewReplica
) -> None:
    revision = await plane.found(*OFFICE, NAMED)
    await new_replica()
    await plane.resolve("db", revision, names())
    await plane.becomes_right()
    await plane.publish_fact(subjects.resolution_fact(ACCOUNT, "db"), b"not a fact", "resolver")
    await plane.resolve("db", revision, names("10.9.0.3"))
    await plane.becomes_right()
