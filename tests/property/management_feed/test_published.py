"""Laws of the differences that are written to FEED."""

from hypothesis import given
from hypothesis import strategies as st

from services.management.core.feed.compose import documents, unit_documents, units
from services.management.core.feed.incremental import FeedIndex
from services.management.core.feed.pending import Lane, Pending, look_at
from services.management.core.feed.published import Published, Write
from services.management.core.feed.relations import RelationsOf
from services.management.core.feed.unit import NOTHING, Documents
from services.management.core.model.commit import Commit
from shared.events.documents import Tombstone
from shared.events.subjects import FeedKey
from tests.builders import ACCOUNT
from tests.property.management_feed import histories
from tests.property.management_feed.histories import Fold


def store(feed: Documents, writes: list[Write]) -> None:
    """What the bus does with the writes; each must change something."""
    for key, document in writes:
        assert feed.get(key) != document
        if isinstance(document, Tombstone):
            del feed[key]
        else:
            feed[key] = document


@given(histories.populations(), st.lists(histories.commits(), min_size=1, max_size=8))
def test_writing_what_each_commit_touched_keeps_the_feed_right(start: Commit, commits: list[Commit]) -> None:
    fold = Fold(start)
    index = FeedIndex(fold.state)
    feed = documents(fold.state)
    published = Published(feed)
    for one in commits:
        touched = index.touched(fold.apply(one))
        desired = {unit: unit_documents(fold.state, NOTHING, index, unit) for unit in touched}
        store(feed, published.update(ACCOUNT, desired))
        assert feed == documents(fold.state)


@given(histories.populations(), st.lists(histories.commits(), min_size=1, max_size=8), st.data())
def test_however_commits_and_looks_alternate_the_feed_becomes_right_and_nothing_is_older(
    start: Commit, commits: list[Commit], data: st.DataObject
) -> None:
    fold = Fold(start)
    index, published, pending = FeedIndex(fold.state), Published(), Pending(few=data.draw(st.integers(0, 6)))
    feed: Documents = {}

    def look(lane: Lane) -> None:
        if one := lane.take():
            writes = look_at(published, lane, one, unit_documents(fold.state, NOTHING, index, one.unit))
            now = documents(fold.state)
            # Whatever is written is what the state says now: so nothing written later can be older.
            assert all(now.get(key) == (None if isinstance(what, Tombstone) else what) for key, what in writes)
            store(feed, writes)

    pending.mark(ACCOUNT, list(units(fold.state)), 0)
    for one in commits:
        for urgent in data.draw(st.lists(st.booleans(), max_size=30)):
            look(pending.urgent if urgent else pending.bulk)
        touched = index.touched(fold.apply(one))
        pending.mark(ACCOUNT, touched, fold.intent.sequence)
    while pending:
        look(pending.urgent if pending.urgent else pending.bulk)
    assert feed == documents(fold.state)


@given(histories.populations(), st.lists(histories.commits(), min_size=1, max_size=6), st.data())
def test_a_new_owner_makes_any_older_or_damaged_feed_right(
    start: Commit, commits: list[Commit], data: st.DataObject
) -> None:
    fold = Fold(start)
    feed = documents(fold.state)
    for one in commits:
        fold.apply(one)
    unreadable: list[FeedKey] = data.draw(st.lists(st.sampled_from(sorted(feed)), unique=True, max_size=3))
    published = Published(feed | dict.fromkeys(unreadable))
    for key in unreadable:
        del feed[key]
    known = dict(published.units()).get(ACCOUNT, set())
    relations = RelationsOf(fold.state)
    desired = {unit: unit_documents(fold.state, NOTHING, relations, unit) for unit in known | set(units(fold.state))}
    for key, document in published.update(ACCOUNT, desired):
        if isinstance(document, Tombstone):
            feed.pop(key, None)
        else:
            feed[key] = document
    assert feed == documents(fold.state)
