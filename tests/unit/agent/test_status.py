"""What people and programs are shown of a host."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from services.agent.core.documents import Documents
from services.agent.core.ha.returns import Returning
from services.agent.core.ha.standing import Carried, Decision, Health, Ranked, Ranking, Switch
from services.agent.core.paths.pathbook import PathStatus
from services.agent.core.paths.whereabouts import Told
from services.agent.core.reconcile.desired import Local, desired
from services.agent.core.routing.choices import Selection
from services.agent.core.routing.fib import NO_POLICY, NOBODY_CONNECTED
from services.agent.core.routing.hagroups import HaKey
from services.agent.core.show.hasets import as_carried, history
from services.agent.core.show.status import About, Forwarder, networks, route_states, status
from shared.events.documents import RouteDoc
from shared.events.facts import RouteState
from tests.unit.agent import make

WALL = 1_700_000_000.0
UP = PathStatus(
    word="Connected", endpoint="192.0.2.2:51820", last_handshake=WALL - 5, rx_bytes=7, tx_bytes=9, changed_at=40.0
)
DOWN = PathStatus(word="Connecting", endpoint="192.0.2.3:1", last_handshake=0.0, rx_bytes=1, tx_bytes=2, changed_at=1.0)
ABOUT = About(
    version="1.0.0",
    backend="wireguard-go",
    bus_url="nats://bus:4222",
    bus_connected=True,
    applied_revision=6,
    pending={"route 10.9.0.0/16": "busy"},
    told=Told(addresses=("192.0.2.7/24",), left_out={"172.17.0.1/16": "a bridge"}),
    now=100.0,
    wall=WALL,
)
STUCK = replace(ABOUT, pending={f"peer {make.key('gw')}": "busy", "link wt0": ""})
GW, GW2 = make.peer("gw", number=2), make.peer("gw2", number=3, v6="")
PATHS = {"gw": UP, "gw2": DOWN}

KEY = ("lan", "10.1.0.0/16", ())


def world(*routes: RouteDoc, **more: Any) -> Documents:
    return make.documents(None, [GW, GW2], routes=routes, revision=7, **more)


def shown(there: Documents, local: Local, paths: Mapping[str, PathStatus] = PATHS) -> dict[str, Any]:
    found = status(there, local, desired(there, local), paths, ABOUT)
    return msgspec.json.decode(msgspec.json.encode(found), type=dict[str, Any])


def listed(there: Documents, local: Local) -> list[dict[str, Any]]:
    found = networks(there, local, desired(there, local), PATHS)
    return msgspec.json.decode(msgspec.json.encode(found), type=list[dict[str, Any]])


def test_the_status_has_netbirds_fields_and_says_how_far_the_host_is() -> None:
    found = shown(world(make.route("r1"), make.served("mine", "10.7.0.0/16")), make.local(["gw"]))
    peers = found.pop("peers")
    assert found == {
        "cliVersion": "1.0.0",
        "daemonVersion": "1.0.0",
        "daemonStatus": "Connected",
        "management": {"url": "nats://bus:4222", "connected": True, "error": ""},
        "signal": {"url": "nats://bus:4222", "connected": True, "error": ""},
        "relays": {"total": 0, "available": 0, "details": []},
        "netbirdIp": "100.64.0.1/16",
        "netbirdIpv6": "fd00:64::1/64",
        "publicKey": make.key("me"),
        "usesKernelInterface": False,
        "wireguardBackend": "wireguard-go",
        "wireguardPort": 51820,
        "interface": "wt0",
        "fqdn": "me.whimbrel.test",
        "peerId": "me",
        "quantumResistance": False,
        "quantumResistancePermissive": False,
        "networks": ["10.7.0.0/16"],
        "forwardingRules": 0,
        "dnsServers": [],
        "events": [],
        "lazyConnectionEnabled": False,
        "profileName": "default",
        "sshServer": {"enabled": False, "sessions": []},
        "desiredRevision": 7,
        "appliedRevision": 6,
        "pending": {"route 10.9.0.0/16": "busy"},
        "unplaced": {},
        "localEndpoints": ["192.0.2.7:51820"],
        "notTold": {"172.17.0.1/16": "a bridge"},
        "limit": "",
        "pathLimit": "",
        "connectionLimit": "",
        "drains": True,
        "served": [
            {
                "id": "mine",
                "network": "10.7.0.0/16",
                "carried": True,
                "reason": "",
                "probe": "",
                "probeFault": "",
            }
        ],
        "returnAddresses": [],
        "forwarder": None,
    }
    assert (peers["total"], peers["connected"]) == (2, 1)


def test_the_only_routing_peer_of_a_network_does_not_say_that_its_clients_go_to_others() -> None:
    assert not shown(world(make.served("mine", alone=True)), make.local())["drains"]


def test_d2_a_gateway_says_where_it_is_asked_for_names_and_where_it_cannot_be() -> None:
    about = replace(
        ABOUT,
        forwarder=Forwarder(
            names=("*.corp.example",),
            listening=("fd00:64::1",),
            unbound={"100.64.0.1": "Address already in use"},
            nameservers=("192.0.2.53",),
            problem="",
            counts={"hot": 3},
            learned=2,
            left_out={"x.corp.example": "127.0.0.1/32 is loopback"},
        ),
    )
    found = status(world(), make.local(), desired(world(), make.local()), PATHS, about)
    assert msgspec.to_builtins(found)["forwarder"] == {
        "port": 22054,
        "names": ("*.corp.example",),
        "listening": ("fd00:64::1",),
        "unbound": {"100.64.0.1": "Address already in use"},
        "nameservers": ("192.0.2.53",),
        "problem": "",
        "counts": {"hot": 3},
        "learned": 2,
        "leftOut": {"x.corp.example": "127.0.0.1/32 is loopback"},
    }


def test_a_gateway_says_which_return_addresses_it_holds_and_who_holds_the_others() -> None:
    there = world(make.served("lan", "10.7.0.0/16"))
    about = replace(
        ABOUT,
        returning={
            "10.7.0.254": Returning(address="10.7.0.254", interface="eth1", here=True, holder="me"),
            "10.8.0.254": Returning(address="10.8.0.254", interface="eth2", here=False, holder="gw"),
            "10.9.0.254": Returning(address="10.9.0.254", interface="", here=False, holder="unseen", problem="no LAN"),
        },
    )
    found = status(there, make.local(), desired(there, make.local()), {}, about).return_addresses
    assert [(one.address, one.held_here, one.holder, one.problem) for one in found] == [
        ("10.7.0.254", True, "", ""),
        ("10.8.0.254", False, "gw.whimbrel.test", ""),
        ("10.9.0.254", False, "unseen", "no LAN"),
    ]


def test_a_served_route_that_is_not_carried_says_why_and_what_its_probe_target_does_g3() -> None:
    there = world(make.served("lan", "10.7.0.0/16"), make.served("other", "10.8.0.0/16"))
    about = replace(
        ABOUT,
        carried={
            "lan": Carried(reason="eth1 has no carrier", probe="down"),
            "other": Carried(fault="its probe target 10.9.0.2 is not in 10.8.0.0/16"),
        },
    )
    found = status(there, make.local(), desired(there, make.local()), {}, about).served
    assert [(one.id, one.carried, one.reason, one.probe, one.probe_fault) for one in found] == [
        ("lan", False, "eth1 has no carrier", "down", ""),
        ("other", True, "", "", "its probe target 10.9.0.2 is not in 10.8.0.0/16"),
    ]


@pytest.mark.parametrize(
    ("number", "said"), [(1, "a"), (3, "a.whimbrel.test, b.whimbrel.test, c.whimbrel.test:"), (5, "and 2 more:")]
)
def test_what_an_ipv6_path_needs_is_said_while_a_peer_is_reached_over_one(number: int, said: str) -> None:
    names = "abcde"[:number]
    over_ipv6, not_up = replace(UP, endpoint="[2001:db8::2]:51820"), replace(DOWN, endpoint="[2001:db8::3]:1")
    peers = [GW, *(make.peer(name, number=place) for place, name in enumerate(names, 3)), make.peer("z", number=9)]
    paths = {"gw": UP, "z": not_up, **dict.fromkeys(names, over_ipv6)}
    limit = shown(make.documents(None, peers, revision=7), make.local(["gw"]), paths)["pathLimit"]
    assert limit.startswith("over IPv6 to a")
    assert said in limit
    assert "gw" not in limit
    assert "z.whimbrel" not in limit
    assert limit.endswith('narrower than 1360 bytes and its ICMPv6 is filtered: let "packet too big" through there')


def test_a_connected_peer_shows_its_tunnel_and_what_it_carries() -> None:
    names = make.route("r2", domains=("a.test", "b.test"))
    found = shown(world(make.route("r1"), names), make.local(["gw"]))["peers"]["details"]
    assert found[0] == {
        "fqdn": "gw.whimbrel.test",
        "peerId": "gw",
        "netbirdIp": "100.64.0.2",
        "netbirdIpv6": "fd00:64::2",
        "publicKey": make.key("gw"),
        "status": "Connected",
        "lastStatusUpdate": "2023-11-14T22:12:20Z",
        "connectionType": "P2P",
        "iceCandidateType": {"local": "", "remote": ""},
        "iceCandidateEndpoint": {"local": "", "remote": "192.0.2.2:51820"},
        "relayAddress": "",
        "lastWireguardHandshake": "2023-11-14T22:13:15Z",
        "transferReceived": 7,
        "transferSent": 9,
        "latency": 0,
        "quantumResistance": False,
        "networks": ["10.1.0.0/16", "a.test, b.test"],
    }


def test_what_a_peer_that_is_not_connected_shows_is_blank() -> None:
    found = shown(world(), make.local())["peers"]["details"][1]
    blank = ("connectionType", "lastWireguardHandshake", "transferReceived", "transferSent", "networks")
    assert [found[name] for name in blank] == ["-", "0001-01-01T00:00:00Z", 0, 0, []]
    assert (found["status"], found["iceCandidateEndpoint"]["remote"]) == ("Connecting", "")


def test_a_peer_without_a_path_is_idle() -> None:
    found = shown(world(), make.local(), {})["peers"]["details"][0]
    assert (found["status"], found["lastStatusUpdate"]) == ("Idle", "0001-01-01T00:00:00Z")


def test_what_is_not_as_it_should_be_is_named_as_people_know_it() -> None:
    bad = make.rule("q1", action="drop", protocol="tcp", ports=make.ports((90, 80)))
    routes = (make.route("r1", network_id="office"), make.route("r2", domains=("a.test",), network_id="names"))
    there = make.documents(None, [GW, GW2], routes=routes, rules=[bad])
    found = status(there, make.local(), desired(there, make.local()), PATHS, STUCK)
    assert found.skipped == {
        "route office 10.1.0.0/16": NOBODY_CONNECTED,
        "route names a.test": NOBODY_CONNECTED,
        f"rule q1 of policy {bad.policy_id}": "90-80 are no ports",
    }
    assert found.pending == {"peer gw.whimbrel.test": "busy", "link wt0": ""}


def test_a_routing_peer_serves_what_may_be_routed_and_says_why_not_of_the_rest() -> None:
    there = world(
        make.served("good", "10.5.0.0/16"), make.served("bad", "240.0.0.0/4"), make.served("own", "100.64.7.0/24")
    )
    found = shown(there, make.local(["gw"]))
    assert found["networks"] == ["10.5.0.0/16"]
    assert found["unplaced"] == {
        "route bad 240.0.0.0/4": "240.0.0.0/4 is reserved",
        "route own 100.64.7.0/24": "100.64.7.0/24 lies inside the overlay 100.64.0.0/16",
    }


def test_a_host_without_documents_has_a_status() -> None:
    found = shown(Documents(), make.local())
    assert (found["peers"]["total"], found["fqdn"], found["netbirdIp"]) == (0, "", "")
    assert networks(Documents(), make.local(), desired(Documents(), make.local()), {}) == ()


def test_a_network_shows_who_carries_it() -> None:
    assert listed(world(make.route("r1", network_id="office")), make.local(["gw"])) == [
        {
            "id": "office",
            "network": "10.1.0.0/16",
            "domains": [],
            "selected": True,
            "status": "Selected",
            "resolvedIPs": {},
            "carriedBy": {"peerId": "gw", "fqdn": "gw.whimbrel.test", "status": "Connected"},
            "reason": "",
            "choice": "",
            "chosenAt": "0001-01-01T00:00:00Z",
            "routingPeers": [],
            "names": [],
        }
    ]


def test_a_network_shows_how_each_of_its_routing_peers_stands_best_first() -> None:
    there = world(make.route("r1", network_id="office", by=("gw", "gw2"), metric=7))
    states = (Ranked("gw2", "in use"), Ranked("gw", "withdrawn", "eth1 is gone"))
    rankings: dict[HaKey, Ranking] = {
        ("office", "10.1.0.0/16", ()): Ranking("the one before withdrew: eth1 is gone", WALL, states)
    }
    health = {"gw2": Health(verdict="up", rtt_s=0.0123, loss=0.05)}
    local = make.local(["gw", "gw2"])
    (found,) = networks(there, local, desired(there, local), PATHS, rankings, health)
    assert (found.choice, found.chosen_at.timestamp()) == ("the one before withdrew: eth1 is gone", WALL)
    assert msgspec.to_builtins(found.routing_peers[0]) == {
        "peerId": "gw2",
        "fqdn": "gw2.whimbrel.test",
        "network": "10.1.0.0/16",
        "rank": 1,
        "state": "in use",
        "why": "",
        "metric": 7,
        "latency": 12_300_000,
        "loss": 0.05,
        "path": "direct",
    }
    assert (found.routing_peers[1].rank, found.routing_peers[1].why) == (2, "eth1 is gone")
    deselected = replace(local, selection=Selection(none=True))
    (found,) = networks(there, deselected, desired(there, deselected), PATHS, rankings, health)
    assert found.routing_peers == ()


def test_a_connected_peer_that_answers_probes_shows_how_long_that_takes() -> None:
    there, local, about = world(), make.local(), replace(ABOUT, health={"gw": Health(rtt_s=0.0123)})
    details = status(there, local, desired(there, local), PATHS, about).peers.details
    assert [(one.peer_id, one.latency) for one in details] == [("gw", 12_300_000), ("gw2", 0)]


def test_the_history_tells_who_followed_whom_and_why() -> None:
    plain = {"where": "10.1.0.0/16", "former": "gw", "former_name": "gw.test", "now": "", "now_name": ""}
    switches = [
        Switch(at=WALL, network_id=name, cause="down", reason="the one before does not answer", **plain)
        for name in ("office", "home")
    ]
    assert msgspec.to_builtins(history(switches, "office"), builtin_types=(datetime,)) == (
        {
            "at": datetime.fromtimestamp(WALL, tz=UTC),
            "id": "office",
            "network": "10.1.0.0/16",
            "from": {"peerId": "gw", "fqdn": "gw.test"},
            "to": {"peerId": "", "fqdn": ""},
            "cause": "down",
            "reason": "the one before does not answer",
        },
    )
    assert [one.id for one in history(switches)] == ["office", "home"]


def test_while_a_move_waits_people_see_who_carries_and_who_is_about_to() -> None:
    decided = Ranking(
        "metric 1 instead of 3", 9.0, (Ranked("a", "in use"), Ranked("b", "standby"), Ranked("c", "ready"))
    )
    held = Decision(peer_id="c", reason="the one before does not answer", at=5.0)
    assert as_carried({KEY: decided}, {KEY: held}) == {
        KEY: Ranking(
            "the one before does not answer",
            5.0,
            (
                Ranked("c", "in use"),
                Ranked("a", "standby", "takes over in a moment in which no connection breaks"),
                Ranked("b", "ready"),
            ),
        )
    }
    drains = Ranking("…", 9.0, (Ranked("a", "in use"), Ranked("c", "draining")))
    assert as_carried({KEY: drains}, {KEY: held})[KEY].candidates[0] == Ranked("c", "in use", "draining")


@pytest.mark.parametrize("peer_id", ["", "a", "gone"])
def test_where_no_move_waits_they_see_what_was_decided(peer_id: str) -> None:
    decided = Ranking("metric 1 instead of 3", 9.0, (Ranked("a", "in use"), Ranked("b", "standby")))
    nobody = Ranking("none is usable", 9.0, (Ranked("a", "down"), Ranked("b", "no session")))
    held = Decision(peer_id=peer_id, reason="", at=5.0)
    for one in (decided, nobody):
        assert as_carried({KEY: one}, {KEY: held}) == {KEY: one}
        assert as_carried({KEY: one}, {}) == {KEY: one}


def test_a_network_of_names_shows_what_they_resolve_to() -> None:
    there = world(
        make.route("r1", domains=("a.test",)),
        resolutions=[make.resolution("r1", a_test=["10.1.0.2", "10.1.0.1"], b_test=["10.1.0.3"])],
    )
    (found,) = listed(there, make.local(["gw"]))
    assert (found["network"], found["domains"]) == ("", ["a.test"])
    assert found["resolvedIPs"] == {"a.test": ["10.1.0.1", "10.1.0.2"]}


@pytest.mark.parametrize(
    ("route", "local", "selected", "reason"),
    [
        (make.route("r1"), make.local(), True, "no routing peer is connected"),
        (make.route("r1", "127.0.0.0/8"), make.local(["gw"]), True, "127.0.0.0/8 is loopback"),
        (make.route("r1"), make.local(["gw"], selection=Selection(none=True)), False, ""),
        (make.route("r1", "240.0.0.0/4"), make.local(["gw"]), True, "240.0.0.0/4 is reserved"),
        (make.route("r1", "255.255.255.255/32"), make.local(), True, "255.255.255.255/32 is the broadcast address"),
        (make.route("r1", "no prefix"), make.local(["gw"]), True, "'no prefix' is not a prefix"),
    ],
)
def test_a_network_that_nobody_carries_says_why(route: RouteDoc, local: Local, selected: bool, reason: str) -> None:
    (found,) = listed(world(route), local)
    assert (found["selected"], found["carriedBy"], found["reason"]) == (selected, None, reason)


def test_networks_are_sorted_by_prefix_length_then_address_then_id_and_an_exit_node_is_shown_once() -> None:
    routes = [
        make.route("b", "10.1.0.0/16"),
        make.route("a", "10.1.0.0/16"),
        make.route("wide", "10.0.0.0/8"),
        make.route("exit", "0.0.0.0/0"),
        make.route("exit-v6", "::/0"),
        make.route("names", domains=("a.test",)),
        make.route("unseen", "10.3.0.0/16", by="elsewhere"),
    ]
    found = [(one["id"], one["network"]) for one in listed(world(*routes), make.local(["gw"]))]
    assert found == [
        ("names", ""),
        ("exit", "0.0.0.0/0, ::/0"),
        ("wide", "10.0.0.0/8"),
        ("a", "10.1.0.0/16"),
        ("b", "10.1.0.0/16"),
    ]


def test_a_host_reports_what_became_of_each_route() -> None:
    there = world(
        make.route("installed", "10.1.0.0/16"),
        make.route("waiting", "10.2.0.0/16", by="gw2"),
        make.route("failed", "169.254.0.0/16"),
        make.route("unseen", "10.8.0.0/16", by="elsewhere"),
        make.route("refused-by-kernel", "10.3.0.0/16"),
        make.route("deselected", "10.4.0.0/16"),
        make.served("serving", "10.5.0.0/16"),
        make.served("not-served", "127.0.0.0/8"),
    )
    local = make.local(["gw"], selection=Selection(deselected=frozenset({"deselected"})))
    assert route_states(there, desired(there, local), {"10.3.0.0/16": "busy"}) == (
        RouteState(route_id="failed", state="failed", error="169.254.0.0/16 is link-local"),
        RouteState(route_id="installed", state="installed", routing_peer="gw"),
        RouteState(route_id="not-served", state="failed", error="127.0.0.0/8 is loopback"),
        RouteState(route_id="refused-by-kernel", state="failed", error="busy", routing_peer="gw"),
        RouteState(route_id="serving", state="serving"),
        RouteState(route_id="unseen", state="waiting", error=NO_POLICY),
        RouteState(route_id="waiting", state="waiting", error="no routing peer is connected"),
    )
