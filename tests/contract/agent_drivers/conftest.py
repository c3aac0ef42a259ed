"""Hosts with an interface called wt0 that needs no WireGuard, and scenarios that run on them."""

import asyncio
import base64
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest
from nacl.public import PrivateKey

from deploy.lab.netns import Namespace, run
from services.agent.drivers import netlink
from services.agent.drivers.netlink import Netlink
from tests.support.netns import MakeHost, host, make_host

__all__ = ["host", "make_host"]

T = TypeVar("T")

ROOT = Path(__file__).parents[3]


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


def missing(host: Namespace, module: str, call: str) -> str:
    """What MechanismMissing says when a process without privileges on the host makes the call."""
    code = (
        f"import os, sys; sys.path.insert(0, {str(ROOT)!r})\n"
        f"from {module} import {call} as call\n"
        "from services.agent.errors import MechanismMissing\n"
        "os.setresuid(65534, 65534, 65534)\n"
        "try: call()\n"
        "except MechanismMissing as problem: print(problem.message)"
    )
    return run(*host.command([sys.executable, "-c", code])).strip()


def key(number: int) -> str:
    """A WireGuard private key, the same one each time."""
    return base64.b64encode(bytes((number,)) * 32).decode()


def public(private_key: str) -> str:
    return base64.b64encode(bytes(PrivateKey(base64.b64decode(private_key)).public_key)).decode()
