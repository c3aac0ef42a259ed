"""A gateway whose routes come and go: what is deleted is shut, whatever nftables makes of the others."""

import pytest
from msgspec.structs import replace

from shared.events.documents import Permit, RouteDoc
from tests.bus.agent.lab import AgentProcess, KernelState, in_step
from tests.bus.agent.plane import Plane, lan, new_key, peer_doc
from tests.support.bus import eventually

pytestmark = pytest.mark.root

ME = "p.me"
ANYBODY = Permit(
    rule_id="", action="accept", protocol="all", ports=(), sources=("all",), source_peers=()
)  # fmt: skip


async def serve(plane: Plane, name: str, network: str) -> None:
    route = replace(lan("me"), route_id=name, network_id=name, network=network, permits=(ANYBODY,))
    await plane.write(ME, name, route)


@pytest.mark.parametrize(
    ("last", "half", "shown"),
    [
        ("255.255.255.255/32", "128.0.0.0/1", "10.77.0.0/16"),
        ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128", "8000::/1", "fd00:77::/64"),
    ],
)
async def test_a_deleted_route_is_shut_after_others_that_end_with_the_family_came_and_went(
    agent: AgentProcess, plane: Plane, kernel: KernelState, last: str, half: str, shown: str
) -> None:
    await plane.write(ME, "peer", peer_doc("peer", 2, key=new_key()))
    await serve(plane, "office", "192.168.77.0/24")
    agent.start()
    await in_step(agent, plane)
    assert "192.168.77.0/24 : jump" in kernel.table()
    address = last.partition("/")[0]
    version = 6 if ":" in last else 4
    await serve(plane, "last", last)
    await in_step(agent, plane)
    await plane.delete(ME, RouteDoc, "last")
    await serve(plane, "half", half)
    await in_step(agent, plane)
    await serve(plane, "other", shown)
    await in_step(agent, plane)
    await plane.delete(ME, RouteDoc, "office")
    await in_step(agent, plane)
    table = kernel.table()
    assert "192.168.77.0/24" not in table
    assert "jump permits" in table
    await plane.delete(ME, RouteDoc, "half")
    await in_step(agent, plane)
    assert f"{shown} : jump" in kernel.table()
    await plane.delete(ME, RouteDoc, "other")
    await in_step(agent, plane)
    assert "jump permits" not in kernel.table()
    # What an agent of before may have left, which nft says it removes and does not.
    kernel.run("nft", f"add element inet whimbrel permits_v{version} {{ {address} : accept }}")
    await serve(plane, "half", half)
    await in_step(agent, plane)
    await eventually(lambda: f"{address} : accept" not in kernel.table())
    assert "not applied" not in agent.said()
    await agent.stop()
