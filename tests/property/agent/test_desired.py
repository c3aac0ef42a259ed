"""The state computed change by change, beside the one computed from nothing."""

from typing import Any, TypeAlias

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from services.agent.core import parsed
from services.agent.core.documents import Documents
from services.agent.core.reconcile.desired import Computation, Local, desired
from services.agent.core.routing.hagroups import ha_key
from tests.property.agent import worlds
from tests.unit.agent import make

ROUTES = ("r0", "r1", "r2", "r3")
KINDS = (
    *("routes",) * 5,
    "peers",
    "peers",
    "rules",
    "resolutions",
    "connected",
    "decisions",
    "decisions",
    "local",
    "self_doc",
)

World: TypeAlias = tuple[Documents, Local]


@st.composite
def entries(draw: st.DrawFn, kind: str) -> tuple[str, Any]:
    """The id of a document, and the document that comes in the place of what was there, None for a deletion."""
    name = draw(st.sampled_from(worlds.PEERS if kind == "peers" else ROUTES))
    if draw(st.integers(0, 3)) == 0:
        return name, None
    match kind:
        case "peers":
            number = draw(st.sampled_from((0, 1)))
            return name, parsed.peer(draw(worlds.peers(worlds.PEERS.index(name) - number, name)))
        case "rules":
            return name, draw(worlds.rules(name))
        case "resolutions":
            return name, parsed.resolution(make.resolution(name, a_example=draw(st.sampled_from(ADDRESSES))))
    return name, parsed.route(draw(st.one_of(worlds.routes(name), worlds.client_routes(name))))


ADDRESSES = (("10.1.2.7",), ("10.1.2.7", "203.0.113.9"), ("203.0.113.8", "203.0.113.9"), ("100.64.0.11",), ())


@st.composite
def after(draw: st.DrawFn, world: World) -> World:
    """The world after one change."""
    documents, local = world
    match draw(st.sampled_from(KINDS)):
        case "connected":
            local = replace(local, connected=local.connected ^ {draw(st.sampled_from(worlds.PEERS))})
        case "local":
            other = draw(worlds.locals_())
            local = replace(
                other, routing_peers=local.routing_peers, connected=local.connected, decisions=local.decisions
            )
        case "decisions":
            key = draw(
                st.sampled_from(sorted({ha_key(route) for route in documents.routes.values()}) or [("n1", "", ())])
            )
            decided = {**local.decisions, key: draw(st.sampled_from(("", *worlds.PEERS)))}
            local = replace(local, decisions=decided if draw(st.booleans()) else {})
        case "self_doc":
            documents = replace(documents, self_doc=draw(st.one_of(st.none(), st.builds(make.me, st.just("me")))))
        case kind:
            name, document = draw(entries(kind))
            held = {**getattr(documents, kind), name: document}
            kept = {id: one for id, one in sorted(held.items()) if one is not None}
            documents = replace(documents, **{kind: kept})
    return documents, local


@given(data=st.data())
def test_what_is_computed_change_by_change_is_what_is_computed_from_nothing(data: st.DataObject) -> None:
    world, computation = data.draw(worlds.hosts()), Computation()
    for _ in range(data.draw(st.integers(5, 20))):
        documents, local = world
        found = computation.update(documents, local)
        assert found == desired(documents, local)
        incumbents = data.draw(st.sampled_from((*(found.routing_peers,) * 5, {}, {"r0": "p2", "r1": "p3"})))
        world = data.draw(after((documents, replace(local, routing_peers=incumbents))))


@given(worlds.hosts())
def test_nothing_is_computed_again_for_the_same_documents(world: World) -> None:
    computation = Computation()
    documents, local = world
    local = replace(local, routing_peers=computation.update(documents, local).routing_peers)
    first = computation.update(documents, local)
    again = computation.update(replace(documents, revision=documents.revision + 1), local)
    for kind in ("peers", "routes", "ruleset", "skipped", "routing_peers", "served"):
        assert getattr(first, kind) is getattr(again, kind)
