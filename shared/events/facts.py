"""FACTS: what is observed, last value per subject. Never part of the log. All times are unix seconds."""

import msgspec

from shared.events.documents import ResolvedName


class SessionFact(msgspec.Struct, frozen=True, kw_only=True, tag="session.v1"):
    """A peer is heard, or silent. Producer: signal. Consumers: management. Key: account, peer.

    epoch: orders the sessions of one peer; an older epoch changes nothing.
    """

    peer_id: str
    epoch: int
    connected: bool
    since: float


class RouteState(msgspec.Struct, frozen=True, kw_only=True):
    """What a host made of one route: `state` is "serving", "installed", "waiting" or "failed"."""

    route_id: str
    state: str
    error: str = ""


class ReportFact(msgspec.Struct, frozen=True, kw_only=True, tag="report.v1"):
    """What a host runs and how far it is. Producer: the agent itself. Consumers: management. Key: account, peer.

    desired_revision: newest LOG sequence among the documents it holds. applied_revision: the newest one whose
    kernel state was read back without a difference. pending: entries that differ or failed.
    """

    peer_id: str
    version: str
    hostname: str
    os: str
    kernel: str
    backend: str
    desired_revision: int
    applied_revision: int
    pending: int
    routes: tuple[RouteState, ...] = ()
    at: float = 0.0


class ResolutionFact(msgspec.Struct, frozen=True, kw_only=True, tag="resolution.v1"):
    """The addresses a route's names have. Producer: resolver. Consumers: the projector. Key: account, route.

    revision: revision of the route document it was made for. names: () once the route is gone.
    """

    route_id: str
    revision: int
    names: tuple[ResolvedName, ...]
