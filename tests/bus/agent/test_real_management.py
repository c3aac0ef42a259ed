"""The agent against the control plane as people start it."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from deploy.lab.netns import Namespace
from tests.bus.agent.lab import AgentProcess, KernelState, Road
from tests.support.bus import eventually
from tests.support.controlplane import ControlPlane
from tests.support.netns import MakeHost

pytestmark = pytest.mark.root


@pytest.fixture
async def control(tmp_path: Path) -> AsyncIterator[ControlPlane]:
    async with ControlPlane(tmp_path) as control:
        yield control


@pytest.fixture
async def agent(host: Namespace, control: ControlPlane, tmp_path: Path) -> AsyncIterator[AgentProcess]:
    road = Road(host, control.bus_url)
    await road.open()
    yield AgentProcess(host, tmp_path)
    await road.close()


async def post(control: ControlPlane, path: str, **body: Any) -> Any:
    answer = await control.api.post(path, json=body)
    assert answer.status_code < 300, answer.text
    return answer.json()


async def setup_key(control: ControlPlane, **more: Any) -> Any:
    return await post(
        control,
        "/setup-keys",
        **{"name": "k", "type": "reusable", "expires_in": 86400, "auto_groups": [], "usage_limit": 0, **more},
    )


async def placed(agent: AgentProcess) -> bool:
    status = await agent.ask("status")
    return bool(status) and bool(status["netbirdIp"]) and not status["pending"]


async def test_a_host_enrols_and_loses_everything_when_its_peer_is_deleted(
    control: ControlPlane, agent: AgentProcess, host: Namespace
) -> None:
    kernel = KernelState(host)
    key = await setup_key(control)
    agent.start_impatient(key["key"])
    await eventually(lambda: placed(agent))

    async def connected() -> Any:
        [peer] = (await control.api.get("/peers")).json()
        return peer["connected"] and peer["version"] == "1.0.0" and peer

    peer = await eventually(connected)
    assert kernel.addresses() >= {f"{peer['ip']}/16"}
    assert (await control.api.delete(f"/peers/{peer['id']}")).status_code == 200
    await eventually(lambda: not kernel.addresses(), within_s=20.0)
    await eventually(lambda: "the bus does not admit this peer" in agent.said(), within_s=20.0)
    assert await agent.stop() == 0


async def test_a_host_that_lost_its_identity_enrols_anew_beside_what_its_former_self_was_told(
    control: ControlPlane, agent: AgentProcess
) -> None:
    key = await setup_key(control)
    agent.start(key=key["key"])
    await eventually(lambda: placed(agent))
    former = (await agent.ask("status"))["netbirdIp"]
    assert await agent.stop() == 0
    (agent.state / "identity.json").unlink()
    agent.start(key=key["key"])

    async def connected() -> Any:
        status = await agent.ask("status")
        return status and status["management"]["connected"] and status["netbirdIp"]

    assert await eventually(connected) != former
    assert await agent.stop() == 0


async def test_a_revoked_key_is_refused_with_its_reason(control: ControlPlane, agent: AgentProcess) -> None:
    key = await setup_key(control)
    answer = await control.api.put(f"/setup-keys/{key['id']}", json={"revoked": True, "auto_groups": []})
    assert answer.status_code == 200, answer.text
    agent.start(key=key["key"])
    assert await agent.ended() == 3
    assert agent.said() == "error: enrolment refused (revoked): the setup key is revoked: ask for another\n"


async def test_a_used_up_key_is_refused_with_its_reason(
    control: ControlPlane, agent: AgentProcess, host: Namespace, tmp_path: Path
) -> None:
    key = await setup_key(control, type="one-off", usage_limit=1)
    agent.start(key=key["key"])
    await eventually(lambda: placed(agent))
    await agent.stop()
    second = AgentProcess(host, tmp_path, "second")
    second.start(key=key["key"])
    assert await second.ended() == 3
    assert "(used-up)" in second.said()


async def test_a_group_that_is_joined_shows_its_routes_and_one_that_is_left_hides_them(
    control: ControlPlane, agent: AgentProcess, make_host: MakeHost, tmp_path: Path
) -> None:
    far = make_host()
    road = Road(far, control.bus_url)
    await road.open()
    key = (await setup_key(control))["key"]
    gateway = AgentProcess(far, tmp_path, "gateway")
    gateway.start("--hostname", "gateway", key=key)
    await eventually(lambda: placed(gateway))
    [peer] = (await control.api.get("/peers")).json()
    group = await post(control, "/groups", name="staff", peers=[])
    office = {"network_id": "office", "network": "10.9.0.0/16", "peer": peer["id"], "groups": [group["id"]]}
    flags = {"description": "", "enabled": True, "metric": 100, "masquerade": True, "keep_route": True}
    await post(control, "/routes", **office, **flags)

    agent.start("--hostname", "alpha", key=key)
    await eventually(lambda: placed(agent))
    alpha = next(one for one in (await control.api.get("/peers")).json() if one["id"] != peer["id"])
    kernel = KernelState(agent.host)
    for members, routes in (([alpha["id"]], {"10.9.0.0/16"}), ([], set())):
        answer = await control.api.put(f"/groups/{group['id']}", json={"name": "staff", "peers": members})
        assert answer.status_code == 200, answer.text
        await eventually(lambda expected=routes: kernel.routes() == expected, within_s=20.0)  # type: ignore[misc]
    assert await agent.stop() == 0
    assert await gateway.stop() == 0
    await road.close()
