"""From routes, answers and older facts to the facts that are written."""

from services.resolver.core.answers import Answer, KeepLimits
from services.resolver.core.resolutions import Resolutions
from services.resolver.core.routes import Gone, RouteKey, Wanted
from shared.events.documents import ResolvedAddress, ResolvedName
from shared.events.facts import ResolutionFact

R = RouteKey("acc", "r1")
S = RouteKey("acc", "r2")
WEEK_S = 604_800.0


def found(*addresses: str) -> Answer:
    v4 = tuple(address for address in addresses if ":" not in address)
    return Answer(v4=v4, v6=tuple(address for address in addresses if ":" in address))


def fact(revision: int, *names: tuple[str, list[ResolvedAddress]], route: str = "r1") -> ResolutionFact:
    resolved = tuple(ResolvedName(name, tuple(addresses)) for name, addresses in names)
    return ResolutionFact(route_id=route, revision=revision, names=resolved)


def current(address: str, seen: float) -> ResolvedAddress:
    return ResolvedAddress(address, seen, 0.0)


def known(revision: int = 5, *, names: tuple[str, ...] = ("a.example",), keep: bool = False) -> Resolutions:
    resolutions = Resolutions(KeepLimits())
    resolutions.route(R, Wanted(revision, names, keep), 0.0)
    return resolutions


def write_all(resolutions: Resolutions) -> list[ResolutionFact]:
    pending = resolutions.pending()
    for key, each in pending:
        resolutions.written(key, each)
    return [each for _, each in pending]


def test_a_route_without_answers_is_nothing_to_write() -> None:
    assert known().pending() == []


def test_an_answer_is_written_with_the_revision_of_the_document() -> None:
    resolutions = known(7)
    resolutions.answer("a.example", found("192.0.2.1", "2001:db8::1"), 10.0)
    addresses = [current("192.0.2.1", 10.0), current("2001:db8::1", 10.0)]
    assert write_all(resolutions) == [fact(7, ("a.example", addresses))]


def test_the_same_answer_again_is_not_written_again() -> None:
    resolutions = known()
    resolutions.answer("a.example", found("192.0.2.1"), 10.0)
    write_all(resolutions)
    resolutions.answer("a.example", found("192.0.2.1"), 70.0)
    assert resolutions.pending() == []


def test_a_fact_stays_to_be_written_until_it_is() -> None:
    resolutions = known()
    resolutions.answer("a.example", found("192.0.2.1"), 10.0)
    assert resolutions.pending() == resolutions.pending() == [(R, fact(5, ("a.example", [current("192.0.2.1", 10.0)])))]


def test_d7_a_name_without_an_answer_does_not_hold_back_another() -> None:
    resolutions = known(names=("bad.example", "good.example"))
    resolutions.answer("good.example", found("192.0.2.1"), 10.0)
    resolutions.answer("bad.example", Answer(v4=None, v6=None), 15.0)
    assert write_all(resolutions) == [fact(5, ("good.example", [current("192.0.2.1", 10.0)]))]


def test_routes_that_share_a_name_keep_it_each_in_its_own_way() -> None:
    resolutions = known(keep=True)
    resolutions.route(S, Wanted(6, ("a.example",), False), 0.0)
    assert resolutions.names() == {"a.example"}
    resolutions.answer("a.example", found("192.0.2.1"), 10.0)
    resolutions.answer("a.example", found("192.0.2.2"), 70.0)
    assert write_all(resolutions) == [
        fact(5, ("a.example", [ResolvedAddress("192.0.2.1", 10.0, 10.0 + WEEK_S), current("192.0.2.2", 70.0)])),
        fact(6, ("a.example", [current("192.0.2.2", 70.0)]), route="r2"),
    ]


def test_a_route_that_is_gone_leaves_an_empty_fact_of_its_last_revision() -> None:
    resolutions = known()
    resolutions.answer("a.example", found("192.0.2.1"), 10.0)
    write_all(resolutions)
    resolutions.route(R, Gone(9), 20.0)
    assert resolutions.names() == set()
    assert write_all(resolutions) == [fact(9)]
    assert resolutions.pending() == []


def test_a_route_that_is_gone_before_it_was_resolved_leaves_nothing() -> None:
    resolutions = known()
    resolutions.route(R, Gone(9), 20.0)
    assert resolutions.pending() == []


def test_a_route_that_comes_back_is_resolved_anew() -> None:
    resolutions = known(keep=True)
    resolutions.answer("a.example", found("192.0.2.1"), 10.0)
    write_all(resolutions)
    resolutions.route(R, Gone(9), 20.0)
    write_all(resolutions)
    resolutions.route(R, Wanted(10, ("a.example",), True), 30.0)
    resolutions.answer("a.example", found("192.0.2.2"), 30.0)
    assert write_all(resolutions) == [fact(10, ("a.example", [current("192.0.2.2", 30.0)]))]


def test_a_name_taken_off_a_route_leaves_its_fact_at_once_and_the_others_stay() -> None:
    resolutions = known(names=("a.example", "b.example"))
    resolutions.answer("a.example", found("192.0.2.1"), 10.0)
    resolutions.answer("b.example", found("192.0.2.2"), 10.0)
    write_all(resolutions)
    resolutions.route(R, Wanted(6, ("b.example", "c.example"), False), 20.0)
    assert resolutions.names() == {"b.example", "c.example"}
    assert write_all(resolutions) == [fact(6, ("b.example", [current("192.0.2.2", 10.0)]))]


def test_a_new_revision_with_the_same_addresses_is_not_written() -> None:
    resolutions = known()
    resolutions.answer("a.example", found("192.0.2.1"), 10.0)
    write_all(resolutions)
    resolutions.route(R, Wanted(6, ("a.example",), False), 20.0)
    assert resolutions.pending() == []


def restarted(past: ResolutionFact, *, keep: bool) -> Resolutions:
    """A resolver that has read the facts and then the feed."""
    resolutions = Resolutions(KeepLimits())
    resolutions.begin()
    resolutions.fact(R, past, 1000.0, from_the_past=True)
    resolutions.caught_up()
    resolutions.route(R, Wanted(past.revision, ("a.example",), keep), 1000.0)
    return resolutions


def test_r1_kept_addresses_survive_a_restart() -> None:
    kept = ResolvedAddress("192.0.2.1", 10.0, 10.0 + WEEK_S)
    resolutions = restarted(fact(5, ("a.example", [kept, current("192.0.2.2", 70.0)])), keep=True)
    assert resolutions.pending() == []
    resolutions.answer("a.example", found("192.0.2.3"), 1010.0)
    was_current = ResolvedAddress("192.0.2.2", 1000.0, 1000.0 + WEEK_S)
    assert write_all(resolutions) == [fact(5, ("a.example", [kept, was_current, current("192.0.2.3", 1010.0)]))]


def test_a_restart_with_the_same_answer_writes_nothing() -> None:
    resolutions = restarted(fact(5, ("a.example", [current("192.0.2.1", 70.0)])), keep=False)
    resolutions.answer("a.example", found("192.0.2.1"), 1010.0)
    assert resolutions.pending() == []


def test_an_answer_that_came_before_the_facts_were_read_is_newer_than_they_are() -> None:
    resolutions = known()
    resolutions.answer("a.example", found("192.0.2.2"), 999.0)
    resolutions.fact(R, fact(5, ("a.example", [current("192.0.2.1", 70.0)])), 1000.0, from_the_past=True)
    resolutions.caught_up()
    assert write_all(resolutions) == [fact(5, ("a.example", [current("192.0.2.2", 999.0)]))]


def test_a_fact_of_a_route_that_went_while_nobody_looked_is_ended_once_all_routes_are_known() -> None:
    resolutions = Resolutions(KeepLimits())
    resolutions.fact(R, fact(5, ("a.example", [current("192.0.2.1", 70.0)])), 1000.0, from_the_past=True)
    resolutions.caught_up()
    assert write_all(resolutions) == []
    resolutions.all_routes_known()
    assert write_all(resolutions) == [fact(5)]


def test_facts_that_the_bus_lost_are_written_again() -> None:
    resolutions = known()
    resolutions.answer("a.example", found("192.0.2.1"), 10.0)
    write_all(resolutions)
    resolutions.begin()
    resolutions.caught_up()
    assert write_all(resolutions) == [fact(5, ("a.example", [current("192.0.2.1", 10.0)]))]


def test_another_replicas_newer_answer_is_taken_over_and_not_argued_with() -> None:
    resolutions = known()
    resolutions.answer("a.example", found("192.0.2.1"), 10.0)
    write_all(resolutions)
    resolutions.fact(R, fact(5, ("a.example", [current("192.0.2.2", 20.0)])), 20.0, from_the_past=False)
    assert resolutions.pending() == []


def test_r1_two_replicas_lose_nothing_of_what_either_keeps() -> None:
    resolutions = known(keep=True)
    resolutions.answer("a.example", found("192.0.2.1"), 10.0)
    resolutions.fact(R, fact(5, ("a.example", [current("192.0.2.2", 20.0)])), 20.0, from_the_past=False)
    assert write_all(resolutions) == [fact(5, ("a.example", [current("192.0.2.1", 10.0), current("192.0.2.2", 20.0)]))]
