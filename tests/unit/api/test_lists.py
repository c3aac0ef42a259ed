"""Long lists are made of kept entries: they say what the entities themselves say, whatever changed before."""

import asyncio
import random

import pytest
from msgspec.structs import replace

from services.management.api import events, groups, kept, peeranswers, pieces, view
from services.management.core.entities import Entity, Ref
from services.management.core.model.policy import ResourceRef
from shared.events.facts import ReportFact, SessionFact
from tests.builders import NOW, group, peer, policy, rule
from tests.unit.api.world import World

PEERS = [f"p{number}" for number in range(8)]
GROUPS = ["g0", "g1", "g2"]


def somebody(chance: random.Random) -> Entity | Ref:
    """A peer, group or policy that comes, changes or goes."""
    some_groups = tuple(chance.sample(GROUPS, chance.randrange(3)))
    named = ResourceRef(id=chance.choice(PEERS), type="peer")
    changes: list[Entity | Ref] = [
        peer(chance.choice(PEERS), *some_groups),
        replace(peer(chance.choice(PEERS), *some_groups), name=chance.choice(['"groups":[]', "a\\", "é"])),
        Ref("peer", chance.choice(PEERS)),
        replace(group(chance.choice(GROUPS)), name=chance.choice(['"peers":[]', "plain"])),
        policy("Default", rule("r", sources=some_groups, destinations=(chance.choice(GROUPS),))),
        policy("own", rule("s", sources=some_groups, destination_resource=named)),
    ]
    return chance.choice(changes)


def observed(world: World, chance: random.Random) -> None:
    one, facts = chance.choice(PEERS), world.server.facts
    since = NOW + chance.randrange(5)
    facts.sessions[world.account, one] = SessionFact(peer_id=one, epoch=1, connected=True, since=since)
    facts.reports[world.account, one] = ReportFact(
        peer_id=one,
        version=f"1.{chance.randrange(5)}",
        hostname=one,
        os="",
        kernel="6",
        backend="kernel",
        desired_revision=1,
        applied_revision=1,
        pending=0,
    )


@pytest.mark.parametrize("seed", range(6))
async def test_a_list_says_of_each_what_it_says_alone(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(view, "STEP", 3)
    chance, world = random.Random(seed), World(*map(group, GROUPS))
    for _ in range(12):
        for _ in range(chance.randrange(3)):
            observed(world, chance)
            change = somebody(chance)
            world.change(deletes=(change,)) if isinstance(change, Ref) else world.change(change)
        assert await world.get("groups") == [await world.get(f"groups/{id}") for id in sorted(world.state.groups)]
        listed = await world.get("peers")
        assert [one["id"] for one in listed] == sorted(world.state.peers)
        for one in listed:
            alone = await world.get(f"peers/{one['id']}")
            reached = await world.get(f"peers/{one['id']}/accessible-peers")
            assert one.pop("accessible_peers_count") == len(reached)
            del alone["local_flags"], alone["warnings"]
            assert list(one.items()) == list(alone.items()), "the same fields in the same order"


@pytest.mark.parametrize("path", ["peers", "groups"])
async def test_a_list_is_of_the_revision_it_names_while_others_change_the_account(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (view, peeranswers, groups):
        monkeypatch.setattr(module, "steps", lambda peers: [[one] for one in peers])
    monkeypatch.setattr(kept, "SLICE_S", 0.0)
    world, names = World(*map(peer, PEERS)), dict[str, set[str]]()
    listing = asyncio.create_task(world.call("GET", path))
    while not listing.done():
        name = f"since {len(names)}"
        world.change(*(replace(peer(one), name=name) for one in (PEERS[0], PEERS[-1])))
        names[f'"{world.revision}"'] = {name}
        await asyncio.sleep(0)
    answer = await listing
    peers = answer.json() if path == "peers" else answer.json()[0]["peers"]
    shown = {one["name"] for one in peers if one["id"] in (PEERS[0], PEERS[-1])}
    assert shown == names[answer.headers["ETag"]]
    assert answer.headers["ETag"] != f'"{world.revision}"', "others had their turn meanwhile"


@pytest.mark.parametrize("path", ["peers", "groups", "events/audit"])
@pytest.mark.parametrize(
    "accepted, compressed",
    [("gzip", True), ("br;q=1.0, GZIP;q=0.5", True), ("gzip;q=0", False), ("identity", False), ("", False)],
)
async def test_a_list_is_compressed_where_the_client_asks_for_it(
    path: str, accepted: str, compressed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "CHUNK_BYTES", 100)
    world = World()
    plain = await world.call("GET", path, headers={"Accept-Encoding": "identity"})
    answer = await world.call("GET", path, headers={"Accept-Encoding": accepted})
    assert answer.json() == plain.json()
    assert answer.headers.get("Content-Encoding") == ("gzip" if compressed else None)
    assert answer.headers["Vary"] == "Accept-Encoding"
    assert int(plain.headers["Content-Length"]) == len(plain.content)
    assert ("Content-Length" in answer.headers) is not compressed


async def test_the_trail_is_read_on_from_where_it_was_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "PAGE", 2)
    monkeypatch.setattr(events, "MOST", 5)
    world = World()
    told: list[str] = []
    for number in range(9):
        changed = await world.call("POST", "groups", {"name": f"group {number}"})
        assert changed.status_code == 200
        told.insert(0, changed.json()["id"])
        if number in (0, 3, 4, 8):
            listed = await world.get("events/audit")
            assert [event["target_id"] for event in listed] == told[:5]


async def test_what_was_changed_at_once_stays_together_in_the_trail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "MOST", 3)
    world = World(*map(peer, PEERS[:4]))
    await world.call("POST", "groups", {"name": "before"})
    await world.call("POST", "groups", {"name": "crowd", "peers": PEERS[:4]})
    assert len(await world.get("events/audit")) == 5
