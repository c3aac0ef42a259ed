"""One projector over a real bus."""

from services.management.core.entities import Entity, Ref
from services.management.projector.projector import CONSUMER
from shared.bus.codec import encode
from shared.bus.streams import FEED, LOG
from shared.events import subjects
from shared.events.documents import FeedMessage, ResolvedAddress, ResolvedName, RouteDoc, Tombstone
from shared.events.subjects import FeedKey
from tests.builders import ACCOUNT, group, peer, policy, route, rule
from tests.bus.projector.conftest import NewReplica, Plane
from tests.support.bus import eventually

OFFICE = (group("office"), peer("alice", "office"), peer("bob", "office"), peer("gateway"), policy("default"))


def lan(metric: int = 100) -> Entity:
    return route("lan", peer="gateway", groups=("office",), metric=metric)


async def test_the_feed_follows_the_log(plane: Plane, new_replica: NewReplica) -> None:
    await plane.found(*OFFICE)
    await new_replica()
    await plane.becomes_right()
    await plane.commit(lan())
    await plane.becomes_right()
    await plane.commit(peer("bob"), policy("lab", rule("lab-rule", sources=("office",))))
    await plane.becomes_right()
    await plane.commit(deletes=(Ref("route", "lan"), Ref("peer", "alice")))
    await plane.becomes_right()


async def test_accounts_have_feeds_of_their_own(plane: Plane, new_replica: NewReplica) -> None:
    await plane.found(*OFFICE)
    await new_replica()
    await plane.found(*OFFICE, account="other")
    await plane.commit(lan(), account="other")
    await plane.becomes_right()


async def test_a_document_carries_the_sequence_of_the_commit_that_changed_it(
    plane: Plane, new_replica: NewReplica
) -> None:
    await new_replica()
    first = await plane.found(*OFFICE)
    await plane.becomes_right()
    second = await plane.commit(lan())
    await plane.becomes_right()
    stored = await plane.stored()
    revisions = {key: message.revision for key, message in stored.items()}
    assert {revision for key, revision in revisions.items() if key.kind == "route"} == {second}
    assert {revision for key, revision in revisions.items() if key.kind in ("self", "settings")} == {first}


async def test_what_is_gone_leaves_a_tombstone_that_expires(plane: Plane, new_replica: NewReplica) -> None:
    await plane.found(*OFFICE, lan())
    await new_replica()
    await plane.becomes_right()
    await plane.commit(deletes=(Ref("route", "lan"),))
    await plane.becomes_right()
    key = FeedKey(ACCOUNT, "g.office", "route", "lan")
    assert isinstance((await plane.stored())[key].document, Tombstone)
    message = await plane.bus.management.jetstream().get_last_msg(FEED, subjects.feed(key))
    assert (message.headers or {})["Nats-TTL"] == "3600"


async def test_a_document_that_comes_back_replaces_its_tombstone(plane: Plane, new_replica: NewReplica) -> None:
    await plane.found(*OFFICE, lan())
    await new_replica()
    for _ in range(3):
        await plane.commit(deletes=(Ref("route", "lan"),))
        await plane.becomes_right()
        await plane.commit(lan())
        await plane.becomes_right()


async def test_a_commit_that_changes_no_document_writes_nothing(plane: Plane, new_replica: NewReplica) -> None:
    await plane.found(*OFFICE, lan())
    await new_replica()
    await plane.becomes_right()
    before = await plane.bus.values_ever(FEED)
    await plane.commit(lan(), group("unused"))
    await plane.commit(lan(metric=7))
    await plane.becomes_right()
    assert await plane.bus.values_ever(FEED) == before + 2  # the copies of alice and bob's group, and of the gateway


async def test_a_message_of_the_log_that_is_no_commit_stops_nothing(plane: Plane, new_replica: NewReplica) -> None:
    await plane.found(*OFFICE)
    await new_replica()
    await plane.bus.management.jetstream().publish(subjects.log(ACCOUNT), b"not a commit")
    await plane.commit(lan())
    await plane.becomes_right()


async def test_a_commit_is_acknowledged_only_when_its_documents_stand_in_the_feed(
    plane: Plane, new_replica: NewReplica
) -> None:
    await plane.found(*OFFICE)
    replica = await new_replica()
    await plane.becomes_right()
    await replica.lag()
    for metric in range(10):
        await plane.commit(lan(metric=1 + metric))
    jetstream = plane.bus.management.jetstream()

    async def delivered_again() -> bool:
        return bool((await jetstream.consumer_info(LOG, CONSUMER)).num_redelivered == 10)

    async def only_the_newest_is_not_acknowledged() -> bool:
        return bool((await jetstream.consumer_info(LOG, CONSUMER)).num_ack_pending == 1)

    await eventually(delivered_again)
    await replica.catch_up()
    await eventually(only_the_newest_is_not_acknowledged)
    assert await plane.right()


async def test_a_restart_finds_nothing_to_write(plane: Plane, new_replica: NewReplica) -> None:
    named = route("db", domains=("db.example",), peer="gateway", groups=("office",))
    revision = await plane.found(*OFFICE, lan(), named)
    first = await new_replica()
    await plane.resolve("db", revision, (ResolvedName("db.example", (ResolvedAddress("10.9.0.1", 5.0, 0.0),)),))
    await plane.becomes_right()
    await first.stop()
    before = await plane.bus.values_ever(FEED)
    second = await new_replica()
    await eventually(lambda: second.projector.owner)
    await plane.commit(lan(metric=7))
    await plane.becomes_right()
    assert await plane.bus.values_ever(FEED) == before + 1 + 2  # the claim, and the copies of the route


async def test_a_new_owner_repairs_whatever_it_finds_in_the_feed(plane: Plane, new_replica: NewReplica) -> None:
    await plane.found(*OFFICE, lan())
    jetstream = plane.bus.management.jetstream()
    stray = FeedKey(ACCOUNT, "g.office", "route", "stray")
    document = RouteDoc(
        route_id="stray",
        network_id="stray",
        network="10.1.0.0/16",
        domains=(),
        metric=1,
        masquerade=False,
        keep_route=False,
        skip_auto_apply=False,
        routing_peers=("alice",),
        distribution=("office",),
        permits=None,
    )
    await jetstream.publish(subjects.feed(stray), encode(FeedMessage(1, document)))
    await jetstream.publish(
        subjects.feed(FeedKey("nobody", "g.office", "route", "stray")), encode(FeedMessage(1, document))
    )
    await jetstream.publish(subjects.feed(FeedKey(ACCOUNT, "p.alice", "self", "alice")), b"unreadable")
    await jetstream.publish(subjects.feed(FeedKey(ACCOUNT, "p.nobody", "self", "nobody")), b"unreadable")
    await new_replica()
    await plane.becomes_right()
