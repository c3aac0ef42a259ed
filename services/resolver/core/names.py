"""Which of a route's domains can be resolved ahead of any question."""

from collections.abc import Iterable

from shared.net.domains import BadDomain, is_wildcard, parse_domain


def resolvable(domains: Iterable[str]) -> tuple[str, ...]:
    """The names to ask for, each once, in the given order.

    A wildcard stands for names nobody has asked for yet (its addresses are learned by the routing peers' forwarders),
    and what is no name cannot be asked for; both are left out.
    """
    return tuple(dict.fromkeys(domain for domain in domains if not is_wildcard(domain) and _is_name(domain)))


def _is_name(domain: str) -> bool:
    try:
        return parse_domain(domain) == domain
    except BadDomain:
        return False
