"""The state computed change by change, beside the one computed from nothing."""

from collections.abc import Mapping
from typing import TypeAlias

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from services.agent.core.documents import Documents
from services.agent.core.reconcile.desired import Computation, Local, desired
from tests.property.agent import worlds

KINDS = ("peers", "rules", "routes", "resolutions")

World: TypeAlias = tuple[Documents, Local]


@st.composite
def changes(draw: st.DrawFn, before: World, other: World) -> World:
    """The former world with a few of the other one's documents, and a part of what its host knows."""
    (documents, local), (others, other_local) = before, other
    taken = draw(st.sets(st.sampled_from(("p1", "p2", "p3", "p4", *(f"{kind}{n}" for kind in "rq" for n in range(4))))))
    mixed: dict[str, Mapping[str, object]] = {}
    for kind in draw(st.sets(st.sampled_from(KINDS))):
        kept = {id: one for id, one in getattr(documents, kind).items() if id not in taken}
        came = {id: one for id, one in getattr(others, kind).items() if id in taken}
        mixed[kind] = dict(sorted({**kept, **came}.items()))
    if draw(st.integers(0, 5)) == 0:
        documents = replace(documents, self_doc=others.self_doc)
    known = draw(st.sets(st.sampled_from(("selection", "endpoints", "connected")), max_size=2))
    return (
        replace(documents, revision=documents.revision + 1, **mixed),
        replace(local, **{name: getattr(other_local, name) for name in known}),
    )


@given(data=st.data())
def test_what_is_computed_change_by_change_is_what_is_computed_from_nothing(data: st.DataObject) -> None:
    world = data.draw(worlds.hosts())
    computation = Computation()
    for _ in range(data.draw(st.integers(1, 6))):
        documents, local = world
        found = computation.update(documents, local)
        assert found == desired(documents, local)
        incumbents = data.draw(st.sampled_from((found.carriers, found.carriers, {}, {"r0": "p2", "r1": "p3"})))
        world = data.draw(changes((documents, replace(local, carriers=incumbents)), data.draw(worlds.hosts())))


@given(worlds.hosts())
def test_nothing_is_computed_again_for_the_same_documents(world: World) -> None:
    computation = Computation()
    documents, local = world
    local = replace(local, carriers=computation.update(documents, local).carriers)
    first = computation.update(documents, local)
    again = computation.update(replace(documents, revision=documents.revision + 1), local)
    for kind in ("peers", "routes", "ruleset", "unplaced", "carriers", "served"):
        assert getattr(first, kind) is getattr(again, kind)
