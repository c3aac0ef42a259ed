"""Which routing table a packet asks: main for anything specific, then the overlay's, then main's default.

With an exit in use main's default is closed: routes of the overlay's table go with their interface, and what they held
would go into the open until they are back.
"""

from collections.abc import Collection

from services.agent.core.kernel import (
    CONTROL_MARK,
    CONTROL_MASK,
    RULE_CLOSED,
    RULE_MAIN,
    RULE_OVERLAY,
    TABLE,
    Family,
    RuleEntry,
    RuleKey,
)

MAIN_TABLE = 254


def policy_rules(*, ipv6: bool, closed: Collection[Family] = ()) -> dict[RuleKey, RuleEntry]:
    """The two rules of each family (reference agent §1.2), and a third where an exit is in use.

    ipv6: whether the host's kernel has IPv6. closed: families whose default route is an exit's, reachable or not (R2).

    Main's routes other than the default win over every overlay route; what WireGuard and the agent send themselves
    never asks the overlay's table.
    """
    families: tuple[Family, ...] = ("v4", "v6") if ipv6 else ("v4",)
    others = (CONTROL_MARK, CONTROL_MASK)
    rules: list[RuleEntry] = []
    for family in families:
        rules += (
            RuleEntry(family=family, priority=RULE_MAIN, table=MAIN_TABLE, suppress_prefix_length=0),
            RuleEntry(family=family, priority=RULE_OVERLAY, table=TABLE, not_mark=others),
        )
        if family in closed:
            rules.append(RuleEntry(family=family, priority=RULE_CLOSED, unreachable=True, not_mark=others))
    return {(rule.family, rule.priority): rule for rule in rules}
