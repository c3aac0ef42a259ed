"""Addresses that routing peers answered: what is added, replaced, kept, forgotten (R1), and where routes lead."""

from ipaddress import ip_address

import msgspec
import pytest

from services.agent.core.dns.learned import KEEP_S, NAMES, PER_NAME, Address, Joined, Learned, LearnedBefore
from services.agent.core.reconcile.desired import desired
from services.agent.core.routing.hagroups import HaKey, ha_key
from shared.events.documents import ResolutionDoc
from tests.unit.agent.make import documents, local, me, peer, resolution, route

NOW = 1_700_000_000.0
KEY: HaKey = ("corp", "", ("*.corp.test",))
NAME = "db.corp.test"


def those(*texts: str) -> tuple[Address, ...]:
    return tuple(map(ip_address, texts))


def held(learned: Learned, name: str = NAME) -> set[str]:
    found = learned.resolved().get(KEY, {}).get(name)
    return set(found.addresses) if found else set()


@pytest.mark.parametrize(
    ("keep", "answers", "left"),
    [
        (False, [("10.1.0.1",), ("10.1.0.2",)], {"10.1.0.2"}),
        (True, [("10.1.0.1",), ("10.1.0.2",)], {"10.1.0.1", "10.1.0.2"}),
        (False, [("10.1.0.1",), ("fd00::1",)], {"10.1.0.1", "fd00::1"}),
        (False, [("10.1.0.1",), ("fd00::1",), ("10.1.0.2",)], {"10.1.0.2", "fd00::1"}),
        (False, [("10.1.0.1",), ()], {"10.1.0.1"}),
        (True, [("10.1.0.1", "10.1.0.2"), ("10.1.0.2",)], {"10.1.0.1", "10.1.0.2"}),
    ],
)
def test_r1_the_newest_answer_replaces_its_family_or_adds_with_keep_route(
    keep: bool, answers: list[tuple[str, ...]], left: set[str]
) -> None:
    learned = Learned()
    for texts in answers:
        learned.take(KEY, NAME, 6 if ":" in "".join(texts) else 4, those(*texts), NOW, keep=keep)
    assert held(learned) == left


def test_only_other_addresses_are_news() -> None:
    learned = Learned()
    assert learned.take(KEY, NAME, 4, those("10.1.0.1", "10.1.0.2"), NOW, keep=False)
    before = learned.resolved()
    assert not learned.take(KEY, NAME, 4, those("10.1.0.2", "10.1.0.1"), NOW + 1, keep=False)
    assert learned.resolved()[KEY] is before[KEY]


def test_r1_of_one_name_1024_addresses_are_kept_and_the_oldest_go_first() -> None:
    learned = Learned()
    for number in range(PER_NAME + 2):
        address = ip_address(0x0A010000 + number)
        learned.take(KEY, NAME, 4, (address,), NOW + number, keep=True)
    assert len(held(learned)) == PER_NAME
    assert not held(learned) & {"10.1.0.0", "10.1.0.1"}


def test_r1_an_address_ends_seven_days_after_an_answer_last_had_it() -> None:
    learned = Learned()
    learned.take(KEY, NAME, 4, those("10.1.0.1"), NOW, keep=True)
    learned.take(KEY, NAME, 4, those("10.1.0.2"), NOW + 60, keep=True)
    assert not learned.expire(NOW + KEEP_S - 1)
    assert learned.expire(NOW + KEEP_S)
    assert held(learned) == {"10.1.0.2"}
    assert learned.expire(NOW + KEEP_S + 60)
    assert held(learned) == set()


def test_a_wildcard_cannot_fill_the_kernel_and_the_name_not_asked_for_for_longest_goes() -> None:
    learned = Learned()
    for number in range(NAMES + 1):
        learned.take(KEY, f"n{number}.corp.test", 4, those("10.1.0.1"), NOW, keep=False)
        if number == 1:
            learned.take(KEY, "n0.corp.test", 4, those("10.1.0.1"), NOW, keep=False)
    names = learned.resolved()[KEY]
    assert len(names) == NAMES
    assert "n0.corp.test" in names
    assert "n1.corp.test" not in names


def full(names: int = NAMES) -> Learned:
    """All of group KEY."""
    learned = Learned()
    for number in range(names):
        learned.take(KEY, f"n{number}.corp.test", 4, those("10.1.0.1"), NOW, keep=False)
    return learned


def test_the_first_name_of_another_route_finds_room_where_one_has_filled_the_table() -> None:
    learned, other = full(), ("lan", "", ("*.lan.test",))
    assert learned.take(other, "x.lan.test", 4, those("10.2.0.1"), NOW, keep=False)
    assert set(learned.resolved()[other]) == {"x.lan.test"}
    assert len(learned.resolved()[KEY]) == NAMES - 1
    assert "n0.corp.test" not in learned.resolved()[KEY]


def test_the_newest_name_stays_where_every_route_has_one_name() -> None:
    learned = full(0)
    for number in range(NAMES + 1):
        key = ("lan", "", (f"n{number}.lan.test",))
        learned.take(key, f"n{number}.lan.test", 4, those("10.2.0.1"), NOW, keep=False)
    assert learned.held(key, f"n{NAMES}.lan.test") == {"10.2.0.1"}
    assert learned.held(("lan", "", ("n0.lan.test",)), "n0.lan.test") == set()


def test_r1_of_a_longer_answer_1024_addresses_are_held() -> None:
    learned = Learned()
    learned.take(KEY, NAME, 4, [ip_address(0x0A010000 + number) for number in range(PER_NAME + 9)], NOW, keep=False)
    assert len(learned.held(KEY, NAME)) == PER_NAME
    assert set(learned.held(KEY, NAME)) == held(learned)


def test_what_this_host_no_longer_uses_is_forgotten() -> None:
    learned = Learned()
    learned.take(KEY, NAME, 4, those("10.1.0.1"), NOW, keep=False)
    assert not learned.restrict([KEY])
    assert learned.restrict([])
    assert learned.resolved() == {}
    assert not learned.restrict([])


def test_what_is_kept_on_disk_gives_the_same_addresses_and_ends_at_the_same_time() -> None:
    learned = Learned()
    learned.take(KEY, NAME, 4, those("10.1.0.1"), NOW, keep=True)
    learned.take(KEY, NAME, 6, those("fd00::1"), NOW + 60, keep=True)
    again = Learned(msgspec.msgpack.decode(msgspec.msgpack.encode(learned.seen()), type=LearnedBefore))
    assert again.resolved() == learned.resolved()
    assert again.expire(NOW + KEEP_S)
    assert held(again) == {"fd00::1"}


def routed(learned: Learned, *resolutions: ResolutionDoc, by: tuple[str, ...] = ("gw",), key: HaKey = KEY) -> set[str]:
    """The prefixes that the kernel leads into the tunnel."""
    there = documents(
        me(),
        [peer("gw"), peer("standby")],
        routes=[route(f"r{number}", domains=key[2], network_id=key[0], by=name) for number, name in enumerate(by)],
        resolutions=resolutions,
    )
    assert {ha_key(one) for one in there.routes.values()} == {key}
    joined = Joined().update(there, learned.resolved())
    return set(desired(joined, local(["gw", "standby"])).routes)


def test_learned_addresses_are_routed_beside_those_that_the_resolver_found() -> None:
    learned = Learned()
    learned.take(KEY, NAME, 4, those("10.1.0.1"), NOW, keep=False)
    assert routed(learned, resolution("r0", a_corp_test=["10.1.0.9"])) == {"10.1.0.1/32", "10.1.0.9/32"}
    assert routed(learned) == {"10.1.0.1/32"}


def test_learned_addresses_belong_to_the_ha_set_and_not_to_who_answered() -> None:
    learned = Learned()
    learned.take(KEY, NAME, 4, those("10.1.0.1"), NOW, keep=False)
    assert routed(learned, by=("standby",)) == routed(learned, by=("gw", "standby")) == {"10.1.0.1/32"}


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "169.254.1.1", "224.0.0.1", "0.0.0.0", "100.64.0.7", "::1", "fe80::1"]
)
def test_an_answer_that_leads_to_where_nothing_may_be_routed_is_no_route(address: str) -> None:
    learned = Learned()
    learned.take(KEY, NAME, 6 if ":" in address else 4, those(address), NOW, keep=False)
    assert routed(learned) == set()


def test_parts_of_the_joined_documents_that_stay_are_the_same_objects() -> None:
    learned, joined = Learned(), Joined()
    other: HaKey = ("lan", "", ("x.lan.test",))
    there = documents(
        me(),
        [peer("gw")],
        routes=[route("r", domains=KEY[2], network_id="corp"), route("s", domains=other[2], network_id="lan")],
    )
    assert joined.update(there, learned.resolved()) is there
    learned.take(KEY, NAME, 4, those("10.1.0.1"), NOW, keep=False)
    learned.take(other, "x.lan.test", 4, those("10.2.0.1"), NOW, keep=False)
    resolved = learned.resolved()
    first = joined.update(there, resolved)
    assert joined.update(there, resolved) is first
    learned.take(KEY, NAME, 4, those("10.1.0.2"), NOW, keep=False)
    second = joined.update(there, learned.resolved())
    assert second.resolutions["s"] is first.resolutions["s"]
    assert second.resolutions["r"] is not first.resolutions["r"]
