"""A picture that is changed document by document, beside one that is merged from everything at once."""

from typing import TypeAlias

from hypothesis import given
from hypothesis import strategies as st

from services.agent.core.documents import DELETION_KEPT_S, FeedView
from shared.events.documents import Document, FeedMessage, Tombstone
from shared.events.subjects import FeedKey
from tests.property.agent import worlds
from tests.unit.agent import make

AUDIENCES = ("g.all", "g.ga", "p.me")

Happening: TypeAlias = tuple[str, str, FeedKey | None, int, Document | Tombstone | None]


@st.composite
def happenings(draw: st.DrawFn) -> Happening:
    """What, in which audience, and for a message its key, its revision and its document."""
    audience = draw(st.sampled_from(AUDIENCES))
    what = draw(st.sampled_from((*("message",) * 8, "begin", "end", "drop", "forget")))
    if what != "message":
        return what, audience, None, 0, None
    kind = draw(st.sampled_from(("self", "peer", "peer", "route", "route", "rule", "resolution", "settings")))
    name = draw(st.sampled_from(("p1", "me")))
    documents: dict[str, st.SearchStrategy[Document]] = {
        "self": st.builds(make.me, st.sampled_from(("me", "p1"))),
        "peer": worlds.peers(1, name),
        "route": worlds.routes(name),
        "rule": worlds.rules(name),
        "resolution": st.builds(make.resolution, st.just(name), a_example=st.sampled_from((("10.1.2.7",), ()))),
        "settings": st.builds(make.settings, forwarder_port=st.sampled_from((1, 2))),
    }
    document = draw(st.one_of(documents[kind], documents[kind], st.just(Tombstone())))
    return what, audience, FeedKey("acc", audience, kind, name), draw(st.integers(1, 9)), document


@given(st.lists(happenings(), max_size=25))
def test_a_picture_changed_bit_by_bit_is_the_one_merged_at_once_and_shares_what_stays(
    history: list[Happening],
) -> None:
    view, reading = FeedView(), set[str]()
    for number, (what, audience, key, revision, document) in enumerate(history, 1):
        before = view.documents()
        match what:
            case "message" if key is not None and document is not None:
                view.apply(key, number, FeedMessage(revision, document))
            case "begin":
                view.begin_snapshot(audience)
                reading.add(audience)
            case "end" if audience in reading:
                view.end_snapshot(audience)
                reading.remove(audience)
            case "drop":
                view.drop_audience(audience)
                reading.discard(audience)
            case "forget":
                view.forget_deletions(number * DELETION_KEPT_S)
        now = view.documents()
        assert now == FeedView(view.export()).documents()
        for former, mapping in ((before.peers, now.peers), (before.rules, now.rules), (before.routes, now.routes)):
            assert list(mapping) == sorted(mapping)
            assert former is mapping or former != mapping or not mapping
            assert all(former[id] is mapping[id] for id in former.keys() & mapping.keys() if former[id] == mapping[id])
