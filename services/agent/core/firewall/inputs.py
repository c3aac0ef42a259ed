"""The matches of peer rules for traffic to this host, kept up to date rule by rule."""

from collections.abc import Mapping

from services.agent.core.changes import changed, patched
from services.agent.core.firewall.permits import Match, fault, input_matches, made_usable
from shared.events.documents import RuleDoc, SelfDoc


class Inputs:
    """matches: rule id → its matches for traffic to this host. skipped: rule id → why the rule makes no sense."""

    def __init__(self, me: SelfDoc | None) -> None:
        self._audiences = me.audiences if me is not None else ()
        self._rules: Mapping[str, RuleDoc] = {}
        self.matches: Mapping[str, tuple[Match, ...]] = {}
        self.skipped: Mapping[str, str] = {}

    def update(self, rules: Mapping[str, RuleDoc]) -> None:
        """Take the rules over."""
        before, self._rules = self._rules, rules
        others = changed(before, rules)
        self.matches = patched(self.matches, {id: self._said(rules.get(id)) or None for id in others})
        self.skipped = patched(self.skipped, {id: fault(rules[id]) or None if id in rules else None for id in others})

    def _said(self, rule: RuleDoc | None) -> tuple[Match, ...]:
        usable = made_usable(rule) if rule is not None else None
        return input_matches(usable, self._audiences) if usable is not None else ()
