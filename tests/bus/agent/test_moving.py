"""A host whose own address changes while packets go through its tunnel; `-rP` shows for how long none came."""

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.bus.agent.pair import LEFT, Pair, pinging
from tests.bus.agent.plane import Plane
from tests.support.bus import eventually
from tests.support.netns import MakeHost

pytestmark = [pytest.mark.root, pytest.mark.timeout(180)]

GAP_S = 8.0
"""0.03 to 0.3 s on a quiet machine; 15 s when nobody notices before connections time out."""

NEXT = {"v4": "192.0.2.77/24", "v6": "2001:db8:1::77/64"}
OTHER = {"v4": "198.51.100.1/24", "v6": "2001:db8:2::1/64"}


@pytest.fixture(params=["v4", "v6"])
async def pair(
    request: pytest.FixtureRequest, make_host: MakeHost, plane: Plane, tmp_path: Path
) -> AsyncIterator[Pair]:
    pair = Pair(make_host, plane, tmp_path, request.param)
    await pair.start()
    yield pair
    await pair.close()


def lease(pair: Pair, old: dict[str, str], new: dict[str, str]) -> None:
    """As a DHCP client changes an address, with the default route that went with the old one."""
    pair.ip("left", "address", "delete", old[pair.family], "dev", "eth0")
    pair.add_address("left", "eth0", new[pair.family])
    pair.ip("left", "route", "replace", "default", "via", pair.via("left"))


async def settled(pair: Pair, address: str) -> None:
    """The left host is on the bus, and has told that it is to be found at this address."""
    bare = address.partition("/")[0]

    async def known() -> bool:
        status = await pair.agents["left"].ask("status")
        told = [endpoint.rpartition(":")[0].strip("[]") for endpoint in status["localEndpoints"]]
        return status["management"]["connected"] and told == [bare]

    await eventually(known, within_s=20.0)
    await eventually(lambda: pair.left_on_the_bus() == bare, within_s=20.0)


async def test_a_host_that_moves_is_heard_and_found_again_at_once(pair: Pair, tmp_path: Path) -> None:
    """Both ask all the time, so that the one that moved and the one that has to follow it are looked at."""
    for what in ("another address", "an address that comes and goes", "another uplink"):
        async with (
            pinging(pair, "left", tmp_path / f"{what}, left") as left,
            pinging(pair, "right", tmp_path / f"{what}, right") as right,
        ):
            changed = time.time()
            match what:
                case "another address":
                    lease(pair, LEFT, NEXT)
                case "an address that comes and goes":
                    for _ in range(5):
                        lease(pair, NEXT, LEFT)
                        lease(pair, LEFT, NEXT)
                case "another uplink":
                    pair.add_address("left", "eth1", OTHER[pair.family])
                    pair.ip("left", "route", "replace", "default", "via", pair.via("left1"), "dev", "eth1")
                    pair.router.ip("link", "set", "left", "down")
                    pair.ip("left", "address", "delete", NEXT[pair.family], "dev", "eth0")
            took = time.time() - changed
        gaps = {"left": left.gap_s, "right": right.gap_s}
        print(f"{pair.family}, {what} ({took:.2f} s): {gaps} s without an answer")
        assert max(gaps.values()) < took + GAP_S
        await settled(pair, OTHER[pair.family] if what == "another uplink" else NEXT[pair.family])


async def test_a_host_that_moves_says_so_when_nothing_else_is_said(pair: Pair) -> None:
    lease(pair, LEFT, NEXT)

    async def followed() -> bool:
        [peer] = (await pair.agents["right"].ask("status"))["peers"]["details"]
        return NEXT[pair.family].partition("/")[0] in peer["iceCandidateEndpoint"]["remote"]

    await eventually(followed, within_s=GAP_S)
    await settled(pair, NEXT[pair.family])
