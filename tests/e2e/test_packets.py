"""What real packets do on two real hosts, when rights change and when parts of the system die."""

import os
import socket
import time
from collections.abc import Iterator

import pytest

from deploy.lab import probes
from deploy.lab.api import answers
from deploy.lab.netns import Namespace
from deploy.lab.processes import running
from deploy.lab.scenario import Scenario
from deploy.lab.topology import LAN_HOST_V4, LAN_V4, WEB_PORT
from tests.support.lab import LIMIT_S, eventually, kill, reaches_the_lan, routed_lab

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def scenario() -> Iterator[Scenario]:
    """A lab that each test leaves as it was."""
    with routed_lab(f"p{os.getpid()}") as running:
        yield running


def held_open(host: Namespace, address: str, port: int) -> socket.socket:
    """A TCP connection of the host with nothing said on it yet."""
    return host.call(socket.create_connection, (address, port), 5.0)


def answers_on(connection: socket.socket, limit_s: float) -> bool:
    """Whether the web server still answers on a connection opened before."""
    connection.settimeout(limit_s)
    try:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: lan\r\n\r\n")
        return connection.recv(4096).startswith(b"HTTP/1.")
    except TimeoutError:
        return False


def test_a7_withdrawn_permits_cut_connections_that_are_open(scenario: Scenario) -> None:
    connection = held_open(scenario.lab.topology.client, LAN_HOST_V4, WEB_PORT)
    with connection:
        gone = scenario.watch("gateway", lambda ruleset: not ruleset.permits(LAN_V4))
        scenario.put_route(LAN_V4, enabled=False)
        assert gone.result() is not None
        assert not answers_on(connection, 1.0)
    scenario.put_route(LAN_V4)
    assert eventually(lambda: reaches_the_lan(scenario))


def test_a8_a_route_opens_nothing_on_the_routing_peer_itself(scenario: Scenario) -> None:
    gateway, client = scenario.lab.topology.gateway, scenario.lab.topology.client
    overlay = scenario.overlay["gateway"]["v4"]
    with gateway.call(socket.create_server, (overlay, 8088)):
        # The policy between the two allows ICMP alone, so a TCP service of the gateway stays shut.
        assert client.call(probes.fetch, overlay, 8088, 1.0).startswith("failed")


def test_a2_a_host_that_leaves_the_distribution_group_is_shut_out_also_with_routes_of_its_own(
    scenario: Scenario,
) -> None:
    api, client = scenario.lab.api, scenario.lab.topology.client
    group = {"name": "clients", "resources": []}
    gone = scenario.watch("gateway", lambda ruleset: scenario.overlay["client"]["v4"] not in ruleset.text())
    api("PUT", f"/groups/{scenario.ids['clients']}", {**group, "peers": []})
    assert gone.result() is not None
    client.ip("route", "add", LAN_HOST_V4, "dev", "wt0")
    try:
        assert not reaches_the_lan(scenario)
    finally:
        client.ip("route", "delete", LAN_HOST_V4, "dev", "wt0")
    api("PUT", f"/groups/{scenario.ids['clients']}", {**group, "peers": [scenario.ids["client"]]})
    assert eventually(lambda: reaches_the_lan(scenario))


def test_traffic_goes_on_while_an_agent_is_dead_and_the_next_one_takes_its_state_over(scenario: Scenario) -> None:
    for name in ("client", "gateway"):
        host = scenario.lab.topology.hosts[name]
        (agent,) = running(host, "services.agent")
        kill(agent)
        assert reaches_the_lan(scenario)
        scenario.lab.start_agent(name)
        end = time.monotonic() + LIMIT_S
        while time.monotonic() < end:
            assert reaches_the_lan(scenario)  # at no moment is what was there taken away
            if any(peer["hostname"] == name and peer["connected"] for peer in scenario.lab.api("GET", "/peers")):
                break


def test_g2_traffic_goes_on_without_a_control_plane_and_changes_arrive_when_it_is_back(scenario: Scenario) -> None:
    underlay = scenario.lab.topology.underlay
    (bus,) = running(underlay, "nats-server --config")
    kill(bus)
    assert reaches_the_lan(scenario)
    assert eventually(lambda: underlay.call(answers, 1.0))
    routed = scenario.routed(LAN_V4)
    gone = scenario.watch("client", lambda ruleset: not routed(ruleset))
    scenario.put_route(LAN_V4, enabled=False)
    assert gone.result() is not None
    scenario.put_route(LAN_V4)
    assert eventually(lambda: reaches_the_lan(scenario))


def test_what_others_take_away_is_put_back_within_a_second(scenario: Scenario) -> None:
    gateway, client = scenario.lab.topology.gateway, scenario.lab.topology.client
    back = scenario.watch("gateway", lambda ruleset: ruleset.permits(LAN_V4))
    assert back.result() is not None
    begin = time.perf_counter()
    gateway.ip("rule", "delete", "priority", "110")
    client.ip("route", "flush", "table", "7120")
    back = scenario.watch("client", scenario.routed(LAN_V4))
    moment = back.result()
    assert moment is not None
    assert moment - begin < 1.0
    assert eventually(lambda: "110:" in gateway.ip("rule"))
