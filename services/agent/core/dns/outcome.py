"""What became of a question: the answer, and how it came about."""

from typing import NamedTuple

import dns.message

from services.agent.core.dns.decide import Passed
from services.agent.core.dns.rules import Rule
from services.agent.core.routing.hagroups import HaKey
from shared.events.documents import DnsServer


class Outcome(NamedTuple):
    """An answer, and how it came about. server: who gave it, None where it was us. key: of a route, whose names it is.

    passed: rules that had the name as well. why: what went wrong, "" if nothing did.
    """

    message: dns.message.Message
    rule: Rule | None = None
    passed: tuple[Passed, ...] = ()
    server: DnsServer | None = None
    key: HaKey | None = None
    why: str = ""
