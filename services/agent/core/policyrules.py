"""Which routing table a packet asks: main for anything specific, then the overlay's, then main's default."""

from services.agent.core.kernel import (
    CONTROL_MARK,
    CONTROL_MASK,
    RULE_MAIN,
    RULE_OVERLAY,
    TABLE,
    Family,
    RuleEntry,
    RuleKey,
)

MAIN_TABLE = 254


def policy_rules(*, ipv6: bool) -> dict[RuleKey, RuleEntry]:
    """The two rules of each family (reference agent §1.2). ipv6: whether the host's kernel has IPv6.

    Main's routes other than the default win over every overlay route; what WireGuard and the agent send themselves
    never asks the overlay's table.
    """
    families: tuple[Family, ...] = ("v4", "v6") if ipv6 else ("v4",)
    rules = [
        rule
        for family in families
        for rule in (
            RuleEntry(family=family, priority=RULE_MAIN, table=MAIN_TABLE, suppress_prefix_length=0),
            RuleEntry(family=family, priority=RULE_OVERLAY, table=TABLE, not_mark=(CONTROL_MARK, CONTROL_MASK)),
        )
    ]
    return {(rule.family, rule.priority): rule for rule in rules}
