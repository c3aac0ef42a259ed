"""Writing the nftables table, whatever is found there and however nftables fails: the law of withdrawal."""

import asyncio
from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from services.agent.core.documents import Documents
from services.agent.core.firewall.ruleset import change
from services.agent.core.kernel import Link, NftMap, NftSet, Ruleset
from services.agent.core.reconcile.desired import Local, desired
from services.agent.core.rule import Member, Rule
from services.agent.loop.table import write
from tests.fakes.kernel import FakeKernel
from tests.fakes.nftables import Fault, FaultyNft
from tests.property.agent import worlds
from tests.property.agent.test_plan import passing

LEFT_KEYS = ("255.255.255.255", "255.255.255.254/31", "172.16.5.0/24", "203.0.113.9", "2a00::1", "8000::/1")
LEFT_SOURCES = ("100.64.0.10", "100.64.0.11", "100.64.0.13", "fd00:64::b")
FORWARDING = {"net/ipv4/ip_forward": "1", "net/ipv6/conf/all/forwarding": "1"}
UP = Link(name="wt0", mtu=1280, up=True, addresses=frozenset({"100.64.0.1/16"}))

faults = st.lists(st.sampled_from(("", "refuse", "refuse", "ignore", "lose")), max_size=5)
shut_faults = st.lists(st.sampled_from(("", "refuse", "ignore")), max_size=2)


def table(world: tuple[Documents, Local]) -> Ruleset:
    found = desired(*world).ruleset
    assert found is not None
    return found


def through(table: Ruleset | None) -> set[tuple[str, str, str]]:
    """What gets through a host with this table, of a sample."""
    kernel = FakeKernel(sysctls=FORWARDING)
    kernel.links, kernel.ruleset = {"wt0": UP}, table
    return passing(kernel, "255.255.255.255", "172.16.5.1", "ffff::1")


def with_leftovers(table: Ruleset, keys: set[str], sources: set[str], verdict: str) -> Ruleset:
    """The table with elements of another program, or of a change that was never taken out."""
    sets = tuple(
        replace(one, elements=one.elements | {text for text in sources if (":" in text) == one.name.endswith("v6")})
        if one.name.startswith("from_")
        else one
        for one in table.sets
    )
    maps = tuple(
        _with_keys(one, {key for key in keys if (":" in key) == one.name.endswith("v6")}, verdict) for one in table.maps
    )
    return replace(table, sets=sets, maps=maps)


def _with_keys(one: NftMap, keys: set[str], verdict: str) -> NftMap:
    return replace(one, elements=dict.fromkeys(keys, verdict)) if keys else one


NAMES = ("learned_a_v4", "learned_b_v4", "learned_c_v6")


def with_dynamic(table: Ruleset, names: Iterable[str]) -> Ruleset:
    """The table with sets that somebody else fills, and a rule that reads each."""
    dynamic = [NftSet(name=name, type=f"ip{name[-2:]}_addr", interval=False, dynamic=True) for name in sorted(names)]
    rules = tuple(
        Rule((Member(6 if one.type == "ipv6_addr" else 4, "destination", one.name),), "accept") for one in dynamic
    )
    chains = (
        replace(one, rules=(*rules, *one.rules)) if one.name == "forward_overlay" else one for one in table.chains
    )
    return replace(table, sets=(*table.sets, *dynamic), chains=tuple(chains))


def done(driver: FaultyNft, wanted: Ruleset) -> str | None:
    async def scene() -> str | None:
        return await write(driver, wanted, await driver.observe())

    return asyncio.run(scene())


def in_step(driver: FaultyNft, wanted: Ruleset) -> bool:
    return change(wanted, asyncio.run(driver.observe())) is None


@given(
    before=worlds.hosts(),
    after=worlds.hosts(),
    keys=st.sets(st.sampled_from(LEFT_KEYS), max_size=2).filter(
        lambda found: len(found) < 2 or "/31" not in str(found)
    ),
    sources=st.sets(st.sampled_from(LEFT_SOURCES), max_size=2),
    meddled=st.sampled_from(("", "", "forward_overlay", "input_overlay", "forward")),
    fate=faults,
    shut_fate=st.one_of(st.just([]), shut_faults),
)
def test_a_pass_that_succeeds_ends_in_the_wanted_table_and_none_leaves_a_permit_that_neither_before_nor_after_has(
    before: tuple[Documents, Local],
    after: tuple[Documents, Local],
    keys: set[str],
    sources: set[str],
    meddled: str,
    fate: list[Fault],
    shut_fate: list[Fault],
) -> None:
    driver = FaultyNft(with_leftovers(table(before), keys, sources, "accept"), fate, shut_fate)
    if meddled:
        driver.meddle(meddled)
    wanted, was = table(after), through(driver.table)
    shall = through(wanted)
    error = done(driver, wanted)
    assert (error is None) == in_step(driver, wanted)
    if "lose" not in fate or not any(shut_fate):
        assert through(driver.table) <= was | shall
    if not any(shut_fate):
        assert through(driver.table) <= shall, "what is withdrawn is shut even when nothing else could be done"


@given(
    before=worlds.hosts(),
    after=worlds.hosts(),
    was=st.sets(st.sampled_from(NAMES)),
    shall=st.sets(st.sampled_from(NAMES)),
    meddled=st.sampled_from(("", "forward_overlay", "input_overlay", "forward")),
    fate=faults,
    shut_fate=shut_faults,
)
def test_no_pass_takes_away_what_somebody_filled_while_both_tables_have_the_set(
    before: tuple[Documents, Local],
    after: tuple[Documents, Local],
    was: set[str],
    shall: set[str],
    meddled: str,
    fate: list[Fault],
    shut_fate: list[Fault],
) -> None:
    driver = FaultyNft(with_dynamic(table(before), was), fate, shut_fate)
    filled = {name: {"2001:db8::1" if name.endswith("v6") else "192.0.2.1": 60.0} for name in was}
    assert asyncio.run(driver.fill(filled)) is None
    assert in_step(driver, with_dynamic(table(before), was)), "what is filled is no difference"
    if meddled:
        driver.meddle(meddled)
    wanted = with_dynamic(table(after), shall)
    error = done(driver, wanted)
    assert (error is None) == in_step(driver, wanted)
    assert {name: filled[name] for name in was & shall} == {name: driver.filled[name] for name in was & shall}
    assert error or driver.filled.keys() <= shall
