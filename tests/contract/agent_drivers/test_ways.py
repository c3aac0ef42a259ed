"""drivers/rtnl_ways.py on the real kernel."""

import errno

import pytest

from deploy.lab.netns import Namespace
from services.agent.core.kernel import RouteEntry
from services.agent.core.routing.following import Answer, OtherRule
from services.agent.core.routing.policyrules import policy_rules
from services.agent.drivers.netlink import Netlink
from services.agent.drivers.rtnl_routes import Routes
from services.agent.drivers.rtnl_rules import Rules
from services.agent.drivers.rtnl_ways import AT_ONCE, Ways
from tests.contract.agent_drivers.conftest import run_on

pytestmark = pytest.mark.root

MANY = [f"10.{number // 256}.{number % 256}.0/24" for number in range(2 * AT_ONCE + 7)]
V6 = "fd00:77::/64"


def test_many_questions_are_answered_each_with_its_route_of_either_family(tunnel: Namespace) -> None:
    async def scenario(rtnl: Netlink) -> None:
        await Rules(rtnl).upsert(policy_rules(ipv6=True))
        await Routes(rtnl).upsert({prefix: RouteEntry(prefix=prefix, device="wt0") for prefix in (*MANY, V6)})
        addresses = {prefix: prefix.replace(".0/24", ".9").replace("::/64", "::9") for prefix in (*MANY, V6)}
        found = await Ways(rtnl).ask({**addresses, "nowhere": "198.51.100.1"})
        assert [(found[prefix].device, found[prefix].table, found[prefix].prefix) for prefix in addresses] == [
            ("wt0", 7120, prefix) for prefix in addresses
        ]
        assert found["nowhere"] == Answer(refused="Network is unreachable", errno=errno.ENETUNREACH)

    run_on(tunnel, scenario)


def test_rules_of_others_are_listed_and_ours_are_not(tunnel: Namespace) -> None:
    tunnel.ip("rule", "add", "priority", "90", "lookup", "5000")
    tunnel.ip("-6", "rule", "add", "priority", "91", "prohibit")

    async def scenario(rtnl: Netlink) -> None:
        await Rules(rtnl).upsert(policy_rules(ipv6=True))
        assert {rule for rule in Ways(rtnl).others() if 0 < rule.priority < 32000} == {
            OtherRule(family="v4", priority=90, table=5000),
            OtherRule(family="v6", priority=91, table=0),
        }

    run_on(tunnel, scenario)
