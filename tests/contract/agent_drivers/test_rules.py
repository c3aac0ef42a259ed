"""drivers/rtnl_rules.py on the real kernel."""

import pytest

from deploy.lab.netns import Namespace
from services.agent.core.kernel import CONTROL_MARK, CONTROL_MASK, ROUTE_PROTOCOL, TABLE, Family, RuleEntry, RuleKey
from services.agent.core.routing.policyrules import policy_rules
from services.agent.drivers.netlink import Netlink
from services.agent.drivers.rtnl_rules import Rules
from tests.contract.agent_drivers.conftest import run_on

pytestmark = pytest.mark.root

FAMILIES: tuple[Family, ...] = ("v4", "v6")
OPTION = {"v4": "-4", "v6": "-6"}
WANTED: dict[RuleKey, RuleEntry] = policy_rules(ipv6=True, closed=FAMILIES)
KERNELS_OWN = {"v4": {"0", "32766", "32767"}, "v6": {"0", "32766"}}
MAIN = ("lookup", "main", "suppress_prefixlength", "0")


def shown(host: Namespace, family: Family) -> list[str]:
    """The lines of `ip rule` that are not the kernel's own, without the name of their protocol."""
    lines = host.ip(OPTION[family], "rule").splitlines()
    return [
        " ".join(line.split()).partition(" proto ")[0]
        for line in lines
        if line.split(":")[0] not in KERNELS_OWN[family]
    ]


def test_the_rules_of_both_families_are_what_iproute2_shows(host: Namespace) -> None:
    async def scenario(rtnl: Netlink) -> None:
        assert await Rules(rtnl).upsert(WANTED) == {}
        assert await Rules(rtnl).observe() == WANTED

    run_on(host, scenario)
    for family in FAMILIES:
        assert shown(host, family) == [
            "105: from all lookup main suppress_prefixlength 0",
            "110: not from all fwmark 0x1bd00/0x1ff00 lookup 7120",
            "115: not from all fwmark 0x1bd00/0x1ff00 unreachable",
        ]


def test_doing_it_again_changes_nothing(host: Namespace) -> None:
    async def scenario(rtnl: Netlink) -> None:
        rules = Rules(rtnl)
        for _ in range(2):
            assert await rules.upsert(WANTED) == {}
            assert [len(shown(host, family)) for family in FAMILIES] == [3, 3]
        for _ in range(2):
            assert await rules.delete(WANTED) == {}
            assert await rules.observe() == {}
            assert [shown(host, family) for family in FAMILIES] == [[], []]

    run_on(host, scenario)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_rule_that_changed_is_replaced(host: Namespace, family: Family) -> None:
    key = (family, 110)
    other = RuleEntry(family=family, priority=110, table=TABLE, not_mark=(CONTROL_MARK, 0xFFFFFFFF))

    async def scenario(rtnl: Netlink) -> None:
        rules = Rules(rtnl)
        await rules.upsert(WANTED)
        assert await rules.upsert({key: other}) == {}
        assert await rules.observe() == WANTED | {key: other}
        assert await rules.upsert(WANTED) == {}
        assert await rules.observe() == WANTED

    run_on(host, scenario)
    assert len(shown(host, family)) == 3


@pytest.mark.parametrize("family", FAMILIES)
def test_an_equal_rule_of_another_program_stays(host: Namespace, family: Family) -> None:
    """NetBird's rule 105 is ours in all but the protocol."""
    host.ip(OPTION[family], "rule", "add", "priority", "105", *MAIN)

    async def scenario(rtnl: Netlink) -> None:
        rules = Rules(rtnl)
        assert await rules.observe() == {}
        assert await rules.upsert(WANTED) == {}
        assert await rules.observe() == WANTED
        assert await rules.delete(WANTED) == {}

    run_on(host, scenario)
    assert shown(host, family) == ["105: from all lookup main suppress_prefixlength 0"]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_rule_that_others_removed_is_missed(host: Namespace, family: Family) -> None:
    async def scenario(rtnl: Netlink) -> None:
        rules = Rules(rtnl)
        await rules.upsert(WANTED)
        host.ip(OPTION[family], "rule", "del", "priority", "110")
        assert await rules.observe() == {key: rule for key, rule in WANTED.items() if key != (family, 110)}
        assert await rules.upsert(WANTED) == {}
        assert await rules.observe() == WANTED

    run_on(host, scenario)


@pytest.mark.parametrize("family", FAMILIES)
def test_of_two_rules_left_by_a_crash_the_one_asked_first_shows_and_the_wanted_one_stays(
    host: Namespace, family: Family
) -> None:
    stale = RuleEntry(family=family, priority=110, table=99)

    async def scenario(rtnl: Netlink) -> None:
        rules = Rules(rtnl)
        await rules.upsert({(family, 110): stale})
        mark = f"{CONTROL_MARK:#x}/{CONTROL_MASK:#x}"
        protocol = ("protocol", str(ROUTE_PROTOCOL))
        host.ip(
            OPTION[family], "rule", "add", "not", "fwmark", mark, "priority", "110", "lookup", str(TABLE), *protocol
        )
        assert await rules.observe() == {(family, 110): stale}
        await rules.upsert({(family, 110): WANTED[family, 110]})
        assert await rules.observe() == {(family, 110): WANTED[family, 110]}

    run_on(host, scenario)


def test_a_host_with_both_families_says_so(host: Namespace) -> None:
    async def scenario(rtnl: Netlink) -> None:
        assert Rules(rtnl).families() == {"v4", "v6"}

    run_on(host, scenario)
