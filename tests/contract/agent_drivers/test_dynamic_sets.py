"""drivers/nft.py: sets that somebody else fills, on the real kernel."""

import asyncio
import itertools
import re
import time
from collections.abc import Mapping

import pytest

from deploy.lab.netns import Namespace
from services.agent.core.firewall.ruleset import change, elements, shape
from services.agent.core.intervals import Range
from services.agent.core.kernel import Hook, NftChain, NftSet, ObservedRuleset, Ruleset
from services.agent.core.rule import Member, Ports, Rule
from services.agent.drivers.nft import Nft
from services.agent.drivers.notifications import KernelNotifications
from services.agent.loop.table import write
from tests.contract.agent_drivers.test_nft import nft, on

pytestmark = pytest.mark.root

MAIL, WEB = "learned_mail_v4", "learned_web_v4"
MAIL_V6 = "learned_mail_v6"
ADDRESSES = [f"192.0.2.{number}" for number in range(8)]


def dynamic(name: str, kind: str = "ipv4_addr") -> NftSet:
    return NftSet(name=name, type=kind, interval=False, dynamic=True)


def ruleset(*sources: str, sets: tuple[NftSet, ...] = (dynamic(MAIL), dynamic(WEB)), port: int = 25) -> Ruleset:
    """Two names, each with its own sources, one of which has the sources given."""
    return Ruleset(
        sets=(
            NftSet(name="from_mail", type="ipv4_addr", interval=False, elements=frozenset(sources)),
            NftSet(name="from_web", type="ipv4_addr", interval=False, elements=frozenset({"100.64.0.9"})),
            *sets,
            NftSet(name="zone", type="ipv4_addr", interval=True, elements=frozenset({"10.0.0.0/8"})),
        ),
        chains=(
            NftChain(
                name="forward",
                hook=Hook("filter", "forward", 0),
                rules=(
                    Rule((Member(4, "source", "from_mail"), Ports("tcp", (Range(port, port),))), "accept"),
                    *(Rule((Member(4, "destination", one.name),), "accept") for one in sets if one.type == "ipv4_addr"),
                    Rule((Member(4, "destination", "zone"),), "drop"),
                ),
            ),
        ),
    )


WANTED = ruleset("100.64.0.7")
LEARNED: dict[str, dict[str, float]] = {MAIL: {"192.0.2.1": 300, "192.0.2.2": 60.5}, WEB: {"192.0.2.1": 10}}


def left() -> dict[str, dict[str, float]]:
    """Dynamic set → address → seconds it has left, as another program sees it."""
    return {
        name: {
            address: _seconds(expires)
            for address, expires in re.findall(r"([0-9a-f.:]+) timeout \w+ expires (\w+)", block)
        }
        for name, block in re.findall(r"set (learned_\w+) {(.*?)\t}", nft("list table inet whimbrel"), re.S)
    }


def _seconds(text: str) -> float:
    units = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
    return sum(int(number) * units[unit] for number, unit in re.findall(r"(\d+)(ms|[dhms])", text))


def agrees(expected: Mapping[str, Mapping[str, float]]) -> bool:
    """Whether each set has these addresses with up to two seconds less, and no others."""
    found = left()
    return {name: {*addresses} for name, addresses in found.items()} == {
        name: {*addresses} for name, addresses in expected.items()
    } and all(
        timeout_s - 2 < found[name][address] <= timeout_s
        for name, timeouts in expected.items()
        for address, timeout_s in timeouts.items()
    )


async def made(driver: Nft, desired: Ruleset = WANTED) -> None:
    """Make the table as the loop does."""
    assert await write(driver, desired, await driver.observe()) is None
    assert await driver.observe() == ObservedRuleset(shape=shape(desired), elements=elements(desired))


async def filled(driver: Nft) -> None:
    await made(driver)
    assert await driver.fill(LEARNED) is None
    assert agrees(LEARNED)


def test_what_is_filled_has_its_time_and_no_comparison_sees_it(host: Namespace) -> None:
    async def scenario(driver: Nft) -> None:
        await filled(driver)
        for reader in (driver, Nft()):
            observed = await reader.observe()
            assert observed == ObservedRuleset(shape=shape(WANTED), elements=elements(WANTED))
            assert change(WANTED, observed) is None

    on(host, scenario)


def test_an_answer_refreshes_what_is_there_and_leaves_the_rest(host: Namespace) -> None:
    async def scenario(driver: Nft) -> None:
        await filled(driver)
        assert await driver.fill({MAIL: {"192.0.2.2": 900, "192.0.2.3": 30}, WEB: {"192.0.2.1": 5}}) is None
        assert agrees({MAIL: {"192.0.2.1": 300, "192.0.2.2": 900, "192.0.2.3": 30}, WEB: {"192.0.2.1": 5}})

    on(host, scenario)


def test_what_is_not_refreshed_goes(host: Namespace) -> None:
    async def scenario(driver: Nft) -> None:
        await filled(driver)
        assert await driver.fill({MAIL: {"192.0.2.1": 0.1}}) is None
        await asyncio.sleep(0.3)
        assert agrees({MAIL: {"192.0.2.2": 60.5}, WEB: {"192.0.2.1": 10}})
        assert await driver.fill({MAIL: {"192.0.2.1": 7}}) is None
        assert agrees({MAIL: {"192.0.2.1": 7, "192.0.2.2": 60.5}, WEB: {"192.0.2.1": 10}})

    on(host, scenario)


def test_both_families_are_one_transaction(host: Namespace) -> None:
    learned = {MAIL: {"192.0.2.1": 60}, MAIL_V6: {"2001:db8::1": 60, "::192.0.2.1": 60}}

    async def scenario(driver: Nft) -> None:
        await made(driver, ruleset(sets=(dynamic(MAIL), dynamic(MAIL_V6, "ipv6_addr"))))
        start = driver.accounted
        assert await driver.fill(learned) is None
        assert driver.accounted == start + 1
        await made(driver, ruleset(sets=(dynamic(MAIL), dynamic(MAIL_V6, "ipv6_addr")), port=26))
        assert agrees(learned)

    on(host, scenario)


def test_a_refused_answer_changes_nothing(host: Namespace) -> None:
    async def scenario(driver: Nft) -> None:
        await filled(driver)
        for bad in ({"nowhere": {"192.0.2.9": 60}}, {"from_web": {"192.0.2.9": 60}}, {WEB: {"2001:db8::9": 60}}):
            error = await driver.fill({MAIL: {"192.0.2.9": 60}, **bad})
            assert error
            assert "\n" not in error
            assert agrees(LEARNED)
        assert await driver.fill({}) is None

    on(host, scenario)


def test_before_there_is_a_table_nothing_is_filled(host: Namespace) -> None:
    async def scenario(driver: Nft) -> None:
        assert await driver.fill(LEARNED)
        await filled(driver)

    on(host, scenario)


@pytest.mark.parametrize(
    "desired",
    [
        ruleset("100.64.0.7", "100.64.0.8"),
        ruleset(),
        ruleset("100.64.0.7", port=26),
        ruleset("100.64.0.7", sets=(dynamic("learned_aaa_v4"), dynamic(MAIL), dynamic(WEB))),
    ],
)
def test_a_pass_keeps_what_is_filled_whatever_it_changes(host: Namespace, desired: Ruleset) -> None:
    async def scenario(driver: Nft) -> None:
        await filled(driver)
        await made(driver, desired)
        assert agrees({**{one.name: {} for one in desired.sets if one.dynamic}, **LEARNED})
        await made(driver)
        assert agrees(LEARNED)

    on(host, scenario)


@pytest.mark.parametrize(
    "command",
    [
        "flush chain inet whimbrel forward",
        "insert rule inet whimbrel forward accept",
        "add chain inet whimbrel other",
        "add counter inet whimbrel other",
        "flush set inet whimbrel from_mail",
        "add element inet whimbrel zone { 255.255.255.255 }",
        "add table inet whimbrel { flags dormant; }",
    ],
)
def test_what_is_filled_outlives_the_repair_of_what_others_changed(host: Namespace, command: str) -> None:
    async def scenario(driver: Nft) -> None:
        await filled(driver)
        nft(command)
        await made(driver)
        assert agrees(LEARNED)

    on(host, scenario)


def test_an_agent_that_starts_keeps_what_its_predecessor_filled(host: Namespace) -> None:
    other = ruleset("100.64.0.8", port=26)

    async def successor(driver: Nft) -> None:
        await made(driver, other)
        assert agrees(LEARNED)

    on(host, filled)
    on(host, successor)


def test_a_set_that_is_withdrawn_or_of_another_type_takes_its_contents_along(host: Namespace) -> None:
    async def scenario(driver: Nft) -> None:
        await filled(driver)
        await made(driver, ruleset(sets=(dynamic(MAIL, "ipv6_addr"), dynamic(WEB))))
        assert agrees({MAIL: {}, WEB: LEARNED[WEB]})
        await made(driver, ruleset(sets=(dynamic(MAIL),)))
        await made(driver)
        assert agrees({MAIL: {}, WEB: {}})

    on(host, scenario)


def test_what_others_put_there_for_ever_goes_with_the_next_replacement_and_stands_in_no_way(host: Namespace) -> None:
    async def scenario(driver: Nft) -> None:
        await filled(driver)
        nft(f'add element inet whimbrel {MAIL} {{ 192.0.2.77, 192.0.2.78 timeout 60s comment "a, b" }}')
        await made(driver, ruleset("100.64.0.7", port=26))
        kept = left()
        assert {"192.0.2.1", "192.0.2.2"} <= kept[MAIL].keys()
        assert "192.0.2.77" not in kept[MAIL]

    on(host, scenario)


def test_contents_that_the_kernel_refuses_do_not_keep_a_table_from_being_written(
    host: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.agent.drivers.nft.contents", lambda *_: {MAIL: ("nonsense",)})

    async def scenario(driver: Nft) -> None:
        await filled(driver)
        assert driver.emptied == 0
        await made(driver, ruleset(port=26))
        assert agrees({MAIL: {}, WEB: {}})
        assert driver.emptied == 1, "who filled them can fill them again"

    on(host, scenario)


def test_an_answer_that_comes_while_the_table_is_replaced_is_not_lost(host: Namespace) -> None:
    async def scenario(driver: Nft) -> None:
        await made(driver)
        for number in range(30):
            desired = ruleset(*(f"100.66.{high}.{low}" for high in range(40) for low in range(200)), port=number + 1)
            learned = {MAIL: {f"192.0.2.{number}": 300}}
            _, error = await asyncio.gather(driver.replace(desired), driver.fill(learned))
            assert error is None
        assert len(left()[MAIL]) == 30

    on(host, scenario)


def test_an_answer_is_no_news_and_makes_nobody_read_the_table(host: Namespace) -> None:
    async def scenario(driver: Nft) -> None:
        await made(driver)
        notifications = KernelNotifications("wt0", (), lambda: driver.accounted)
        observed = await driver.observe()
        assert await driver.fill(LEARNED) is None
        assert notifications.read() == frozenset()
        assert await driver.observe() is observed
        nft(f"delete element inet whimbrel {WEB} {{ 192.0.2.1 }}")
        assert notifications.read() == {"ruleset"}
        notifications.close()
        assert await driver.observe() is not observed

    on(host, scenario)


@pytest.mark.parametrize("many", [10, 10_000])
def test_an_answer_takes_as_long_beside_many_elements_as_beside_few(host: Namespace, many: int) -> None:
    """Through libnftables 10,000 elements of the interval set `zone` would be read first: 30 ms."""
    zone = NftSet(
        name="zone",
        type="ipv4_addr",
        interval=True,
        elements=frozenset(f"10.{number >> 7}.{(number & 127) * 2}.0/24" for number in range(many)),
    )
    learned = {f"198.18.{number >> 8}.{number & 255}": 300 for number in range(many)}

    async def scenario(driver: Nft) -> None:
        await made(driver, Ruleset(sets=(*WANTED.sets[:-1], zone), chains=WANTED.chains))
        for at in range(0, many, 1000):
            assert await driver.fill({MAIL: dict(itertools.islice(learned.items(), at, at + 1000))}) is None
        took = []
        for _ in range(50):
            began = time.perf_counter()
            assert await driver.fill({MAIL: dict.fromkeys(ADDRESSES, 300)}) is None
            took.append(time.perf_counter() - began)
        assert sorted(took)[10] < 0.005
        assert len(left()[MAIL]) == many + len(ADDRESSES)

    on(host, scenario)
