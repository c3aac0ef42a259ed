"""Settings of the account over REST (reference control-plane §1.11, decision R7)."""

from typing import Any

import pytest
from msgspec.structs import replace

from services.management.core.model.account import AccountSettings
from tests import builders
from tests.builders import NOW, route, zone
from tests.unit.api.world import World, problem

PATH = "accounts/{account}"
RESOLUTION = "routing_peer_dns_resolution_enabled"
LONGEST = ".".join(["a" * 63, "b" * 63, "c" * 61])


async def put(world: World, **settings: Any) -> Any:
    answer = await world.call("PUT", PATH, {"settings": settings})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def refused(world: World, **settings: Any) -> tuple[int, str]:
    status = problem(await world.call("PUT", PATH, {"settings": settings}))
    assert world.commits == []
    return status


async def test_what_is_absent_stays_as_it_is() -> None:
    world = World()
    [before] = await world.get("accounts")
    shown = await put(world, **{RESOLUTION: False})
    assert shown == before | {"settings": before["settings"] | {RESOLUTION: False}}
    assert (await put(world, dns_domain="new.test"))["settings"] == shown["settings"] | {"dns_domain": "new.test"}
    assert await world.get("accounts") == [before | {"settings": shown["settings"] | {"dns_domain": "new.test"}}]


async def test_what_is_shown_may_be_sent_back() -> None:
    world = World()
    [before] = await world.get("accounts")
    assert (await world.call("PUT", PATH, before)).json() == before
    assert (await world.call("PUT", PATH, {"settings": {}})).json() == before
    assert world.commits == []


@pytest.mark.parametrize(
    ("given", "domain"),
    [
        ("Corp.Example.", "corp.example"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("lan", "lan"),
        (LONGEST, LONGEST),
    ],
)
async def test_the_peers_names_end_with_another_domain(given: str, domain: str) -> None:
    world = World()
    assert (await put(world, dns_domain=given))["settings"]["dns_domain"] == domain
    assert (await world.get("peers/gw"))["dns_label"] == f"gw.{domain}"
    [event] = await world.get("events")
    assert (event["activity_code"], event["target_id"]) == ("account.dns.domain.update", world.account)
    assert event["meta"] == {"old_dns_domain": "whimbrel.test", "new_dns_domain": domain}


@pytest.mark.parametrize(
    "domain",
    ["", ".", "*.corp.example", "corp..example", "-x.y", LONGEST + "c", "lab.example", "w.lab.example", "example"],
)
async def test_what_cannot_be_the_peers_domain_is_refused(domain: str) -> None:
    status, message = await refused(World(), dns_domain=domain)
    assert (status, message.partition(":")[0]) == (422, "dns_domain")


async def test_a_zone_keeps_its_domain_from_the_peers_as_they_keep_theirs_from_a_zone() -> None:
    world = World(zone("corp.example"))
    assert await refused(world, dns_domain="corp.example") == (
        422,
        "dns_domain: zone corp.example and the domain corp.example of the peers overlap: choose another",
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("peer_login_expiration_enabled", False),
        ("peer_login_expiration", 3600),
        ("peer_inactivity_expiration_enabled", True),
        ("peer_inactivity_expiration", 3600),
        ("groups_propagation_enabled", False),
        ("regular_users_view_blocked", False),
        ("network_range", "100.65.0.0/16"),
        ("network_range_v6", "fd00:65::/64"),
    ],
)
async def test_what_cannot_be_changed_yet_is_refused_and_not_ignored(field: str, value: Any) -> None:
    assert await refused(World(), **{field: value, RESOLUTION: False}) == (
        422,
        f"{field} cannot be changed yet: leave it as it is, or out",
    )


async def test_settings_must_be_there_and_the_account_must_be_the_callers() -> None:
    world = World()
    assert problem(await world.call("PUT", PATH, {})) == (422, "settings must be given")
    assert problem(await world.call("PUT", f"accounts/{World().account}", {"settings": {}}))[0] == 404


async def test_r7_resolution_by_routing_peers_goes_off_and_on() -> None:
    world = World()
    for on in (False, False, True):
        assert (await put(world, **{RESOLUTION: on}))["settings"][RESOLUTION] is on
    codes = [event["activity_code"] for event in await world.get("events")]
    assert codes == [
        "account.setting.routing.peer.dns.resolution.enable",
        "account.setting.routing.peer.dns.resolution.disable",
    ]


@pytest.mark.parametrize("enabled", [True, False])
async def test_r7_it_stays_on_while_a_route_has_a_wildcard_that_is_switched_off_or_not(enabled: bool) -> None:
    world = World(route("wild", domains=("a.example", "*.b.example"), peer="gw", enabled=enabled))
    assert await refused(world, **{RESOLUTION: False}) == (
        412,
        "routing_peer_dns_resolution_enabled: wildcards of route wild need it: change or delete them first",
    )
    await world.call("DELETE", "routes/wild")
    assert (await put(world, **{RESOLUTION: False}))["settings"][RESOLUTION] is False


async def test_r7_while_it_is_off_no_route_gets_a_wildcard() -> None:
    world = World()
    off = AccountSettings(routing_peer_dns_resolution_enabled=False)
    world.change(replace(builders.account(world.account), created_at=NOW, settings=off))
    body = {"network_id": "wild", "domains": ["*.b.example"], "peer": "gw", "metric": 1, "groups": ["office"]}
    status, message = problem(await world.call("POST", "routes", body))
    assert (status, "switched off" in message) == (422, True)
    await put(world, **{RESOLUTION: True})
    assert (await world.call("POST", "routes", body)).status_code == 200


UDP = {"ip": "10.0.0.53", "ns_type": "udp", "port": 53, "name": ""}
TLS = {"ip": "2001:db8::53", "ns_type": "tls", "port": 853, "name": "dns.example"}


async def test_the_resolver_asks_servers_of_the_accounts_own_in_their_order() -> None:
    world = World()
    given = [TLS | {"ip": "2001:DB8::53", "name": "DNS.Example."}, UDP, UDP]
    assert (await put(world, resolver_nameservers=given))["settings"]["resolver_nameservers"] == [TLS, UDP]
    assert (await put(world, dns_domain="new.test"))["settings"]["resolver_nameservers"] == [TLS, UDP]
    assert (await put(world, resolver_nameservers=[]))["settings"]["resolver_nameservers"] == []
    codes = [(event["activity_code"], event["meta"]) for event in await world.get("events")]
    code = "account.setting.resolver.nameservers.update"
    assert [codes[0], codes[2]] == [(code, {"nameservers": ""}), (code, {"nameservers": "2001:db8::53, 10.0.0.53"})]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([UDP] * 4, "resolver_nameservers must have at most 3 entries, it has 4"),
        ([UDP | {"ip": "dns.example"}], "resolver_nameservers: 'dns.example' is not an address"),
        (
            [UDP | {"ip": "127.0.0.53"}],
            "resolver_nameservers: 127.0.0.53/32 is loopback, which the resolver",
        ),
        (
            [UDP | {"ip": "169.254.169.254"}],
            "resolver_nameservers: 169.254.169.254/32 is link-local, which",
        ),
        ([UDP | {"ip": "::"}], "resolver_nameservers: nobody can be asked at ::"),
        ([UDP | {"port": 0}], "resolver_nameservers: port must be between 1 and 65535, it is 0"),
        ([UDP | {"port": 65536}], "resolver_nameservers: port must be between 1 and 65535, it is 65536"),
        ([UDP | {"ns_type": "https"}], "resolver_nameservers: ns_type must be udp or tls, it is 'https'"),
        ([UDP | {"name": "dns.example"}], "resolver_nameservers: a name is for ns_type tls, that of 10.0.0.53 is udp"),
        ([TLS | {"name": "*.example"}], "resolver_nameservers: '*.example' is not a valid domain"),
    ],
)
async def test_whom_the_resolver_cannot_ask_is_refused_with_the_reason(given: list[Any], message: str) -> None:
    status, said = await refused(World(), resolver_nameservers=given)
    assert (status, said[: len(message)]) == (422, message)
