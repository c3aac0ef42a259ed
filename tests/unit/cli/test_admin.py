"""`whimbrel admin` against the API on loopback."""

import importlib
import json
import re
import shlex
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from services.management.core.entities import Entity, Ref
from services.management.core.model.upstreams import Upstream
from services.management.errors import RetryLater
from shared.events.documents import ResolvedAddress, ResolvedName
from tests.builders import group, peer, policy, route, rule, setup_key, zone, zone_record
from tests.unit.api.world import SETUP_KEY, World
from tests.unit.cli.conftest import Run

GROUPS = (
    *("routes", "groups", "peers", "policies", "nameservers", "zones", "records", "dns"),
    *("setup_keys", "events", "users"),
)
LISTINGS = ["routes", "groups", "peers", "policies", "nameservers", "setup-keys", "events", "users", "zones"]


NS1 = {"ip": "fd00::1", "ns_type": "udp", "port": 53}
NS2 = {"ip": "fd00::2", "ns_type": "udp", "port": 5300}


def examples() -> Iterator[str]:
    """Every command that a help text shows."""
    for name in GROUPS:
        module = importlib.import_module(f"services.cli.admin.{name}")
        for function in vars(module).values():
            for block in re.findall(r"```\n(.*?)```", getattr(function, "__doc__", None) or "", re.S):
                yield from textwrap.dedent(block).replace("\\\n", "").strip().splitlines()


EXAMPLES = [line for line in examples() if line.startswith("whimbrel ")]


UPSTREAM = Upstream(ip="192.0.2.53", ns_type="udp", port=53)
ZONE = (zone("corp.example", name="corp"), zone_record("corp.example", "wiki.corp.example"))


def made_before() -> list[Entity]:
    """What the examples that create something leave behind for the others."""
    web = rule("web", protocol="tcp", ports=("443",))
    return [
        group("servers"),
        peer("gw2", "gateways", draining=True),
        route("office", peer="gw", masquerade=True),
        policy("web", web),
        setup_key("offices", "OFFICES-KEY"),
        *ZONE,
    ]


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_of_the_help_runs_as_printed(
    example: str, whimbrel: Run, api: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    world = World()
    gone = (Ref("route", "lan"), *([Ref("nameserver-group", "corp")] if " create " in example else []))
    world.change(*([] if " create " in example else made_before()), deletes=gone)
    if example.startswith("whimbrel admin records create"):
        world.change(ZONE[0])
    if example.startswith("whimbrel admin dns "):
        account = world.state.account
        settings = replace(account.settings, resolver_nameservers=(UPSTREAM,))
        world.change(replace(account, settings=settings))
    token = tmp_path / "token"
    token.write_text(world.token("owner"))
    result = whimbrel(*shlex.split(example)[1:], WHIMBREL_ADMIN_API=api, WHIMBREL_TOKEN_FILE=str(token))
    assert (result.code, result.err.removesuffix("keep the key: it is not shown again\n")) == (0, "")
    changed = not re.search(r" (list|get|accessible|current)\b", example)
    assert bool(world.commits) is changed


def test_every_command_of_every_group_has_an_example() -> None:
    shown = {tuple(example.split()[2:4]) for example in EXAMPLES}
    listed = (*LISTINGS[:6], "zones", "records")
    everything = {(name, what) for name in listed for what in ("list", "get", "create", "update", "delete")}
    others = {
        ("peers", "accessible"),
        ("peers", "drain"),
        ("peers", "undrain"),
        ("dns", "get"),
        ("dns", "update"),
        ("events", "list"),
        ("users", "list"),
        ("users", "current"),
    }
    assert shown == everything - {("peers", "create")} | others


@pytest.mark.parametrize("example", EXAMPLES)
def test_no_example_is_wrapped_by_a_narrow_terminal(example: str, whimbrel: Run) -> None:
    group, command = example.split()[2:4]
    shown = whimbrel("admin", group, command, "--help", COLUMNS="80").out
    joined = re.sub(r" *\\ *\n *", " ", shown)
    assert " ".join(example.split()) in " ".join(joined.split())
    assert any(line.strip().startswith("whimbrel admin") for line in shown.splitlines())


@pytest.mark.parametrize("what", LISTINGS)
def test_json_is_what_the_api_answers(what: str, admin: Run, world: World) -> None:
    result = admin(what, "list", "--json")
    assert isinstance(json.loads(result.out), list)


def test_a_table_has_one_line_for_each_object(admin: Run) -> None:
    lines = admin("routes", "list").out.splitlines()
    assert lines[0].split() == [
        "ID",
        "NETWORK",
        "ID",
        "ROUTES",
        "PEER",
        "PEER",
        "GROUPS",
        "GROUPS",
        "METRIC",
        "ENABLED",
    ]
    assert lines[1].split() == ["lan", "lan", "10.0.0.0/24", "gw", "office", "100", "yes"]
    assert lines[2].split() == ["wiki", "wiki", "bücher.example", "gateways", "All", "9999", "yes"]
    assert len(lines) == 3


def test_no_line_that_is_piped_ends_with_blanks(admin: Run) -> None:
    for arguments in (["routes", "list"], ["routes", "get", "lan"], ["policies", "list"], ["users", "current"]):
        lines = admin(*arguments).out.splitlines()
        assert lines == [line.rstrip() for line in lines]


def test_warnings_are_told_in_words(admin: Run) -> None:
    shown = admin("routes", "update", "lan", "--metric", "5").out
    assert "open-route: no access control groups: every member of office may send everything" in shown


def created(admin: Run, *arguments: str) -> dict[str, Any]:
    result = admin("routes", "create", "--network-id", "new", "--groups", "All", "--json", *arguments)
    assert result.code == 0, result.err
    found: dict[str, Any] = json.loads(result.out)
    return found


def test_r3_a_prefix_gets_masquerade_and_no_keep_route(admin: Run) -> None:
    shown = created(admin, "--network", "10.9.0.0/24", "--peer", "gw")
    assert (shown["masquerade"], shown["keep_route"], shown["enabled"], shown["metric"]) == (True, False, True, 9999)


def test_r3_names_get_masquerade_and_keep_route(admin: Run) -> None:
    shown = created(admin, "--domain", "a.example", "--domain", "b.example", "--peer-group", "gateways")
    assert (shown["masquerade"], shown["keep_route"]) == (True, True)
    assert shown["domains"] == ["a.example", "b.example"]


def test_r3_what_is_said_comes_before_what_is_preselected(admin: Run) -> None:
    off = ("--no-masquerade", "--no-keep-route", "--no-enabled")
    shown = created(admin, "--domain", "a.example", "--peer", "gw", *off)
    assert (shown["masquerade"], shown["keep_route"], shown["enabled"]) == (False, False, False)
    shown = created(admin, "--network", "10.9.0.0/24", "--peer", "gw", "--keep-route")
    assert shown["keep_route"] is True


def test_ids_and_names_are_both_taken(admin: Run) -> None:
    by_name = created(admin, "--network", "10.9.0.0/24", "--peer", "gw", "--access-control-group", "office")
    by_id = created(
        admin, "--network", "10.8.0.0/24", "--peer", "gw", "--access-control-group", "office", "--group", "all"
    )
    assert by_name["groups"] == ["all"]
    assert by_id["groups"] == ["all"]
    assert by_name["access_control_groups"] == ["office"]


@pytest.mark.parametrize(
    ("arguments", "changed"),
    [
        (["--metric", "5"], {"metric": 5}),
        (["--no-masquerade"], {"masquerade": False}),
        (["--description", "x"], {"description": "x"}),
        (["--network", "10.0.1.0/24"], {"network": "10.0.1.0/24"}),
        (["--domain", "a.example"], {"network": "192.0.2.0/32", "domains": ["a.example"], "network_type": "Domain"}),
        (["--peer", "gw2"], {"peer": "gw2"}),
        (["--peer-group", "gateways"], {"peer": "", "peer_groups": ["gateways"]}),
        (["--groups", "All", "--groups", "office"], {"groups": ["all", "office"]}),
        (["--access-control-group", "unused"], {"access_control_groups": ["unused"]}),
        (["--probe", "icmp:10.0.0.9"], {"probe": {"icmp": "10.0.0.9", "interval_ms": 200}}),
        (
            ["--probe", "tcp:10.0.0.9:443", "--probe-interval", "1000"],
            {"probe": {"tcp": "10.0.0.9:443", "interval_ms": 1000}},
        ),
        (
            ["--no-masquerade", "--return-address", "10.0.0.250"],
            {"masquerade": False, "return_address": "10.0.0.250"},
        ),
    ],
)
def test_an_update_changes_what_is_given_and_leaves_the_rest(
    arguments: list[str], changed: dict[str, Any], admin: Run
) -> None:
    before = json.loads(admin("routes", "get", "lan", "--json").out)
    del before["status"]
    result = admin("routes", "update", "lan", "--json", *arguments)
    assert result.code == 0, result.err
    after = json.loads(result.out)
    assert after | {"warnings": []} == before | {"warnings": []} | changed


def test_a_domain_route_keeps_its_names_through_an_update(admin: Run) -> None:
    after = json.loads(admin("routes", "update", "wiki", "--metric", "5", "--json").out)
    assert (after["domains"], after["peer_groups"], after["metric"]) == (["bücher.example"], ["gateways"], 5)


def test_an_empty_access_control_group_takes_all_away(admin: Run) -> None:
    admin("routes", "update", "lan", "--access-control-group", "unused")
    after = json.loads(admin("routes", "update", "lan", "--access-control-group", "", "--json").out)
    assert "access_control_groups" not in after


def test_probe_and_return_address_come_with_a_route_stay_and_go(admin: Run) -> None:
    ends = ("--network", "fd77::/64", "--peer", "gw", "--no-masquerade")
    asked = ("--probe", "tcp:[fd77::9]:443", "--return-address", "fd77::250")
    fields = {"probe": {"tcp": "[fd77::9]:443", "interval_ms": 200}, "return_address": "fd77::250"}
    assert created(admin, *ends, *asked).items() >= fields.items()
    assert json.loads(admin("routes", "update", "new", "--metric", "5", "--json").out).items() >= fields.items()
    slower = json.loads(admin("routes", "update", "new", "--probe-interval", "500", "--json").out)
    assert slower["probe"] == {"tcp": "[fd77::9]:443", "interval_ms": 500}
    after = json.loads(admin("routes", "update", "new", "--probe", "", "--return-address", "", "--json").out)
    assert not fields.keys() & after.keys()


@pytest.mark.parametrize("change", [["--masquerade"], ["--domain", "a.example"], ["--network", "10.7.0.0/24"]])
def test_what_an_update_makes_impossible_goes_with_a_warning(change: list[str], admin: Run) -> None:
    admin("routes", "update", "lan", "--no-masquerade", "--return-address", "10.0.0.250")
    result = admin("routes", "update", "lan", "--json", *change)
    assert result.code == 0, result.err
    after = json.loads(result.out)
    assert "return_address" not in after
    assert "return-address-removed" in [warning["code"] for warning in after["warnings"]]


def test_an_update_is_made_anew_when_somebody_else_was_faster(admin: Run, world: World) -> None:
    world.race(route("lan", "10.0.0.0/24", peer="gw", groups=("office",), metric=100, description="theirs"))
    after = json.loads(admin("routes", "update", "lan", "--metric", "7", "--json").out)
    assert (after["metric"], after["description"]) == (7, "theirs")


def test_an_update_that_always_loses_says_so(admin: Run, world: World) -> None:
    for n in range(3):
        world.race(group(f"rival{n}"))
    result = admin("routes", "update", "lan", "--metric", "7")
    assert (result.code, result.err) == (1, "error: the account has changed since, read it again\n")


@pytest.mark.parametrize(
    ("arguments", "changed"),
    [
        (["--name", "x"], {"name": "x"}),
        (["--nameserver", "fd00::1", "--nameserver", "[fd00::2]:5300"], {"nameservers": [NS1, NS2]}),
        (["--domain", "a.example", "--search-domains"], {"domains": ["a.example"], "search_domains_enabled": True}),
        (["--primary"], {"primary": True, "domains": []}),
        (["--group", "All"], {"groups": ["all"]}),
        (["--no-enabled"], {"enabled": False}),
    ],
)
def test_an_update_of_nameservers_changes_what_is_given(
    arguments: list[str], changed: dict[str, Any], admin: Run
) -> None:
    before = json.loads(admin("nameservers", "get", "corp", "--json").out)
    result = admin("nameservers", "update", "corp", "--json", *arguments)
    assert result.code == 0, result.err
    assert json.loads(result.out) == before | changed


def test_primary_nameservers_become_ordinary_ones_with_a_domain(admin: Run) -> None:
    admin("nameservers", "update", "corp", "--search-domains")
    admin("nameservers", "update", "corp", "--primary")
    shown = json.loads(admin("nameservers", "update", "corp", "--domain", "b.example", "--json").out)
    assert (shown["primary"], shown["domains"], shown["search_domains_enabled"]) == (False, ["b.example"], False)


def test_nameservers_are_listed_as_people_write_them(admin: Run) -> None:
    admin("nameservers", "create", "--name", "all", "--nameserver", "9.9.9.9:5353", "--primary", "--groups", "All")
    lines = [" ".join(line.split()) for line in admin("nameservers", "list").out.splitlines()]
    assert lines == [
        "ID NAME NAMESERVERS ANSWER FOR GROUPS ENABLED",
        "corp corp 10.0.0.53 bücher.example office yes",
        "new-1 all 9.9.9.9:5353 everything else All yes",
    ]


def test_nameservers_that_are_none_are_refused_in_one_line(admin: Run) -> None:
    command = ("nameservers", "create", "--name", "x", "--groups", "All", "--primary", "--nameserver")
    assert admin(*command, "dns.example").err == "error: nameservers: 'dns.example' is not an address\n"
    assert (
        admin(*command, "10.0.0.1:99999").err == "error: nameservers: port must be between 1 and 65535, it is 99999\n"
    )
    missing = admin("nameservers", "get", "missing")
    assert missing.err == "error: there is no nameserver group 'missing': see `whimbrel admin nameservers list`\n"


def test_members_come_and_go_by_name(admin: Run) -> None:
    result = admin("groups", "update", "office", "--add-peer", "gw", "--remove-peer", "laptop", "--json")
    assert json.loads(result.out)["peers"] == [{"id": "gw", "name": "gw"}]
    assert json.loads(admin("groups", "update", "office", "--peers", "laptop", "--json").out)["peers_count"] == 1


def test_a_policy_is_made_and_changed_with_one_rule(admin: Run) -> None:
    made = (
        "--source",
        "office",
        "--destination-peer",
        "gw",
        "--protocol",
        "tcp",
        "--port",
        "22",
        "--port",
        "8000-8010",
    )
    shown = json.loads(admin("policies", "create", "--name", "ssh", *made, "--json").out)
    [rule] = shown["rules"]
    assert [group["name"] for group in rule["sources"]] == ["office"]
    assert rule["destinationResource"] == {"id": "gw", "type": "peer"}
    assert rule["port_ranges"] == [{"start": 22, "end": 22}, {"start": 8000, "end": 8010}]
    change = ("--destination", "gateways", "--port", "22", "--action", "drop", "--no-enabled")
    after = json.loads(admin("policies", "update", "ssh", *change, "--json").out)
    assert after["enabled"] is False
    assert after["rules"] == [
        {name: value for name, value in rule.items() if name not in ("destinationResource", "port_ranges")}
        | {"action": "drop", "ports": ["22"], "destinations": after["rules"][0]["destinations"]}
    ]
    assert [group["name"] for group in after["rules"][0]["destinations"]] == ["gateways"]


def test_where_people_read_there_are_names_instead_of_ids(admin: Run, world: World) -> None:
    gateway = replace(world.state.peers["gw"], name="gateway-1")
    world.change(gateway, group("g1", id="group-1"), route("new", "10.9.0.0/24", peer="gw", groups=("group-1",)))
    update = ("update", "new", "--access-control-group", "g1")
    for arguments in (["get", "new"], update, ["list"]):
        shown = admin("routes", *arguments).out
        assert "gateway-1" in shown
        assert "g1" in shown
        assert "group-1" not in shown
    ends = ("--source-peer", "gateway-1", "--destination", "g1", "--protocol", "tcp", "--port", "22", "--port", "80-81")
    for arguments in (["create", "--name", "p", *ends], ["get", "p"], ["list"]):
        assert "accept tcp 22,80-81 gateway-1 → g1" in admin("policies", *arguments).out
    for arguments in (["create", "--name", "k", "--auto-group", "g1", "--expires-in", "0"], ["get", "k"]):
        fields = dict(line.split(None, 1) for line in admin("setup-keys", *arguments).out.splitlines())
        read = {name: fields[name].strip() for name in ("auto_groups", "expires", "last_used", "usage_limit")}
        assert read == {"auto_groups": "g1", "expires": "never", "last_used": "never", "usage_limit": "none"}


def test_the_audit_trail_tells_names(admin: Run) -> None:
    admin("groups", "update", "unused", "--add-peer", "gw")
    [_, line] = admin("events", "list", "--limit", "1").out.splitlines()
    assert line.split(None, 1)[1].split()[:4] == ["Group", "added", "to", "peer"]
    assert "group unused" in line
    assert "peer_fqdn gw.whimbrel.test" in line
    assert "group_id" not in line


def test_a_token_says_whose_it_is_and_what_it_may(admin: Run, world: World, tmp_path: Path) -> None:
    token = tmp_path / "auditor.token"
    token.write_text(world.token("network admin"))
    shown = admin("users", "current", "--token-file", str(token)).out
    fields = dict(line.split(None, 1) for line in shown.splitlines() if len(line.split()) > 1)
    assert fields["name"].strip() == "Network-Admin"
    assert fields["may_write"].strip() == "routes, groups, policies, nameservers, dns"
    assert (
        fields["may_read"].strip().startswith("routes, groups, policies, nameservers, dns, peers, setup_keys, events")
    )


def test_who_may_not_is_told_where_it_says_so(admin: Run, world: World, tmp_path: Path) -> None:
    token = tmp_path / "auditor.token"
    token.write_text(world.token("auditor"))
    result = admin("groups", "delete", "unused", "--token-file", str(token))
    assert (result.code, result.err) == (
        1,
        "error: permission denied: `whimbrel admin users current` shows what the token may do\n",
    )


def test_one_route_is_shown_with_its_warnings(admin: Run) -> None:
    assert "open-route: " in admin("routes", "get", "lan").out
    assert [w["code"] for w in json.loads(admin("routes", "get", "lan", "--json").out)["warnings"]] == ["open-route"]


@pytest.mark.parametrize("by", ["gw", "gw.whimbrel.test", "ip", "ipv6"])
def test_g6_a_peer_is_drained_and_undrained(admin: Run, world: World, by: str) -> None:
    gateway = json.loads(admin("peers", "get", "gw", "--json").out)
    wanted = gateway.get(by, by)
    drained = json.loads(admin("peers", "drain", wanted, "--json").out)
    assert drained == gateway | {"draining": True, "warnings": drained["warnings"]}
    assert [warning["code"] for warning in drained["warnings"]] == ["only-routing-peer"]
    assert json.loads(admin("peers", "update", "gw", "--ssh-enabled", "--json").out)["draining"] is True
    assert "only-routing-peer: nobody else serves lan: clients stay with gw" in admin("peers", "get", "gw").out
    after = json.loads(admin("peers", "undrain", wanted, "--json").out)
    assert (after["draining"], after["warnings"]) == (False, [])
    assert [a.code for commit in world.commits for a in commit.activities][-1] == "peer.drain.disable"


def test_one_route_is_shown_with_who_serves_it(admin: Run, world: World) -> None:
    world.server.facts.users[world.account, "wiki", "gw2"] = 3
    lines = admin("routes", "get", "wiki").out.splitlines()
    start = lines.index("")
    assert lines[start + 1].split()[:5] == ["ROUTING", "PEER", "CLIENTS", "CONNECTED", "DRAINING"]
    assert [line.split()[:4] for line in lines[start + 2 :]] == [["gw", "0", "no", "no"], ["gw2", "3", "no", "no"]]


def test_a_peer_gets_a_new_ipv6_address(admin: Run) -> None:
    assert json.loads(admin("peers", "update", "gw", "--ipv6", "fd00:64::aa", "--json").out)["ipv6"] == "fd00:64::aa"


def test_ports_go_with_the_protocol_that_had_them(admin: Run, world: World) -> None:
    world.change(policy("web", rule("web", protocol="tcp", ports=("443",))))
    refused = admin("policies", "update", "web", "--protocol", "icmp")
    assert (refused.code, refused.err) == (
        1,
        'error: protocol icmp has no ports: give --protocol tcp or udp, or --port "" for no ports\n',
    )
    [ping] = json.loads(admin("policies", "update", "web", "--protocol", "icmp", "--port", "", "--json").out)["rules"]
    assert (ping["protocol"], ping.get("ports")) == ("icmp", None)


def test_rules_of_a_policy_with_several_are_for_the_api(admin: Run, world: World) -> None:
    world.change(policy("two", rule("a"), rule("b")))
    assert admin("policies", "update", "two", "--no-enabled").code == 0
    result = admin("policies", "update", "two", "--action", "drop")
    assert (result.code, result.err) == (1, "error: policy two has 2 rules: change them through the API\n")


def test_a_setup_key_is_printed_once(admin: Run) -> None:
    result = admin("setup-keys", "create", "--name", "new", "--auto-group", "office", "--usage-limit", "3")
    assert result.out.count(SETUP_KEY) == 1
    assert result.err == "keep the key: it is not shown again\n"
    assert json.loads(admin("setup-keys", "create", "--name", "other", "--json").out)["key"] == SETUP_KEY
    for arguments in (["list"], ["get", "new"], ["list", "--json"], ["update", "new", "--revoke"]):
        again = admin("setup-keys", *arguments)
        assert again.code == 0
        assert SETUP_KEY not in again.out + again.err


def test_a_setup_key_alone_is_printed_for_scripts(admin: Run) -> None:
    result = admin("setup-keys", "create", "--name", "new", "--quiet")
    assert result == (0, SETUP_KEY + "\n", "")


def test_a_setup_key_goes_into_a_file_of_its_owner_and_is_not_printed(admin: Run, tmp_path: Path) -> None:
    file = tmp_path / "key"
    result = admin("setup-keys", "create", "--name", "new", "--output", str(file))
    assert (result.code, result.err) == (0, "")
    assert SETUP_KEY not in result.out
    assert f"in {file}" in result.out
    assert (file.read_text(), file.stat().st_mode & 0o777) == (SETUP_KEY + "\n", 0o600)


def test_a_file_that_is_there_costs_no_key_and_stays(admin: Run, tmp_path: Path, world: World) -> None:
    file = tmp_path / "key"
    file.write_text("another key")
    result = admin("setup-keys", "create", "--name", "new", "--output", str(file))
    assert (result.code, result.out) == (1, "")
    assert result.err == f"error: --output {file}: File exists: name a new file in a folder that is there\n"
    assert (file.read_text(), world.commits) == ("another key", [])


def test_a_key_that_is_refused_leaves_no_file(admin: Run, tmp_path: Path) -> None:
    file = tmp_path / "key"
    result = admin("setup-keys", "create", "--name", " ", "--output", str(file))
    assert (result.code, result.out) == (1, "")
    assert not file.exists()


def test_a_revoked_key_keeps_its_groups(admin: Run) -> None:
    after = json.loads(admin("setup-keys", "update", "valid", "--revoke", "--json").out)
    assert (after["revoked"], after["auto_groups"]) == (True, ["office"])


NEW = ("--network-id", "x", "--groups", "All")
ENDS = ("--source", "All", "--destination", "All")
ERRORS = [
    (["routes", "get", "missing"], "there is no route 'missing'"),
    (["routes", "create", *NEW, "--peer", "gw"], "give either --network or --domain"),
    (["routes", "create", *NEW, "--domain", "x.y"], "give either --peer or --peer-group"),
    (
        ["routes", "create", *NEW, "--peer", "gw", "--network", "10.0.0.0/8", "--domain", "x.y"],
        "give either --network or --domain, not both",
    ),
    (
        ["routes", "update", "lan", "--peer", "gw", "--peer-group", "gateways"],
        "give either --peer or --peer-group, not both",
    ),
    (["routes", "delete", ""], "there is no route ''"),
    (
        ["routes", "update", "lan", "--probe", "10.0.0.9"],
        "--probe '10.0.0.9': write icmp:192.168.77.10 or tcp:192.168.77.10:8080",
    ),
    (
        ["routes", "update", "lan", "--probe-interval", "500"],
        "--probe-interval is of a probe, and the route has none: give --probe as well",
    ),
    (["groups", "delete", "All"], "group all holds every peer and cannot be deleted"),
    (["groups", "create", "--name", "office"], "a group with the name office exists already: choose another name"),
    (
        ["groups", "create", "--name", "x", "--peer", "nobody"],
        "there is no peer 'nobody': see `whimbrel admin peers list`",
    ),
    (["peers", "update", "gw", "--ip", "10.0.0.1"], "ip: "),
    (["policies", "get", "missing"], "there is no policy 'missing'"),
    (["policies", "create", "--name", "x", "--source", "All"], "give either --destination or --destination-peer"),
    (
        ["policies", "update", "Default", "--source", "All", "--source-peer", "gw"],
        "give either --source or --source-peer, not both",
    ),
    (["policies", "create", "--name", "x", *ENDS, "--port", "a-b"], "--port: 'a-b' is no port"),
    (["policies", "create", "--name", "x", *ENDS, "--port", "80"], "protocol all has no ports: give --protocol tcp"),
    (["policies", "update", "Default", "--port", "80"], "protocol all has no ports: give --protocol tcp or udp"),
    (["events", "list", "--limit", "-1"], 'Invalid value "-1" for --limit'),
    (["events", "list", "--limit", "0"], 'Invalid value "0" for --limit'),
    (["setup-keys", "create", "--name", "x", "--expires-in=-1d"], "--expires-in: '-1d' is no duration"),
    (["setup-keys", "create", "--name", "x", "--expires-in", "soon"], "--expires-in: 'soon' is no duration"),
    (["setup-keys", "delete", "missing"], "there is no setup key 'missing'"),
    (["routes", "update", "lan", "--metric", "high"], 'Invalid value for --metric: unable to convert "high" into int'),
    (["routes", "create", "--network", "10.0.0.0/8"], 'Command "admin routes create" parameter --network-id'),
    (["routes", "forget"], 'Unknown command "forget"'),
    (["networks", "list"], 'Unknown command "networks"'),
]


@pytest.mark.parametrize(("arguments", "message"), ERRORS, ids=[" ".join(case[0]) for case in ERRORS])
def test_an_error_is_one_line_with_code_1(arguments: list[str], message: str, admin: Run, world: World) -> None:
    result = admin(*arguments)
    assert result.code != 0
    assert result.out == ""
    assert result.err.startswith(f"error: {message}")
    assert result.err.count("\n") == 1
    assert world.commits == []


def test_an_ambiguous_name_is_answered_with_the_ids(admin: Run, world: World) -> None:
    world.change(route("second", "10.0.0.0/24", network_id="lan", peer="gw2"))
    result = admin("routes", "delete", "lan")
    assert result.code == 0  # an id comes before a name
    world.change(route("third", "10.3.0.0/24", network_id="lan"))
    result = admin("routes", "delete", "lan")
    assert result.err == "error: 2 routes are called 'lan': use one of the ids second, third\n"


@pytest.mark.parametrize("json_wanted", [(), ("--json",)])
def test_no_api_is_one_line(json_wanted: tuple[str, ...], whimbrel: Run, token_file: Path) -> None:
    result = whimbrel("admin", "routes", "list", "--api", "127.0.0.1:1", "--token-file", str(token_file), *json_wanted)
    line = "error: no API answers at http://127.0.0.1:1: start `whimbrel server` or correct --api\n"
    assert result == (1, "", line)


@pytest.mark.parametrize(
    "address", ["http://", "http://[::1", "ftp://127.0.0.1", "http://127.0.0.1:99999", "http://a b"]
)
def test_what_is_no_address_is_one_line(address: str, whimbrel: Run, token_file: Path) -> None:
    result = whimbrel("admin", "routes", "list", "--api", address, "--token-file", str(token_file))
    assert result.code == 1
    assert result.err.startswith("error: ")
    assert result.err.count("\n") == 1


def test_the_address_may_be_written_in_several_ways(whimbrel: Run, api: str, token_file: Path) -> None:
    for address in (api, f"{api}/", f"{api}/api", api.removeprefix("http://")):
        assert whimbrel("admin", "routes", "list", "--api", address, "--token-file", str(token_file)).code == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file or directory"),
        (b"", "holds no access token"),
        (b"two words", "holds no access token"),
        (b"\xff\xfe", "holds no access token"),
        (b"nbp_unknown", "token missing, unknown, expired or its user is blocked"),
    ],
)
def test_a_bad_token_file_is_one_line(
    content: bytes | None, message: str, whimbrel: Run, api: str, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    result = whimbrel("admin", "routes", "list", "--api", api, "--token-file", str(file))
    assert result.code == 1
    assert f"token file {file}" in result.err
    assert message in result.err
    assert "the server writes admin.token into its data directory" in result.err
    assert result.err.count("\n") == 1
    assert content is None or not content or content.decode("latin-1") not in result.err


def test_no_token_file_is_one_line_with_the_remedy(whimbrel: Run, api: str) -> None:
    result = whimbrel("admin", "routes", "list", "--api", api)
    assert result.err == (
        "error: no access token: name its file with --token-file or WHIMBREL_TOKEN_FILE; "
        "the server writes admin.token into its data directory\n"
    )


def test_a_silent_bus_is_told_in_the_apis_words(admin: Run, world: World) -> None:
    world.server.log.fail(RetryLater("the bus", 12.0))
    result = admin("groups", "create", "--name", "new")
    assert (result.code, result.err) == (1, "error: the bus does not answer, try again later\n")


def test_names_never_act_on_the_terminal(admin: Run, world: World) -> None:
    world.change(replace(peer("evil"), name="\x1b[31mred\x1b]0;title\x07\nline [bold]"))
    out = admin("peers", "list").out
    assert "\x1b" not in out
    assert "\x07" not in out
    assert "�[31mred�]0;title��line [bold]" in out


def test_the_token_is_never_printed(admin: Run, world: World) -> None:
    for arguments in (["routes", "list"], ["routes", "list", "--json"], ["events", "list"], ["routes", "get", "x"]):
        result = admin(*arguments)
        assert world.token("owner") not in result.out + result.err


def test_zones_are_listed_and_shown_with_their_records(admin: Run, world: World) -> None:
    world.change(*ZONE, deletes=(Ref("zone", "lab.example"), Ref("zone-record", "www.lab.example")))
    listed = [" ".join(line.split()) for line in admin("zones", "list").out.splitlines()]
    assert listed[:2] == [
        "ID NAME DOMAIN RECORDS GROUPS ENABLED",
        "corp.example corp corp.example 1 All yes",
    ]
    shown = [" ".join(line.split()) for line in admin("zones", "get", "corp").out.splitlines()]
    assert shown[-2:] == [
        "ID RECORD TYPE CONTENT TTL",
        "wiki.corp.example wiki.corp.example A 10.0.0.80 300",
    ]


def test_an_update_of_a_zone_changes_what_is_given(admin: Run, world: World) -> None:
    world.change(*ZONE)
    before = json.loads(admin("zones", "get", "corp", "--json").out)
    result = admin("zones", "update", "corp", "--search-domain", "--group", "office", "--json")
    assert result.code == 0, result.err
    assert json.loads(result.out) == before | {"enable_search_domain": True, "distribution_groups": ["office"]}
    assert admin("zones", "delete", "corp").out == "deleted zone corp.example (corp) with 1 records\n"


@pytest.mark.parametrize("name", ["wiki", "wiki.corp.example", "wiki.corp.example."])
def test_a_record_is_found_by_its_name_with_the_zones_domain_or_without(name: str, admin: Run, world: World) -> None:
    world.change(*ZONE)
    result = admin("records", "update", "corp", name, "--content", "10.0.0.81", "--json")
    assert result.code == 0, result.err
    expected = {"id": "wiki.corp.example", "name": "wiki.corp.example", "type": "A", "content": "10.0.0.81", "ttl": 300}
    assert json.loads(result.out) == expected
    assert (
        admin("records", "delete", "corp", name).out
        == "deleted record wiki.corp.example (wiki.corp.example A 10.0.0.81)\n"
    )


def test_of_several_records_of_a_name_the_type_or_the_id_says_which(admin: Run, world: World) -> None:
    world.change(*ZONE)
    admin("records", "create", "corp", "--name", "wiki", "--type", "aaaa", "--content", "fd00::80")
    assert admin("records", "get", "corp", "wiki").err == (
        "error: zone corp has 2 records 'wiki', give the id of one: "
        "new-1 (AAAA fd00::80), wiki.corp.example (A 10.0.0.80)\n"
    )
    assert json.loads(admin("records", "get", "corp", "wiki", "--type", "aaaa", "--json").out)["content"] == "fd00::80"
    assert json.loads(admin("records", "get", "corp", "new-1", "--json").out)["content"] == "fd00::80"
    assert admin("records", "get", "corp", "www").err == (
        "error: zone corp has no record 'www': see `whimbrel admin records list corp`\n"
    )


def test_dns_of_the_account_changes_as_given_and_the_rest_stays(admin: Run) -> None:
    before = json.loads(admin("dns", "get", "--json").out)
    given = ("--resolver-nameserver", "10.0.0.53:5300", "--resolver-nameserver", "tls://[fd00::53]:8853#dns.example")
    shown = json.loads(admin("dns", "update", *given, "--unmanaged-group", "office", "--json").out)
    servers = [
        {"ip": "10.0.0.53", "ns_type": "udp", "port": 5300, "name": ""},
        {"ip": "fd00::53", "ns_type": "tls", "port": 8853, "name": "dns.example"},
    ]
    assert shown == before | {"resolver_nameservers": servers, "disabled_management_groups": ["office"]}
    readable = dict(line.split(maxsplit=1) for line in admin("dns", "get").out.splitlines())
    assert readable["resolver_nameservers"] == "10.0.0.53:5300, tls://[fd00::53]:8853#dns.example"
    assert readable["disabled_management_groups"] == "office"
    assert (
        json.loads(admin("dns", "update", "--no-resolver-nameservers", "--no-unmanaged-groups", "--json").out) == before
    )


def test_a_route_shows_its_names_and_who_answered_for_them(admin: Run, world: World) -> None:
    addresses = (ResolvedAddress("192.0.2.1", 5.0, 86_400.0), ResolvedAddress("2001:db8::1", 9.0, 0.0))
    names = (ResolvedName("xn--bcher-kva.example", addresses, "peer:gw"),)
    world.server.facts.names[world.account, "wiki"] = names
    shown = [" ".join(line.split()) for line in admin("routes", "get", "wiki").out.splitlines()]
    assert shown[-3:] == [
        "NAME ADDRESS KEPT UNTIL ANSWERED BY",
        "bücher.example 192.0.2.1 1970-01-02T00:00:00Z routing peer gw",
        "bücher.example 2001:db8::1 routing peer gw",
    ]
