"""Whether the kernel follows the routes of the overlay's table, and which other route or rule it prefers to one."""

from collections.abc import Iterable, Mapping
from typing import Literal, TypeAlias

import msgspec
from msgspec.structs import replace

from services.agent.core.desired_state import Desired
from services.agent.core.documents import Documents
from services.agent.core.intervals import address, of, parse
from services.agent.core.kernel import RULE_OVERLAY, TABLE, Family, RouteEntry
from services.agent.core.routing.destinations import destinations, overlay_of
from services.agent.core.routing.policyrules import MAIN_TABLE

LinkState: TypeAlias = Literal["up", "down", "no carrier"]


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """Which route the kernel takes. prefix: that of the route. direct: it leads to a network the host is in itself.

    link: how the kernel takes the device to be; of several next hops that of the best, which `device` names then.
    refused: why there is none, "" when there is; errno: the same as a number, 0 when there is.
    """

    device: str = ""
    table: int = 0
    prefix: str = ""
    direct: bool = False
    link: LinkState = "up"
    refused: str = ""
    errno: int = 0


class Entrance(msgspec.Struct, frozen=True, kw_only=True):
    """Where packets come in that the kernel is asked about. sources: who sends them, by family."""

    device: str
    sources: Mapping[Family, str]


class OtherRule(msgspec.Struct, frozen=True, kw_only=True):
    """A policy routing rule of another program. table: 0 for one that makes unreachable, drops or prohibits."""

    family: Family
    priority: int
    table: int


def address_in(prefix: str) -> str:
    """The address to ask the kernel about: the middle of the prefix, as the first may be none that packets go to."""
    network = parse(prefix)
    piece = of(network)
    return address(piece.first + (piece.last - piece.first + 1) // 2, 4 if network.version == 4 else 6)


def unfollowed(
    routes: Mapping[str, RouteEntry], answers: Mapping[str, Answer], rules: Iterable[OtherRule]
) -> dict[str, str]:
    """Prefix of a route of ours → why the kernel sends its packets elsewhere.

    A narrower route of the host's own is no reason: the rest of the prefix goes where it shall.
    """
    before = sorted((rule for rule in rules if rule.priority < RULE_OVERLAY), key=lambda rule: rule.priority)
    found = {}
    for prefix, answer in answers.items():
        entry = routes.get(prefix)
        if entry is None or entry.unreachable or answer.table == TABLE:
            continue
        if not answer.refused and not _covers(answer.prefix, prefix):
            continue
        found[prefix] = _reason(answer, [rule for rule in before if (rule.family == "v6") == (":" in prefix)])
    return found


def with_reasons(documents: Documents, desired: Desired, reasons: Mapping[str, str], *, ipv6: bool) -> Desired:
    """The desired state; `skipped` names the routes, too, that the kernel does not follow."""
    if not reasons:
        return desired
    overlay = overlay_of(documents.settings, documents.self_doc, ipv6=ipv6)
    strays = {}
    for route_id in desired.routing_peers:
        if route_id in documents.routes:
            leads_to = destinations(documents.routes[route_id], documents.resolutions.get(route_id), overlay).networks
            reason = next((reasons[str(network)] for network in leads_to if str(network) in reasons), "")
            if reason:
                strays[route_id] = reason
    return replace(desired, skipped={**strays, **desired.skipped})


def _reason(answer: Answer, before: list[OtherRule]) -> str:
    rule = next((rule for rule in before if rule.table == answer.table), None)
    where = f" to {answer.device}" if answer.device else ""
    if answer.refused:
        by = f": rule {rule.priority} of another program goes before ours" if rule else ""
        return f"the kernel has no way there ({answer.refused}){by}"
    if rule is not None and (answer.table != MAIN_TABLE or answer.prefix.endswith("/0")):
        return f"rule {rule.priority} of another program goes before ours: table {answer.table} leads{where}"
    if answer.table == MAIN_TABLE and answer.direct:
        return f"this host is in {answer.prefix} itself, by {answer.device}"
    return f"the host's own route {answer.prefix} in table {answer.table} goes before it{where}"


def _covers(prefix: str, other: str) -> bool:
    wide, narrow = parse(prefix), parse(other)
    return wide.version == narrow.version and wide.prefixlen <= narrow.prefixlen and wide.overlaps(narrow)
