"""The law of withdrawal on the real nftables: any table becomes any other, also where intervals end with the family."""

import asyncio
import itertools
import re
import subprocess
from collections.abc import Mapping
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deploy.lab.netns import Namespace
from services.agent.core import parsed
from services.agent.core.firewall.permits import Match, Selector
from services.agent.core.firewall.ruleset import Around, Table, elements, shape
from services.agent.core.firewall.served import Served
from services.agent.core.intervals import parse
from services.agent.core.kernel import ObservedRuleset, Ruleset, SetOrMap
from services.agent.drivers.nft import NOTHING, Nft
from services.agent.loop.table import write
from tests.property.agent.test_table import NAMES, with_dynamic
from tests.support.netns import host as host
from tests.support.netns import make_host as make_host
from tests.unit.agent import make

pytestmark = pytest.mark.root

LAN = "192.168.77.0/24"
HIGH = "128.0.0.0/1"
LAST_V4, LAST_V6 = "255.255.255.255/32", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128"
EDGES = (
    "0.0.0.0/0", "0.0.0.0/1", "128.0.0.0/1", "240.0.0.0/4", "255.255.255.254/31", LAST_V4, "10.77.0.0/16", LAN,
    "::/0", "::/1", "8000::/1", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe/127", LAST_V6, "fd00:77::/64",
)  # fmt: skip
NAMED = [
    [(LAST_V4, LAN), (LAN,), (HIGH, LAN), (HIGH, "10.77.0.0/16", LAN), (HIGH, "10.77.0.0/16")],
    [("0.0.0.0/1", "128.0.0.0/1"), ("0.0.0.0/1",), ("0.0.0.0/1", "128.0.0.0/1"), ("128.0.0.0/1",), ()],
    [(LAST_V4,), ("255.255.255.254/31",), (LAST_V4, "255.255.255.254/31"), ("240.0.0.0/4",), (LAST_V4,), ()],
    [(LAST_V6, "8000::/1"), ("8000::/1",), (LAST_V6,), (), ("::/0",), ("::/1", "8000::/1"), (LAST_V6,), ()],
    [("0.0.0.0/0", LAST_V4), (LAST_V4,), ("0.0.0.0/0",), ("::/0", "0.0.0.0/0"), ()],
]  # fmt: skip


class Outcome(NamedTuple):
    error: str | None
    found: ObservedRuleset


def table(prefixes: tuple[str, ...]) -> Ruleset:
    """The table of a gateway of these prefixes and one more, whichever of them documents may name."""
    anybody = Match(action="accept", sources=Selector(groups=("g",), peers=()), protocol="all", ports=())
    around = Around(
        interface="wt0", mtu=1280, listen_port=51820, overlay=(parse("100.64.0.0/16"), parse("fd00:64::/64"))
    )
    served = {
        prefix: Served(route_id=prefix, networks=(parse(prefix),), masquerade=True, matches=(anybody,))
        for prefix in ("172.20.0.0/16", "fd00:20::/64", *prefixes)
    }
    return Table(around).update({}, served, {"p1": parsed.peer(make.peer("p1", "g"))})


class Counting(Nft):
    """Counts what it writes."""

    writes = 0

    async def replace(self, ruleset: Ruleset) -> str | None:
        self.writes += 1
        return await super().replace(ruleset)

    async def change(
        self,
        add: Mapping[str, frozenset[str]],
        remove: Mapping[str, frozenset[str]],
        shape: str,
        anew: Mapping[str, SetOrMap] = NOTHING,
    ) -> str | None:
        self.writes += 1
        return await super().change(add, remove, shape, anew)


def carry_out(histories: list[tuple[str, Ruleset]]) -> list[Outcome]:
    """Make each table of the last one as the agent does; before each another program does as it is told."""

    async def step(nft: Nft, desired: Ruleset) -> Outcome:
        error = await write(nft, desired, await nft.observe())
        return Outcome(error, await nft.observe())

    with asyncio.Runner() as runner:
        nft, seen = Nft(), []
        for command, desired in histories:
            if command:
                subprocess.run(["nft", command], check=False, capture_output=True, timeout=20)
            seen.append(runner.run(step(nft, desired)))
        return seen


def made(desired: Ruleset) -> Outcome:
    return Outcome(None, ObservedRuleset(shape=shape(desired), elements=elements(desired)))


@pytest.mark.parametrize("history", NAMED)
def test_what_ends_with_the_family_comes_and_goes_and_nothing_hangs_on_it(
    host: Namespace, history: list[tuple[str, ...]]
) -> None:
    tables = [table(prefixes) for prefixes in history]
    outcomes = host.call(carry_out, [("", desired) for desired in tables])
    assert outcomes == [made(desired) for desired in tables]


def test_no_step_between_the_edges_of_a_family_needs_a_second_attempt(host: Namespace) -> None:
    """What nft gets wrong is never asked of it."""
    pairs = [pair for edges in (EDGES[:8], EDGES[8:]) for pair in itertools.permutations(edges, 2)]
    tables = [table(one) for pair in pairs for one in (pair[:1], pair, pair[1:])]

    def attempts() -> set[int]:
        async def run() -> set[int]:
            nft, seen = Counting(), set()
            for desired in tables:
                before = nft.writes
                assert await write(nft, desired, await nft.observe()) is None
                seen.add(nft.writes - before)
            return seen

        return asyncio.run(run())

    assert host.call(attempts) <= {0, 1}


LEFT = (
    "add element inet whimbrel permits_v4 { 255.255.255.255 : accept }",
    "add element inet whimbrel permits_v4 { 128.0.0.0/1 : accept }",
    "add element inet whimbrel permits_v6 { ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff : accept }",
    "add element inet whimbrel masquerade_v4 { 255.255.255.255 }",
    "add element inet whimbrel permits_v4 { 10.77.3.0/24 : accept }",
    "delete element inet whimbrel permits_v4 { 172.20.0.0/16 }",
    "add element inet whimbrel closed_to_v4 { 0.0.0.0/0 }",
    "add element inet whimbrel closed_input_v6 { ::/0 }",
    "insert rule inet whimbrel forward_overlay accept",
    "flush table inet whimbrel",
    "flush ruleset",
    "",
)


CATCH_ALL = [("permits_v4", "* : accept"), ("permits_v6", "* : accept"), ("masquerade_v4", "*"), ("closed_to_v6", "*")]


@pytest.mark.parametrize(("name", "element"), CATCH_ALL)
def test_an_element_for_every_address_is_gone_after_one_pass(host: Namespace, name: str, element: str) -> None:
    """Of another program's nftables: ours, told to remove it, ends the process."""
    same, other = table((LAN,)), table((HIGH, LAN))

    def passes() -> list[Outcome]:
        seen = carry_out([("", same)])
        for desired in (same, other):
            with_it_in(name, element)
            seen += carry_out([("", desired)])
        return seen

    assert host.call(passes) == [made(same), made(same), made(other)]


def with_it_in(name: str, element: str) -> None:
    """Nftables 1.0.6 puts it only into a set that is made with it."""
    listed = subprocess.run(
        ["nft", "-n", "list", "table", "inet", "whimbrel"], check=True, capture_output=True, text=True, timeout=20
    ).stdout
    block = rf"( {name} {{[^=}}]*flags interval\n)(\s*elements = {{[^}}]*}}\n)?"
    changed = re.sub(block, rf"\g<1>elements = {{ {element} }}\n", listed)
    subprocess.run(
        ["nft", "-f", "-"],
        input=f"delete table inet whimbrel\n{changed}",
        check=True,
        capture_output=True,
        text=True,
        timeout=20,
    )


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    history=st.lists(
        st.tuples(st.sampled_from(LEFT), st.lists(st.sampled_from(EDGES), max_size=4, unique=True)),
        min_size=2,
        max_size=4,
    )
)
def test_from_whatever_is_found_one_pass_ends_in_the_wanted_table(
    host: Namespace, history: list[tuple[str, list[str]]]
) -> None:
    tables = [(command, table(tuple(prefixes))) for command, prefixes in history]
    assert host.call(carry_out, tables) == [made(desired) for _, desired in tables]


class Pass(NamedTuple):
    """One pass after another program did `command`, and then an answer.

    names: the dynamic sets of the table. answer: number of a set → last numbers of the addresses to put there.
    """

    command: str
    prefixes: list[str]
    names: set[str]
    answer: dict[int, set[int]]

    @property
    def table(self) -> Ruleset:
        return with_dynamic(table(tuple(self.prefixes)), self.names)

    @property
    def learned(self) -> dict[str, dict[str, float]]:
        """What the answer puts into the sets that there are."""
        return {
            name: {f"{'2001:db8::' if name.endswith('v6') else '192.0.2.'}{last}": 600.0 for last in sorted(lasts)}
            for name, lasts in ((NAMES[number], lasts) for number, lasts in self.answer.items())
            if name in self.names
        }


def in_dynamic_sets() -> dict[str, set[str]]:
    """Set name → addresses with a timeout, as another program sees them."""
    listing = subprocess.run(
        ["nft", "list", "sets", "table", "inet", "whimbrel"], check=True, capture_output=True, text=True, timeout=20
    ).stdout
    blocks = re.findall(r"set (learned_\w+) {(.*?)\n\t}", listing, re.S)
    return {name: set(re.findall(r"([0-9a-f.:]+) timeout", block)) for name, block in blocks}


def learn(history: list[Pass]) -> list[dict[str, set[str]]]:
    """What is in the dynamic sets after each pass and its answer."""

    async def step(nft: Nft, one: Pass) -> None:
        assert await write(nft, one.table, await nft.observe()) is None
        assert await nft.fill(one.learned) is None
        assert await nft.observe() == made(one.table).found

    with asyncio.Runner() as runner:
        nft, seen = Nft(), []
        for one in history:
            if one.command:
                subprocess.run(["nft", one.command], check=False, capture_output=True, timeout=20)
            runner.run(step(nft, one))
            seen.append(in_dynamic_sets())
        return seen


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    history=st.lists(
        st.builds(
            Pass,
            st.sampled_from(LEFT),
            st.lists(st.sampled_from(EDGES), max_size=3, unique=True),
            st.sets(st.sampled_from(NAMES)),
            st.dictionaries(st.integers(0, 2), st.sets(st.integers(1, 40), min_size=1, max_size=3)),
        ),
        min_size=2,
        max_size=5,
    )
)
def test_what_is_filled_stays_from_pass_to_pass_as_long_as_its_set_does(host: Namespace, history: list[Pass]) -> None:
    host.call(subprocess.run, ["nft", "flush ruleset"])
    expected: dict[str, set[str]] = {}
    for one, found in zip(history, host.call(learn, history), strict=True):
        if one.command == "flush ruleset":
            expected = {}
        expected = {name: expected.get(name, set()) | {*one.learned.get(name, {})} for name in one.names}
        assert found == expected
