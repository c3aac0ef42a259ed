"""The accounts that the benchmarks of management run on: each peer in 3 groups, 50 routing groups of 10 peers, 200
policies, 500 routes with 10 routing peers each."""

import hashlib
from collections.abc import Iterator
from typing import NamedTuple

from msgspec.structs import replace

from services.management.core.entities import Entity
from services.management.core.model.commit import Activity, Commit
from services.management.core.model.peer import Peer
from services.management.core.model.policy import Policy
from services.management.core.model.route import Route
from services.management.core.model.user import AccessToken, User
from tests import builders
from tests.builders import NOW, group, peer, policy, route, rule

TOKEN = "nbp_benchmark"
ROUTING_GROUPS, MEMBERS, POLICIES, ROUTES = 50, 10, 200, 500


class Size(NamedTuple):
    peers: int
    groups: int

    def __str__(self) -> str:
        return f"{self.peers:,} peers / {self.groups} groups"


SIZES = (Size(500, 20), Size(5_000, 200), Size(20_000, 500))


def founding(size: Size) -> Commit:
    """The first commit: everything but peers, policies and routes, and who may ask with TOKEN."""
    owner = User(id="owner", name="Owner", role="owner", created_at=NOW)
    token = AccessToken(
        id="token", user_id="owner", name="bench", token_hash=hashlib.sha256(TOKEN.encode()).hexdigest(), created_at=NOW
    )
    groups = [group(f"g{number}") for number in range(size.groups)]
    routing = [group(f"routing{number}") for number in range(ROUTING_GROUPS)]
    return builders.commit(builders.account(), builders.group_all(), owner, token, *groups, *routing)


def commits(size: Size, at_once: int = 1) -> Iterator[Commit]:
    """What follows `founding`: peers, so many in a commit, then policies and routes, one in each."""
    yield founding(size)
    for first in range(0, size.peers, at_once):
        some = [member(size, number) for number in range(first, min(size.peers, first + at_once))]
        added = (Activity(code="peer.setupkey.add", target_id=one.id, meta=_said(one)) for one in some)
        yield replace(builders.commit(*some), activities=tuple(added))
    rest: list[Entity] = [*policies(size), *routes(size)]
    yield from map(builders.commit, rest)


def member(size: Size, number: int) -> Peer:
    groups = {f"g{(number * factor + number // size.groups) % size.groups}" for factor in (1, 3, 7)}
    if number < ROUTING_GROUPS * MEMBERS:
        groups.add(f"routing{number % ROUTING_GROUPS}")
    address = f"100.{64 + number // 62_500}.{number // 250 % 250}.{number % 250 + 1}"
    return peer(f"p{number:05}", *groups, address_v4=address, address_v6=f"fd00:64::{number + 1:x}")


def policies(size: Size) -> Iterator[Policy]:
    for number in range(POLICIES):
        sides = {"sources": (f"g{number % size.groups}",), "destinations": (f"g{(number * 7 + 1) % size.groups}",)}
        yield policy(f"policy{number}", rule(f"rule{number}", bidirectional=True, **sides))


def routes(size: Size, number_of: int = ROUTES) -> Iterator[Route]:
    for number in range(number_of):
        yield route(
            f"route{number:05}",
            f"10.{number // 250}.{number % 250}.0/24",
            peer_groups=(f"routing{number % ROUTING_GROUPS}",),
            groups=(f"g{number % size.groups}",),
            access_control_groups=(f"g{(number + 1) % size.groups}",),
        )


def _said(of: Peer) -> dict[str, str | int | bool | list[str]]:
    return {"name": of.name, "fqdn": of.fqdn(builders.DNS_DOMAIN), "ip": of.address_v4, "setup_key_name": "bench"}
