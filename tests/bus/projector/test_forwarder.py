"""The forwarder's port follows what agents report and who is there (decision D1)."""

from shared.events.documents import SettingsDoc
from shared.events.signals import PeerMeta
from tests.builders import peer
from tests.bus.projector.conftest import NewReplica, Plane

OLD = peer("old", meta=PeerMeta(version="0.58.0"))


async def port(plane: Plane) -> int:
    [port] = [d.forwarder_port for d in (await plane.shown()).values() if isinstance(d, SettingsDoc)]
    return port


async def test_d1_an_updated_agent_takes_the_account_to_the_new_port(plane: Plane, new_replica: NewReplica) -> None:
    await plane.found(OLD, peer("new"))
    await new_replica()
    await plane.becomes_right()
    assert await port(plane) == 5353
    await plane.report("old", "1.0.0")
    plane.versions = {"old": "1.0.0"}
    await plane.becomes_right()
    assert await port(plane) == 22054


async def test_d1_a_peer_that_went_long_ago_does_not_count_until_it_is_back(
    plane: Plane, new_replica: NewReplica
) -> None:
    await plane.found(OLD, peer("new"))
    await plane.session("old", connected=False, ago_s=31 * 86_400)
    plane.unseen = {"old"}
    await new_replica()
    await plane.becomes_right()
    assert await port(plane) == 22054
    await plane.session("old", connected=True, epoch=2)
    plane.unseen = set()
    await plane.becomes_right()
    assert await port(plane) == 5353
