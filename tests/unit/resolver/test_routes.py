"""Which routes the feed asks to be resolved."""

from services.resolver.core.routes import Change, Gone, RouteBook, RouteKey, Wanted
from shared.events.documents import FeedMessage, RouteDoc, Tombstone
from shared.events.subjects import FeedKey

R = RouteKey("acc", "r1")


def document(*domains: str, keep: bool = False, network: str = "") -> RouteDoc:
    return RouteDoc(
        route_id="r1",
        network_id="net",
        network=network,
        domains=domains,
        metric=9999,
        masquerade=True,
        keep_route=keep,
        skip_auto_apply=False,
        routing_peers=("p1",),
        distribution=("g1",),
        permits=None,
    )


def write(book: RouteBook, audience: str, revision: int, what: RouteDoc | Tombstone) -> list[Change]:
    book.apply(FeedKey("acc", audience, "route", "r1"), FeedMessage(revision, what))
    return book.take()


def test_a_domain_route_is_wanted_with_its_names() -> None:
    changes = write(RouteBook(), "g.g1", 5, document("a.example", "*.b.example", keep=True))
    assert changes == [(R, Wanted(5, ("a.example",), keep=True, routing_peers=("p1",)))]


def test_a_prefix_route_is_nothing_to_resolve() -> None:
    assert write(RouteBook(), "g.g1", 5, document(network="10.0.0.0/8")) == []


def test_the_same_route_for_several_audiences_counts_once() -> None:
    book = RouteBook()
    write(book, "g.g1", 5, document("a.example"))
    assert write(book, "p.p1", 5, document("a.example")) == []


def test_a_route_ends_with_its_last_copy() -> None:
    book = RouteBook()
    write(book, "g.g1", 5, document("a.example"))
    write(book, "p.p1", 5, document("a.example"))
    assert write(book, "g.g1", 6, Tombstone()) == []
    assert write(book, "p.p1", 7, Tombstone()) == [(R, Gone(7))]


def test_a_route_that_moves_to_another_audience_goes_on() -> None:
    book = RouteBook()
    write(book, "g.g1", 5, document("a.example"))
    write(book, "g.g2", 6, document("a.example"))
    assert write(book, "g.g1", 6, Tombstone()) == []


def test_the_newest_copy_counts_whichever_arrives_last() -> None:
    book = RouteBook()
    write(book, "g.g1", 6, document("new.example"))
    assert write(book, "p.p1", 5, document("old.example")) == []


def test_a_route_whose_names_change_is_wanted_anew() -> None:
    book = RouteBook()
    write(book, "g.g1", 5, document("a.example"))
    assert write(book, "g.g1", 6, document("b.example")) == [
        (R, Wanted(6, ("b.example",), keep=False, routing_peers=("p1",)))
    ]


def test_a_domain_route_that_becomes_a_prefix_route_is_gone() -> None:
    book = RouteBook()
    write(book, "g.g1", 5, document("a.example"))
    assert write(book, "g.g1", 6, document(network="10.0.0.0/8")) == [(R, Gone(6))]


def test_a_tombstone_of_what_was_never_there_says_nothing() -> None:
    assert write(RouteBook(), "g.g1", 6, Tombstone()) == []


def test_what_a_snapshot_does_not_bring_is_gone_once_it_is_withdrawn() -> None:
    book = RouteBook()
    write(book, "g.g1", 5, document("a.example"))
    book.begin()
    assert book.take() == []
    book.withdraw()
    assert book.take() == [(R, Gone(5))]


def test_what_was_lost_and_is_written_again_before_it_is_withdrawn_is_no_change() -> None:
    book = RouteBook()
    write(book, "g.g1", 5, document("a.example"))
    book.begin()
    assert write(book, "g.g1", 5, document("a.example")) == []
    book.withdraw()
    assert book.take() == []


def test_what_a_snapshot_brings_again_is_no_change() -> None:
    book = RouteBook()
    write(book, "g.g1", 5, document("a.example"))
    book.begin()
    book.apply(FeedKey("acc", "g.g1", "route", "r1"), FeedMessage(5, document("a.example")))
    book.withdraw()
    assert book.take() == []


def test_routes_of_different_accounts_are_different_routes() -> None:
    book = RouteBook()
    write(book, "g.g1", 5, document("a.example"))
    book.apply(FeedKey("other", "g.g1", "route", "r1"), FeedMessage(6, document("a.example")))
    assert book.take() == [(RouteKey("other", "r1"), Wanted(6, ("a.example",), keep=False, routing_peers=("p1",)))]
