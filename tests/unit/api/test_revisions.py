"""C2: the account's revision as ETag, and writes that only go through on the revision they were made for."""

from typing import Any

import pytest

from services.management.core.entities import Ref
from services.management.errors import Contended
from tests.builders import group, route
from tests.unit.api.world import World, problem

READS = ["routes", "routes/lan", "groups", "groups/office", "policies", "peers", "peers/gw", "setup-keys", "events"]
READS += ["policies/Default", "setup-keys/valid", "peers/gw/accessible-peers", "users", "users/current", "accounts"]

WRITES: list[tuple[str, str, Any]] = [
    ("POST", "groups", {"name": "new"}),
    ("PUT", "groups/unused", {"name": "new"}),
    ("DELETE", "groups/unused", None),
    ("DELETE", "routes/lan", None),
    ("POST", "setup-keys", {"name": "new", "type": "reusable"}),
    ("PUT", "peers/gw", {"name": "new"}),
    ("DELETE", "policies/Default", None),
]
STALE = (412, "the account has changed since, read it again")


@pytest.mark.parametrize("path", READS)
async def test_c2_every_answer_says_the_revision_it_shows(path: str) -> None:
    world = World()
    answer = await world.call("GET", path)
    assert answer.headers["ETag"] == f'"{world.revision}"'


@pytest.mark.parametrize(("method", "path", "body"), WRITES)
async def test_c2_a_write_goes_through_on_the_revision_it_was_made_for(method: str, path: str, body: Any) -> None:
    world = World()
    before = world.revision
    answer = await world.call(method, path, body, headers={"If-Match": f'"{before}"'})
    assert answer.status_code == 200
    assert world.revision > before
    assert answer.headers["ETag"] == f'"{world.revision}"'


@pytest.mark.parametrize(("method", "path", "body"), WRITES)
async def test_c2_a_write_for_an_older_revision_is_412(method: str, path: str, body: Any) -> None:
    world = World()
    etag = (await world.call("GET", "routes")).headers["ETag"]
    await world.call("POST", "groups", {"name": "meanwhile"})
    commits = len(world.commits)
    assert problem(await world.call(method, path, body, headers={"If-Match": etag})) == STALE
    assert len(world.commits) == commits


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ("{etag}", 200),
        ("*", 200),
        ('"1", {etag}', 200),
        (" {etag} ", 200),
        ("W/{etag}", 412),
        ('"1"', 412),
        ("{bare}", 412),
        ("", 412),
        ("nonsense", 412),
    ],
)
async def test_if_match_is_compared_as_rfc_9110_says(header: str, status: int) -> None:
    world = World()
    sent = header.format(etag=f'"{world.revision}"', bare=world.revision)
    answer = await world.call("POST", "groups", {"name": "new"}, headers={"If-Match": sent})
    assert answer.status_code == status


async def test_if_match_holds_against_a_writer_that_was_faster() -> None:
    world = World()
    headers = {"If-Match": f'"{world.revision}"'}
    world.race(group("rival"))
    assert problem(await world.call("POST", "groups", {"name": "new"}, headers=headers)) == STALE
    assert [group.name for group in world.state.groups.values()] == ["All", "gateways", "office", "unused", "rival"]


async def test_without_if_match_a_lost_race_is_decided_again() -> None:
    world = World()
    world.race(group("rival"))
    assert (await world.call("POST", "groups", {"name": "new"})).status_code == 200
    world.race(route("taken", "10.7.0.0/24", peer="gw"))
    body = {"network_id": "x", "network": "10.7.0.0/24", "peer": "gw", "metric": 1, "groups": ["office"]}
    assert problem(await world.call("POST", "routes", body))[0] == 409


async def test_a_change_that_another_writer_outdated_is_shown_with_the_revision_it_has() -> None:
    """The answer never pairs an older object with a newer revision: the next If-Match would undo the other's work."""
    world = World()
    world.follow(group("theirs", id="unused"))
    answer = await world.call("PUT", "groups/unused", {"name": "mine"})
    assert answer.json()["name"] == "theirs"
    assert answer.headers["ETag"] == f'"{world.revision}"'


async def test_a_new_object_that_another_writer_deleted_at_once_is_still_answered() -> None:
    world = World()
    world.follow(deletes=(Ref("group", "new-1"),))
    answer = await world.call("POST", "groups", {"name": "mine"})
    assert answer.json()["name"] == "mine"
    assert problem(await world.call("GET", "groups/new-1"))[0] == 404


async def test_a_new_route_that_went_with_its_groups_is_answered_with_the_warnings_it_had() -> None:
    world = World()
    world.follow(deletes=(Ref("route", "new-1"), Ref("group", "unused")))
    body = {"network_id": "x", "network": "10.7.0.0/24", "peer": "gw", "metric": 1, "groups": ["unused"]}
    answer = await world.call("POST", "routes", body)
    assert [warning["code"] for warning in answer.json()["warnings"]] == ["open-route"]


async def test_contended_writes_are_no_stale_writes() -> None:
    world = World()
    world.server.log.fail(Contended("others changed the account at the same time, try again"))
    answer = await world.call("POST", "groups", {"name": "new"}, headers={"If-Match": f'"{world.revision}"'})
    assert answer.status_code == 409
