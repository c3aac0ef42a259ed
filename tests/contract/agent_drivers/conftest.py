"""Hosts with an interface called wt0 that needs no WireGuard, and scenarios that run on them."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import pytest

from deploy.lab.netns import Namespace
from services.agent.drivers import netlink
from services.agent.drivers.netlink import Netlink
from tests.support.netns import MakeHost, host, make_host

__all__ = ["host", "make_host"]

T = TypeVar("T")


@pytest.fixture
def tunnel(make_host: MakeHost) -> Namespace:
    """A host with wt0 up: a TUN device that nothing reads from."""
    made = make_host()
    made.ip("tuntap", "add", "wt0", "mode", "tun")
    made.ip("link", "set", "wt0", "up")
    return made


def run_on(host: Namespace, scenario: Callable[[Netlink], Coroutine[Any, Any, T]]) -> T:
    """What the scenario returns, run on the host with a netlink socket there."""

    async def scene() -> T:
        rtnl = Netlink(netlink.ROUTE)
        try:
            return await scenario(rtnl)
        finally:
            rtnl.close()

    return host.call(asyncio.run, scene())
