"""A client whose kernel sends a routed prefix elsewhere says so, and takes it back, as others come and go."""

import pytest

from tests.bus.agent.lab import AgentProcess, KernelState, in_step, whimbrel
from tests.bus.agent.plane import Plane, with_a_route
from tests.support.bus import eventually

pytestmark = pytest.mark.root


@pytest.mark.parametrize(
    ("there", "gone", "reason"),
    [
        (
            ("ip rule add priority 90 lookup 5000", "ip route add default dev tun9 table 5000"),
            "ip rule del priority 90",
            "rule 90 of another program goes before ours: table 5000 leads to tun9",
        ),
        (
            ("ip route add 10.8.0.0/13 via 172.31.0.9",),
            "ip route del 10.8.0.0/13",
            "the host's own route 10.8.0.0/13 in table 254 goes before it to tun9",
        ),
        (
            ("ip address add 10.9.0.7/16 dev tun9",),
            "ip address del 10.9.0.7/16 dev tun9",
            "this host is in 10.9.0.0/16 itself, by tun9",
        ),
        (
            ("ip rule add priority 91 prohibit",),
            "ip rule del priority 91",
            "the kernel has no way there (Permission denied): rule 91 of another program goes before ours",
        ),
    ],
)
async def test_a_route_that_the_kernel_does_not_follow_is_shown_with_the_reason(
    agent: AgentProcess, plane: Plane, kernel: KernelState, there: tuple[str, ...], gone: str, reason: str
) -> None:
    kernel.run("ip", "tuntap", "add", "tun9", "mode", "tun")
    kernel.run("ip", "address", "add", "172.31.0.1/24", "dev", "tun9")
    kernel.run("ip", "link", "set", "tun9", "up")
    await with_a_route(plane)
    agent.start()
    await in_step(agent, plane)

    async def said() -> str:
        [network] = await agent.ask("networks")
        return str(network["reason"])

    async def says(wanted: str) -> bool:
        return await said() == wanted

    assert await said() == ""
    for command in there:
        kernel.run(*command.split())
    await eventually(lambda: says(reason), within_s=20.0)
    assert reason in (await agent.ask("status"))["unplaced"].values()
    assert reason in (await whimbrel(agent, "networks", "ls")).stdout
    kernel.run(*gone.split())
    await eventually(lambda: says(""), within_s=20.0)
    await agent.stop()
