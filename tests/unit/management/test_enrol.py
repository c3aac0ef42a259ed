"""A host becomes a peer, or learns why not (reference control-plane §5, §8.8)."""

from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from services.management.core.commands.decision import Decision
from services.management.core.commands.enrol import AddressPicks, enrol
from services.management.core.model.commit import Actor
from services.management.core.model.peer import Peer
from services.management.core.state import Intent
from services.management.errors import NotEnrolled
from shared.events.signals import Enrolled, EnrolRequest
from shared.events.subjects import setup_key_hash
from tests.builders import (
    ACCOUNT,
    NOW,
    account,
    bus_key,
    commit,
    context,
    enrol_request,
    group,
    group_all,
    intent,
    meta,
    peer,
    setup_key,
    wireguard_key,
)

PICKS = AddressPicks(v4=(0x0708, 0x0101), v6=(0xABCD,))
"""Number n is the n-th host of the overlay, counted from 0."""


def asked(there: Intent, request: EnrolRequest, key: str = "ci", picks: AddressPicks = PICKS) -> Decision[Enrolled]:
    """The new peer's id tells the LOG sequence at which it was decided: "peer-1" comes first."""
    state = there.accounts[ACCOUNT]
    ids = replace(context(), new_id=lambda: f"peer-{there.sequence}")
    return enrol(there, state, request, setup_key_hash(key), picks, ids)


def enrolled(there: Intent, request: EnrolRequest, key: str = "ci", picks: AddressPicks = PICKS) -> Peer:
    """The new peer, once the commit is folded in."""
    decision = asked(there, request, key, picks)
    assert decision.commit is not None
    there.apply(there.sequence + 1, decision.commit)
    return there.accounts[ACCOUNT].peers[decision.result.peer_id]


def refused(there: Intent, request: EnrolRequest, key: str = "ci", picks: AddressPicks = PICKS) -> NotEnrolled:
    with pytest.raises(NotEnrolled) as problem:
        asked(there, request, key, picks)
    assert "\n" not in problem.value.message
    return problem.value


def test_a_host_becomes_a_peer_of_the_keys_groups() -> None:
    there = intent(group("b"), group("a"), setup_key("ci", auto_groups=("b", "a"), used_times=3))
    decision = asked(there, enrol_request("web"))
    assert decision.result == Enrolled(account=ACCOUNT, peer_id="peer-1")
    assert decision.commit is not None
    new = Peer(
        id="peer-1",
        name="web",
        dns_label="web",
        wireguard_key=wireguard_key("web"),
        bus_key=bus_key("web"),
        address_v4="100.64.7.9",
        address_v6="fd00:64::abce",
        groups=("a", "b"),
        meta=meta("web"),
        created_at=NOW,
        last_login=NOW,
        setup_key="ci",
    )
    used = setup_key("ci", auto_groups=("b", "a"), used_times=4, last_used=NOW)
    assert decision.commit.upserts == (new, used)


def test_c6_the_activity_is_the_setup_keys_and_names_it() -> None:
    made = asked(intent(setup_key("ci")), enrol_request("web")).commit
    assert made is not None
    assert made.actor == Actor(id="ci", name="ci")
    [activity] = made.activities
    assert (activity.code, activity.target_id) == ("peer.setupkey.add", "peer-1")
    assert activity.meta == {
        "name": "web",
        "fqdn": "web.whimbrel.test",
        "ip": "100.64.7.9",
        "created_at": "2023-11-14T22:13:20+00:00",
        "setup_key_name": "ci",
    }


@pytest.mark.parametrize(
    "key, fields, reason",
    [
        ("other", {}, "unknown"),
        ("ci", {"revoked": True}, "revoked"),
        ("ci", {"expires_at": NOW}, "expired"),
        ("ci", {"usage_limit": 2, "used_times": 2}, "used-up"),
        ("ci", {"revoked": True, "expires_at": NOW}, "expired"),
    ],
)
def test_a_key_that_is_no_good_is_refused_with_the_reason(key: str, fields: dict[str, Any], reason: str) -> None:
    problem = refused(intent(setup_key("ci", **fields)), enrol_request("web"), key)
    assert problem.reason == reason
    assert key not in problem.message.split()


def test_a_key_of_another_account_is_unknown_to_this_one() -> None:
    there = intent()
    there.apply(2, commit(account("other"), group_all(), setup_key("ci"), account="other"))
    assert refused(there, enrol_request("web")).reason == "unknown"


def test_a_one_off_key_lets_one_host_in() -> None:
    there = intent(setup_key("ci", type="one-off", usage_limit=1))
    enrolled(there, enrol_request("first"))
    assert refused(there, enrol_request("second")).reason == "used-up"


@pytest.mark.parametrize("spoilt", [{"revoked": True}, {"expires_at": 1.0}, {"usage_limit": 1}])
def test_the_same_keys_again_are_the_same_peer_and_use_nothing_up(spoilt: dict[str, Any]) -> None:
    there = intent(setup_key("ci"))
    first = enrolled(there, enrol_request("web"))
    there.apply(3, commit(replace(there.accounts[ACCOUNT].setup_keys["ci"], **spoilt)))
    again = asked(there, enrol_request("web", hostname="renamed"))
    assert again.commit is None
    assert again.result == Enrolled(account=ACCOUNT, peer_id=first.id)


@pytest.mark.parametrize(
    "keys",
    [
        {"bus_key": bus_key("thief")},
        {"wireguard_key": wireguard_key("thief")},
        {"wireguard_key": wireguard_key("other")},
        {"bus_key": bus_key("elsewhere"), "wireguard_key": wireguard_key("elsewhere")},
    ],
    ids=["its wireguard key alone", "its bus key alone", "keys of two peers", "a peer of another account"],
)
def test_keys_of_another_peer_are_refused(keys: dict[str, str]) -> None:
    there = intent(setup_key("ci"), peer("web"), peer("other"))
    there.apply(2, commit(account("second"), group_all(), peer("elsewhere"), account="second"))
    assert refused(there, replace(enrol_request("web"), **keys)).reason == "key-in-use"


@pytest.mark.parametrize(
    "fields, words",
    [
        ({"wireguard_key": ""}, "the wireguard key"),
        ({"wireguard_key": "AAAA"}, "the wireguard key"),
        ({"wireguard_key": "A" * 43 + "="}, "the wireguard key"),
        ({"wireguard_key": "AQ" + "A" * 41 + "="}, "the wireguard key"),
        ({"wireguard_key": wireguard_key("web") + "\n"}, "the wireguard key"),
        ({"wireguard_key": wireguard_key("web").rstrip("=")}, "the wireguard key"),
        ({"wireguard_key": "é" * 44}, "the wireguard key"),
        ({"bus_key": ""}, "the bus key"),
        ({"bus_key": bus_key("web").lower()}, "the bus key"),
        ({"bus_key": "A" + bus_key("web")[1:]}, "the bus key"),
        ({"bus_key": bus_key("web")[:-1] + "A"}, "the bus key"),
        ({"bus_key": "U" * 8}, "the bus key"),
        ({"meta": meta("x" * 256)}, "meta.hostname is longer than 255"),
        ({"extra_dns_labels": ("db",)}, "does not allow extra dns labels"),
    ],
)
def test_a_malformed_request_is_refused(fields: dict[str, Any], words: str) -> None:
    problem = refused(intent(setup_key("ci")), replace(enrol_request("web"), **fields))
    assert problem.reason == "invalid"
    assert words in problem.message


@pytest.mark.parametrize(
    "labels, words",
    [
        (("-db",), "is not a dns label"),
        (("bücher",), "is not a dns label"),
        (("Db",), "is not a dns label"),
        (("a.b",), "is not a dns label"),
        (("*",), "is not a dns label"),
        (("",), "is not a dns label"),
        (("x" * 64,), "is not a dns label"),
        (tuple(f"l{n}" for n in range(33)), "at most 32 extra dns labels"),
        (("web",), "web is the name of another peer"),
    ],
)
def test_extra_dns_labels_must_be_labels_and_nobodys_name(labels: tuple[str, ...], words: str) -> None:
    there = intent(setup_key("ci", allow_extra_dns_labels=True), peer("web"))
    problem = refused(there, enrol_request("db1", labels=labels))
    assert problem.reason == "invalid"
    assert words in problem.message


def test_peers_may_share_an_extra_dns_label() -> None:
    there = intent(setup_key("ci", allow_extra_dns_labels=True))
    for name in ("db1", "db2"):
        assert enrolled(there, enrol_request(name, labels=("db", "sql", "db"))).extra_dns_labels == ("db", "sql")
    assert there.accounts[ACCOUNT].label_holders("db") == {"peer-1", "peer-2"}


@pytest.mark.parametrize(
    "hostname, name, label",
    [
        ("web", "web", "web-7-9"),
        ("Web.example.com", "Web.example.com", "web-7-9"),
        ("db", "db", "db-7-9"),
        ("Jürgen's Mac.lan", "Jürgen's Mac.lan", "xn--jrgen-s-mac-thb"),
        ("", "peer", "peer"),
        ("...", "...", "peer"),
        ("x" * 70, "x" * 70, "x" * 59),
        ("y" * 59, "y" * 59, "y" * 59),
        ("taken" + "z" * 54, "taken" + "z" * 54, "taken" + "z" * 54 + "-7-9"),
    ],
)
def test_a_peers_label_is_made_of_its_host_name_and_free(hostname: str, name: str, label: str) -> None:
    there = intent(
        setup_key("ci"),
        peer("web"),
        peer("sql", extra_dns_labels=("db",)),
        peer("t", dns_label="taken" + "z" * 54),
    )
    new = enrolled(there, enrol_request("new", hostname=hostname))
    assert (new.name, new.dns_label) == (name, label)


def test_when_the_label_with_the_addresss_end_is_taken_too_it_counts_on() -> None:
    there = intent(setup_key("ci"), peer("web"), peer("b", dns_label="web-7-9"), peer("c", dns_label="web-7-9-2"))
    assert enrolled(there, enrol_request("new", hostname="web")).dns_label == "web-7-9-3"


def test_an_ephemeral_peer_always_has_the_addresss_end_in_its_label() -> None:
    new = enrolled(intent(setup_key("ci", ephemeral=True)), enrol_request("web"))
    assert (new.ephemeral, new.dns_label) == (True, "web-7-9")


def test_a_host_without_ipv6_gets_no_ipv6_address() -> None:
    assert enrolled(intent(setup_key("ci")), enrol_request("web", ipv6=False)).address_v6 == ""


@pytest.mark.parametrize(
    "picks, expected",
    [
        ((0,), "100.64.0.1"),
        ((65_533,), "100.64.255.254"),
        ((65_534,), "100.64.0.1"),
        ((2**64 - 1,), "100.64.0.16"),
        ((0x0101, 5), "100.64.0.6"),
        ((0x0101,), "100.64.1.4"),
        ((0x0101, 0x0102), "100.64.1.4"),
    ],
)
def test_the_first_free_pick_is_taken_else_the_next_free_address(picks: tuple[int, ...], expected: str) -> None:
    taken = [peer(f"p{n}", address_v4=f"100.64.1.{n}") for n in (2, 3)]
    there = intent(setup_key("ci"), *taken)
    assert enrolled(there, enrol_request("web"), picks=AddressPicks(v4=picks, v6=(1,))).address_v4 == expected


def test_a_full_overlay_is_unavailable_and_the_last_address_is_used_before_that() -> None:
    taken = [peer(f"p{n}", address_v4=f"100.64.{n // 256}.{n % 256}", dns_label=f"p{n}") for n in range(1, 65_534)]
    there = intent(setup_key("ci"), *taken)
    assert enrolled(there, enrol_request("web"), picks=AddressPicks(v4=(77,), v6=(1,))).address_v4 == "100.64.255.254"
    problem = refused(there, enrol_request("late"))
    assert problem.reason == "unavailable"
    assert "every address of 100.64.0.0/16 is taken" in problem.message


def test_three_hundred_hosts_on_one_key_are_three_hundred_peers() -> None:
    there = intent(setup_key("ci"))
    for n in range(300):
        picks = AddressPicks(v4=(n // 3,), v6=(n // 3,))
        enrolled(there, enrol_request(f"host{n}", hostname="node"), picks=picks)
    state = there.accounts[ACCOUNT]
    assert len({p.address_v4 for p in state.peers.values()}) == 300
    assert len({p.address_v6 for p in state.peers.values()}) == 300
    assert len({p.dns_label for p in state.peers.values()}) == 300
    assert state.setup_keys["ci"].used_times == 300


def test_no_secret_is_in_the_commit() -> None:
    secret = "A1B2C3D4-0000-4000-8000-00000000BEEF"
    made = asked(intent(setup_key("ci", key=secret)), enrol_request("web"), secret).commit
    assert secret.encode() not in msgspec.msgpack.encode(made)
