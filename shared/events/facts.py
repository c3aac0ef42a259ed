"""FACTS: what is observed, last value per subject. Never part of the log. All times are unix seconds."""

from typing import Annotated, TypeAlias

import msgspec

from shared.events.documents import ResolvedName, Withdrawn

SHORT = 255
"""Code points of a text that a host says of itself: the API shows it to everybody who looks at the peer."""

Short: TypeAlias = Annotated[str, msgspec.Meta(max_length=SHORT)]


class SessionFact(msgspec.Struct, frozen=True, kw_only=True, tag="session.v1"):
    """A peer is heard, or silent. Producer: signal. Consumers: management. Key: account, peer.

    epoch: orders the sessions of one peer; an older epoch changes nothing.
    """

    peer_id: str
    epoch: int
    connected: bool
    since: float


class RouteState(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a host made of one route: `state` is "serving", "installed", "waiting" or "failed".

    routing_peer: id of the peer that carries it for the host, "" for none.
    """

    route_id: str
    state: str
    error: str = ""
    routing_peer: str = ""


class ReportFact(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag="report.v1"):
    """What a host runs and how far it is. Producer: the agent itself. Consumers: management. Key: account, peer.

    desired_revision: newest LOG sequence among the documents it holds. applied_revision: the newest one whose
    kernel state was read back without a difference. pending: entries that differ or failed. A report with a text
    longer than SHORT is none.
    """

    peer_id: str
    version: Short
    hostname: Short
    os: Short
    kernel: Short
    backend: Short
    desired_revision: int
    applied_revision: int
    pending: int
    routes: tuple[RouteState, ...] = ()
    at: float = 0.0


class CandidacyFact(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag="candidacy.v1"):
    """What a routing peer says of itself. Producer: its agent. Consumers: management. Key: account, peer.

    epoch: of the agent's run, as in the beats; number: grows within it. An older pair changes nothing. withdrawn: by
    route id. holds: ids of the routes whose return address it holds. draining: it is about to stop.
    """

    peer_id: str
    epoch: int
    number: int
    draining: bool = False
    withdrawn: tuple[Withdrawn, ...] = ()
    holds: tuple[str, ...] = ()
    at: float = 0.0


class LeaseFact(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag="lease.v1"):
    """Who answers for a return address in the LAN. Producer and consumer: management. Key: account, lease.

    holder: peer id, "" for nobody. contender: who wants it, "" for nobody; preferred: because it ranks first, else
    because it finds the holder silent in the LAN. hears: whether the contender hears anybody there. used_s: for how
    long clients have sent their packets for the LAN to the contender, and not to the holder.
    """

    holder: str
    contender: str = ""
    preferred: bool = False
    hears: bool = False
    used_s: float = 0.0
    at: float = 0.0


class ResolutionFact(msgspec.Struct, frozen=True, kw_only=True, tag="resolution.v1"):
    """The addresses a route's names have. Producer: resolver. Consumers: the projector. Key: account, route.

    revision: revision of the route document it was made for. names: () once the route is gone.
    """

    route_id: str
    revision: int
    names: tuple[ResolvedName, ...]
