"""drivers/nft.py on the real kernel, with nft itself as the other program."""

import asyncio
import itertools
import random
import socket
import subprocess
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

import pytest
from msgspec.structs import replace

from deploy.lab.netns import Namespace
from services.agent.core import parsed
from services.agent.core.firewall.permits import Layer4, Match, Selector
from services.agent.core.firewall.ruleset import Around, Elements, Replace, Table, change, elements, shape
from services.agent.core.firewall.served import Served
from services.agent.core.intervals import Range, parse, text
from services.agent.core.kernel import Count, Hook, NftChain, NftMap, NftSet, ObservedRuleset, Ruleset
from services.agent.core.rule import Connection, Dispatch, Interface, IpProtocol, Jump, Member, Ports, Rule
from services.agent.drivers.nft import Nft
from services.agent.errors import MechanismMissing
from shared.events.documents import Action, PeerDoc
from tests.contract.agent_drivers.conftest import missing

pytestmark = pytest.mark.root

FROM_X = Member(4, "source", "from_x")
DESTINATIONS = {"10.0.0.0/8": "jump permits_a", "192.168.0.0-192.168.0.5": "jump permits_b"}


def ruleset(
    sources: Iterable[str] = ("100.64.0.7", "100.64.0.8"), destinations: dict[str, str] | None = None
) -> Ruleset:
    """One of everything that core/firewall/ruleset.py makes, and elements in every form that nft prints."""
    return Ruleset(
        sets=(
            NftSet(name="from_x", type="ipv4_addr", interval=False, elements=frozenset(sources)),
            NftSet(
                name="from_y",
                type="ipv6_addr",
                interval=True,
                elements=frozenset({"fd00::/64", "::102:300/120", "2001:db8::1", "fe80::1-fe80::5"}),
            ),
            NftSet(name="nobody", type="ipv4_addr", interval=True, elements=frozenset()),
            NftSet(
                name="ports",
                type="ipv4_addr . inet_proto . inet_service",
                interval=True,
                elements=frozenset({"100.64.0.7 . 6 . 80-90", "100.64.0.0/24 . 17 . 53"}),
            ),
        ),
        maps=(
            NftMap(
                name="permits_v4",
                type="ipv4_addr",
                interval=True,
                elements=DESTINATIONS if destinations is None else destinations,
            ),
        ),
        chains=(
            NftChain(name="empty", rules=()),
            NftChain(
                name="forward",
                hook=Hook("filter", "forward", 0),
                rules=(Rule((Interface("in", "wt0"),), Jump("forward_overlay")),),
            ),
            NftChain(
                name="forward_overlay",
                rules=(
                    Rule((Connection("related"),), "accept"),
                    Rule((), Dispatch(4, "permits_v4")),
                    Rule((), "drop"),
                ),
            ),
            NftChain(
                name="permits_a", rules=(Rule((FROM_X, Ports("tcp", (Range(80, 80), Range(443, 443)))), "accept"),)
            ),
            NftChain(
                name="permits_b",
                rules=(Rule((FROM_X,), "accept"), Rule((Member(6, "source", "from_y"),), "accept")),
            ),
            NftChain(
                name="postrouting",
                hook=Hook("nat", "postrouting", 99),
                rules=(Rule((Interface("in", "wt0"), Interface("out", "wt0", other=True)), "masquerade"),),
            ),
        ),
    )


def ruleset_of(*rules: Rule) -> Ruleset:
    """A table with these rules about what comes to this host."""
    return Ruleset(chains=(NftChain(name="input", hook=Hook("filter", "input", 0), rules=rules),))


WANTED = ruleset()
SHAPE = shape(WANTED)


def on(host: Namespace, scenario: Callable[[Nft], Coroutine[Any, Any, None]]) -> None:
    async def scene() -> None:
        await scenario(Nft())

    host.call(asyncio.run, scene())


def nft(command: str) -> str:
    """Another program at work on the same host; what it prints."""
    options, words = (["-a"], command.removeprefix("-a ")) if command.startswith("-a ") else ([], command)
    return subprocess.run(["nft", *options, words], check=True, capture_output=True, text=True).stdout


async def put(driver: Nft, desired: Ruleset) -> ObservedRuleset:
    assert await driver.replace(desired) is None
    return await driver.observe()


def test_what_is_written_reads_back_as_the_same_shape_and_elements(host: Namespace) -> None:
    async def scenario(driver: Nft) -> None:
        assert await driver.observe() == ObservedRuleset(shape="", elements={})
        for _ in range(2):
            observed = await put(driver, WANTED)
            assert observed == ObservedRuleset(shape=SHAPE, elements=elements(WANTED))

    on(host, scenario)


def test_another_process_knows_the_shape_without_having_written_it(host: Namespace) -> None:
    async def written(driver: Nft) -> None:
        await put(driver, WANTED)

    async def found(driver: Nft) -> None:
        assert await driver.observe() == ObservedRuleset(shape=SHAPE, elements=elements(WANTED))

    on(host, written)
    on(host, found)


@pytest.mark.parametrize(
    "command",
    [
        "flush ruleset",
        "delete table inet whimbrel",
        "flush table inet whimbrel",
        "flush chain inet whimbrel forward",
        "flush chain inet whimbrel permits_b",
        "insert rule inet whimbrel permits_b accept",
        "add rule inet whimbrel permits_b accept",
        "add rule inet whimbrel empty accept",
        "add set inet whimbrel other { type ipv4_addr; }",
        "add map inet whimbrel other { type ipv4_addr : verdict; }",
        "add chain inet whimbrel other",
        "delete chain inet whimbrel empty",
        "delete set inet whimbrel nobody",
        "chain inet whimbrel forward { policy drop; }",
        "add counter inet whimbrel other",
        "add table inet whimbrel { flags dormant; }",
    ],
)
def test_a_table_that_others_changed_has_no_shape_and_is_put_right(host: Namespace, command: str) -> None:
    async def scenario(driver: Nft) -> None:
        await put(driver, WANTED)
        nft(command)
        observed = await driver.observe()
        assert observed.shape == ""
        assert change(WANTED, observed) == Replace(WANTED)
        assert change(WANTED, await put(driver, WANTED)) is None

    on(host, scenario)


@pytest.mark.parametrize("what", ["deleted", "replaced", "moved"])
@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_rule_that_others_deleted_replaced_or_moved_is_missed(host: Namespace, number: int, what: str) -> None:
    chain = "inet whimbrel forward_overlay"

    async def scenario(driver: Nft) -> None:
        await put(driver, WANTED)
        rules = [line.strip() for line in nft(f"-a list chain {chain}").splitlines() if "comment" in line]
        rule, handle = rules[number].split(" # handle ")
        if what == "replaced":
            nft(f"replace rule {chain} handle {handle} counter accept")
        else:
            nft(f"delete rule {chain} handle {handle}")
        if what == "moved":
            nft(f"{'insert' if number == 2 else 'add'} rule {chain} {rule}")
        assert (await driver.observe()).shape == ""

    on(host, scenario)


@pytest.mark.parametrize(
    ("command", "name", "add", "remove"),
    [
        ("add element inet whimbrel from_x { 100.64.0.66 }", "from_x", set(), {"100.64.0.66"}),
        ("delete element inet whimbrel from_x { 100.64.0.7 }", "from_x", {"100.64.0.7"}, set()),
        ("flush set inet whimbrel from_x", "from_x", {"100.64.0.7", "100.64.0.8"}, set()),
        ("delete element inet whimbrel from_y { fd00::/64 }", "from_y", {"fd00::/64"}, set()),
        ("add element inet whimbrel nobody { 10.0.0.0/8 }", "nobody", set(), {"10.0.0.0/8"}),
        (
            "delete element inet whimbrel permits_v4 { 10.0.0.0/8 }",
            "permits_v4",
            {"10.0.0.0/8 : jump permits_a"},
            set(),
        ),
    ],
)
def test_elements_that_others_changed_are_the_change_that_is_left(
    host: Namespace, command: str, name: str, add: set[str], remove: set[str]
) -> None:
    async def scenario(driver: Nft) -> None:
        await put(driver, WANTED)
        nft(command)
        left = change(WANTED, await driver.observe())
        expected_add = {name: frozenset(add)} if add else {}
        expected_remove = {name: frozenset(remove)} if remove else {}
        assert left == Elements(expected_add, expected_remove, SHAPE, WANTED)
        assert await driver.change(left.add, left.remove, left.shape) is None
        assert change(WANTED, await driver.observe()) is None

    on(host, scenario)


def test_a_refused_change_changes_nothing(host: Namespace) -> None:
    """One transaction: the good element of a bad change is not there either."""

    async def scenario(driver: Nft) -> None:
        before = await put(driver, WANTED)
        for add, remove in (
            ({"from_x": frozenset({"9.9.9.9"}), "nowhere": frozenset({"9.9.9.9"})}, {}),
            ({"from_x": frozenset({"9.9.9.9"})}, {"from_x": frozenset({"1.2.3.4"})}),
            ({"from_x": frozenset({"9.9.9.9"}), "permits_v4": frozenset({"10.0.0.0/9 : jump permits_b"})}, {}),
        ):
            error = await driver.change(add, remove, SHAPE)
            assert error
            assert "\n" not in error
            assert await driver.observe() == before

    on(host, scenario)


@pytest.mark.parametrize(
    "rule",
    [
        Rule((IpProtocol("nonsense"),), "accept"),
        Rule((), Jump("nowhere")),
        Rule((Member(4, "source", "nowhere"),), "accept"),
    ],
)
def test_a_refused_replacement_leaves_the_table_as_it_was(host: Namespace, rule: Rule) -> None:
    async def scenario(driver: Nft) -> None:
        before = await put(driver, WANTED)
        error = await driver.replace(Ruleset(chains=(NftChain(name="bad", rules=(rule,)),)))
        assert error
        assert "\n" not in error
        assert await driver.observe() == before

    on(host, scenario)


def test_elements_for_another_shape_are_not_written(host: Namespace) -> None:
    async def scenario(driver: Nft) -> None:
        before = await put(driver, WANTED)
        assert await driver.change({"from_x": frozenset({"9.9.9.9"})}, {}, "another")
        assert await driver.observe() == before

    on(host, scenario)


DISCARDED = Rule((Ports("udp", (Range(9, 9),)),), "drop")
REST = Rule((), "accept")
COUNTING = ruleset_of(Rule((IpProtocol("tcp"),), "drop"), DISCARDED, REST)


def discard(times: int) -> None:
    """Datagrams of 29 bytes to this host, which the table drops."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for _ in range(times):
            sender.sendto(b"x", ("127.0.0.1", 9))


def test_what_rules_decide_about_is_counted_under_their_names(host: Namespace) -> None:
    async def scenario(driver: Nft) -> None:
        assert await driver.counts() == {}
        await put(driver, COUNTING)
        assert await driver.counts() == {}
        discard(3)
        assert await driver.counts() == {("input", DISCARDED.key): Count(packets=3, bytes=3 * 29)}

    on(host, scenario)


def test_a_rule_that_stays_goes_on_counting_in_the_next_table_and_others_begin_anew(host: Namespace) -> None:
    """Whoever writes it: what a counter belongs to is known from the kernel alone."""

    async def first(driver: Nft) -> None:
        await put(driver, COUNTING)
        discard(3)

    async def second(driver: Nft) -> None:
        await put(driver, ruleset_of(DISCARDED, REST))
        discard(2)
        assert await driver.counts() == {("input", DISCARDED.key): Count(packets=5, bytes=5 * 29)}
        await put(driver, ruleset_of(REST))
        await put(driver, COUNTING)
        assert await driver.counts() == {}

    on(host, first)
    on(host, second)


def test_a_change_of_elements_leaves_the_counters_alone(host: Namespace) -> None:
    counting = replace(COUNTING, sets=WANTED.sets)

    async def scenario(driver: Nft) -> None:
        await put(driver, counting)
        discard(2)
        await driver.change({"from_x": frozenset({"9.9.9.9"})}, {}, shape(counting))
        assert await driver.counts() == {("input", DISCARDED.key): Count(packets=2, bytes=2 * 29)}

    on(host, scenario)


def test_a_table_is_removed_once(host: Namespace) -> None:
    async def scenario(driver: Nft) -> None:
        await put(driver, WANTED)
        for _ in range(2):
            assert await driver.destroy() is None
            assert await driver.observe() == ObservedRuleset(shape="", elements={})

    on(host, scenario)


def test_tables_of_others_stay(host: Namespace) -> None:
    async def scenario(driver: Nft) -> None:
        nft("add table inet other")
        nft("add table ip whimbrel")
        await put(driver, WANTED)
        await driver.destroy()
        assert nft("list tables").splitlines() == ["table inet other", "table ip whimbrel"]

    on(host, scenario)


def test_what_the_core_compiles_loads_and_reads_back(host: Namespace) -> None:
    """Every protocol, both actions, one port and several, both families, nested routes and an exit route."""
    from_group = Selector(groups=("g",), peers=())
    ports = {"tcp": (Range(22, 22), Range(8000, 8080)), "udp": (Range(53, 53),)}
    actions: tuple[Action, ...] = ("accept", "drop")
    protocols: tuple[Layer4, ...] = ("tcp", "udp", "icmp", "all")
    matches = tuple(
        Match(action=action, sources=from_group, protocol=protocol, ports=ports.get(protocol, ()))
        for action, protocol in itertools.product(actions, protocols)
    )
    peer = PeerDoc(
        peer_id="p", name="p", fqdn="p", wireguard_key="", groups=("g",), version="",
        address_v4="100.64.0.9", address_v6="fd00:1::9",
    )  # fmt: skip
    networks = ("10.0.0.0/8", "10.1.0.0/16", "192.0.2.7/32", "0.0.0.0/0", "fd00:2::/64", "::/0")
    around = Around(
        interface="wt0", mtu=1280, listen_port=51820, overlay=(parse("100.64.0.0/16"), parse("fd00:1::/64"))
    )
    served = {
        network: Served(
            route_id=network, networks=(parse(network),), masquerade=number % 2 == 0, matches=matches[number:]
        )
        for number, network in enumerate(networks)
    }
    compiled = Table(around).update({"q": matches}, served, {"p": parsed.peer(peer)})

    async def scenario(driver: Nft) -> None:
        assert change(compiled, await put(driver, compiled)) is None

    on(host, scenario)


def test_any_disjoint_destinations_become_any_others_in_one_transaction(host: Namespace) -> None:
    """Intervals split, join, shrink, grow and change their verdict; the state afterwards is exactly the desired one."""
    chance = random.Random(2)

    def destinations() -> dict[str, str]:
        cuts = sorted(chance.sample(range(1024), chance.randint(2, 14)))
        pieces = [Range(first << 22, (last << 22) - 1) for first, last in itertools.pairwise(cuts)]
        kept = [piece for piece in pieces if chance.random() < 0.8]
        return {text(piece, 4): chance.choice(("jump permits_a", "jump permits_b", "accept")) for piece in kept}

    async def scenario(driver: Nft) -> None:
        await put(driver, WANTED)
        for _ in range(300):
            desired = ruleset(destinations=destinations())
            step = change(desired, await driver.observe())
            if step is not None:
                assert isinstance(step, Elements)
                assert await driver.change(step.add, step.remove, step.shape, step.anew) is None
            assert (await driver.observe()).elements == elements(desired)

    on(host, scenario)


def test_ten_thousand_elements_are_written_changed_and_read(host: Namespace) -> None:
    many = [f"100.{80 + number // 65536}.{number // 256 % 256}.{number % 256}" for number in range(10_000)]
    places = {f"10.{number // 128}.{number % 128 * 2}.0/24": "jump permits_a" for number in range(10_000)}
    desired, other = ruleset(many, places), ruleset(many[1:], dict(list(places.items())[1:]))

    async def scenario(driver: Nft) -> None:
        assert await put(driver, desired) == ObservedRuleset(shape=SHAPE, elements=elements(desired))
        step = change(other, await driver.observe())
        assert isinstance(step, Elements)
        assert await driver.change(step.add, step.remove, step.shape, step.anew) is None
        assert change(other, await driver.observe()) is None

    on(host, scenario)


def test_a_write_of_ours_is_accounted_for_and_one_of_others_is_not(host: Namespace) -> None:
    async def scenario(driver: Nft) -> None:
        start = driver.accounted
        await driver.replace(WANTED)
        assert driver.accounted == start + 1
        nft("add table inet other")
        assert driver.accounted == start + 1
        await driver.observe()
        assert driver.accounted == start + 2
        nft("add table inet third")
        await driver.change({"from_x": frozenset({"9.9.9.9"})}, {}, SHAPE)
        assert driver.accounted == start + 2
        await driver.observe()
        assert driver.accounted == start + 4

    on(host, scenario)


def test_without_root_the_remedy_is_told(host: Namespace) -> None:
    assert missing(host, "services.agent.drivers.nft", "Nft") == "nftables needs root (CAP_NET_ADMIN): run as root"


def test_without_the_library_the_remedy_is_told(host: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.agent.drivers.nft.LIBRARY", "libnftables.so.0")
    with pytest.raises(MechanismMissing, match="apt install libnftables1"):
        Nft()
