"""From routes, answers and older facts to the facts that are written."""

from msgspec.structs import replace

from services.resolver.core.answers import Answer, KeepLimits
from services.resolver.core.questions import Question
from services.resolver.core.resolutions import Resolutions
from services.resolver.core.routes import Gone, RouteKey, Wanted
from shared.events.documents import ResolvedAddress, ResolvedName, ResolvingDoc, UpstreamServer
from shared.events.facts import ResolutionFact
from shared.events.subjects import ResolvedKey

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


def leading() -> Resolutions:
    resolutions = Resolutions(KeepLimits())
    resolutions.chosen({})
    resolutions.lead(True, 0.0)
    return resolutions


def following(past: ResolutionFact, *, keep: bool) -> Resolutions:
    """A replica that stands by, and has read this fact of another one."""
    resolutions = Resolutions(KeepLimits())
    resolutions.chosen({})
    resolutions.route(R, Wanted(past.revision, ("a.example",), keep), 0.0)
    resolutions.fact(R, past, 70.0, from_the_past=True)
    resolutions.caught_up()
    return resolutions


def known(revision: int = 5, *, names: tuple[str, ...] = ("a.example",), keep: bool = False) -> Resolutions:
    resolutions = leading()
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
    resolutions.answer(Question("a.example"), found("192.0.2.1", "2001:db8::1"), 10.0)
    addresses = [current("192.0.2.1", 10.0), current("2001:db8::1", 10.0)]
    assert write_all(resolutions) == [fact(7, ("a.example", addresses))]


def test_the_same_answer_again_is_not_written_again() -> None:
    resolutions = known()
    resolutions.answer(Question("a.example"), found("192.0.2.1"), 10.0)
    write_all(resolutions)
    resolutions.answer(Question("a.example"), found("192.0.2.1"), 70.0)
    assert resolutions.pending() == []


def test_a_fact_stays_to_be_written_until_it_is() -> None:
    resolutions = known()
    resolutions.answer(Question("a.example"), found("192.0.2.1"), 10.0)
    assert resolutions.pending() == resolutions.pending() == [(R, fact(5, ("a.example", [current("192.0.2.1", 10.0)])))]


def test_d7_a_name_without_an_answer_does_not_hold_back_another() -> None:
    resolutions = known(names=("bad.example", "good.example"))
    resolutions.answer(Question("good.example"), found("192.0.2.1"), 10.0)
    resolutions.answer(Question("bad.example"), Answer(v4=None, v6=None), 15.0)
    assert write_all(resolutions) == [fact(5, ("good.example", [current("192.0.2.1", 10.0)]))]


def test_routes_that_share_a_name_keep_it_each_in_its_own_way() -> None:
    resolutions = known(keep=True)
    resolutions.route(S, Wanted(6, ("a.example",), False), 0.0)
    assert set(resolutions.questions()) == {Question("a.example")}
    resolutions.answer(Question("a.example"), found("192.0.2.1"), 10.0)
    resolutions.answer(Question("a.example"), found("192.0.2.2"), 70.0)
    assert write_all(resolutions) == [
        fact(5, ("a.example", [ResolvedAddress("192.0.2.1", 10.0, 10.0 + WEEK_S), current("192.0.2.2", 70.0)])),
        fact(6, ("a.example", [current("192.0.2.2", 70.0)]), route="r2"),
    ]


def test_a_route_that_is_gone_leaves_an_empty_fact_of_its_last_revision() -> None:
    resolutions = known()
    resolutions.answer(Question("a.example"), found("192.0.2.1"), 10.0)
    write_all(resolutions)
    resolutions.route(R, Gone(9), 20.0)
    assert set(resolutions.questions()) == set()
    assert write_all(resolutions) == [fact(9)]
    assert resolutions.pending() == []


def test_a_route_that_is_gone_before_it_was_resolved_leaves_nothing() -> None:
    resolutions = known()
    resolutions.route(R, Gone(9), 20.0)
    assert resolutions.pending() == []


def test_a_route_that_comes_back_is_resolved_anew() -> None:
    resolutions = known(keep=True)
    resolutions.answer(Question("a.example"), found("192.0.2.1"), 10.0)
    write_all(resolutions)
    resolutions.route(R, Gone(9), 20.0)
    write_all(resolutions)
    resolutions.route(R, Wanted(10, ("a.example",), True), 30.0)
    resolutions.answer(Question("a.example"), found("192.0.2.2"), 30.0)
    assert write_all(resolutions) == [fact(10, ("a.example", [current("192.0.2.2", 30.0)]))]


def test_a_name_taken_off_a_route_leaves_its_fact_at_once_and_the_others_stay() -> None:
    resolutions = known(names=("a.example", "b.example"))
    resolutions.answer(Question("a.example"), found("192.0.2.1"), 10.0)
    resolutions.answer(Question("b.example"), found("192.0.2.2"), 10.0)
    write_all(resolutions)
    resolutions.route(R, Wanted(6, ("b.example", "c.example"), False), 20.0)
    assert set(resolutions.questions()) == {Question("b.example"), Question("c.example")}
    assert write_all(resolutions) == [fact(6, ("b.example", [current("192.0.2.2", 10.0)]))]


def test_a_new_revision_with_the_same_addresses_is_not_written() -> None:
    resolutions = known()
    resolutions.answer(Question("a.example"), found("192.0.2.1"), 10.0)
    write_all(resolutions)
    resolutions.route(R, Wanted(6, ("a.example",), False), 20.0)
    assert resolutions.pending() == []


def restarted(past: ResolutionFact, *, keep: bool) -> Resolutions:
    """A resolver that has read the facts and then the feed."""
    resolutions = leading()
    resolutions.begin()
    resolutions.fact(R, past, 1000.0, from_the_past=True)
    resolutions.caught_up()
    resolutions.route(R, Wanted(past.revision, ("a.example",), keep), 1000.0)
    return resolutions


def test_r1_kept_addresses_survive_a_restart() -> None:
    kept = ResolvedAddress("192.0.2.1", 10.0, 10.0 + WEEK_S)
    resolutions = restarted(fact(5, ("a.example", [kept, current("192.0.2.2", 70.0)])), keep=True)
    assert resolutions.pending() == []
    resolutions.answer(Question("a.example"), found("192.0.2.3"), 1010.0)
    was_current = ResolvedAddress("192.0.2.2", 1000.0, 1000.0 + WEEK_S)
    assert write_all(resolutions) == [fact(5, ("a.example", [kept, was_current, current("192.0.2.3", 1010.0)]))]


def test_a_restart_with_the_same_answer_writes_nothing() -> None:
    resolutions = restarted(fact(5, ("a.example", [current("192.0.2.1", 70.0)])), keep=False)
    resolutions.answer(Question("a.example"), found("192.0.2.1"), 1010.0)
    assert resolutions.pending() == []


def test_an_answer_that_came_before_the_facts_were_read_is_newer_than_they_are() -> None:
    resolutions = known()
    resolutions.answer(Question("a.example"), found("192.0.2.2"), 999.0)
    resolutions.fact(R, fact(5, ("a.example", [current("192.0.2.1", 70.0)])), 1000.0, from_the_past=True)
    resolutions.caught_up()
    assert write_all(resolutions) == [fact(5, ("a.example", [current("192.0.2.2", 999.0)]))]


def test_a_fact_of_a_route_that_went_while_nobody_looked_is_ended_once_all_routes_are_known() -> None:
    resolutions = leading()
    resolutions.fact(R, fact(5, ("a.example", [current("192.0.2.1", 70.0)])), 1000.0, from_the_past=True)
    resolutions.caught_up()
    assert write_all(resolutions) == []
    resolutions.all_routes_known()
    assert write_all(resolutions) == [fact(5)]


def test_facts_that_the_bus_lost_are_written_again() -> None:
    resolutions = known()
    resolutions.answer(Question("a.example"), found("192.0.2.1"), 10.0)
    write_all(resolutions)
    resolutions.begin()
    resolutions.caught_up()
    assert write_all(resolutions) == [fact(5, ("a.example", [current("192.0.2.1", 10.0)]))]


def test_another_replicas_newer_answer_is_taken_over_and_not_argued_with() -> None:
    resolutions = known()
    resolutions.answer(Question("a.example"), found("192.0.2.1"), 10.0)
    write_all(resolutions)
    resolutions.fact(R, fact(5, ("a.example", [current("192.0.2.2", 20.0)])), 20.0, from_the_past=False)
    assert resolutions.pending() == []


def test_r1_two_replicas_lose_nothing_of_what_either_keeps() -> None:
    resolutions = known(keep=True)
    resolutions.answer(Question("a.example"), found("192.0.2.1"), 10.0)
    resolutions.fact(R, fact(5, ("a.example", [current("192.0.2.2", 20.0)])), 20.0, from_the_past=False)
    both = [current("192.0.2.1", 10.0), current("192.0.2.2", 20.0)]
    assert write_all(resolutions) == [fact(5, ("a.example", both))]


def test_who_follows_asks_for_nothing_and_writes_nothing() -> None:
    resolutions = following(fact(5, ("a.example", [current("192.0.2.1", 70.0)])), keep=False)
    resolutions.answer(Question("a.example"), found("192.0.2.2"), 80.0)
    assert (resolutions.questions(), resolutions.pending()) == ([], [])


def test_a_successor_goes_on_from_the_facts_and_writes_nothing_before_an_answer() -> None:
    resolutions = following(fact(5, ("a.example", [current("192.0.2.1", 70.0)])), keep=False)
    resolutions.fact(R, fact(5, ("a.example", [current("192.0.2.2", 80.0)])), 80.0, from_the_past=False)
    resolutions.lead(True, 90.0)
    assert (resolutions.questions(), resolutions.pending()) == ([Question("a.example")], [])
    resolutions.answer(Question("a.example"), found("192.0.2.3"), 95.0)
    assert write_all(resolutions) == [fact(5, ("a.example", [current("192.0.2.3", 95.0)]))]


def test_r1_a_successor_keeps_an_address_from_when_its_predecessor_saw_it_last() -> None:
    resolutions = following(fact(5, ("a.example", [current("192.0.2.1", 70.0)])), keep=True)
    kept = ResolvedAddress("192.0.2.1", 900_000.0, 900_000.0 + WEEK_S)
    theirs = fact(5, ("a.example", [kept, current("192.0.2.2", 900_060.0)]))
    resolutions.fact(R, theirs, 900_060.0, from_the_past=False)
    resolutions.lead(True, 900_070.0)
    assert resolutions.pending() == []
    resolutions.answer(Question("a.example"), found("192.0.2.2"), 900_080.0)
    assert resolutions.pending() == []


def test_r1_a_successor_does_not_bring_back_what_has_expired() -> None:
    ends = 1_000.0
    past = fact(5, ("a.example", [ResolvedAddress("192.0.2.1", 1.0, ends), current("192.0.2.2", 70.0)]))
    resolutions = following(past, keep=True)
    resolutions.fact(R, fact(5, ("a.example", [current("192.0.2.2", 70.0)])), ends, from_the_past=False)
    resolutions.lead(True, ends + 1.0)
    assert resolutions.pending() == []


def test_r1_nothing_that_a_former_owner_kept_and_could_not_write_is_lost() -> None:
    resolutions = known(keep=True)
    resolutions.answer(Question("a.example"), found("192.0.2.1"), 10.0)
    resolutions.lead(False, 20.0)
    resolutions.fact(R, fact(5, ("a.example", [current("192.0.2.2", 20.0)])), 20.0, from_the_past=False)
    resolutions.lead(True, 30.0)
    both = [current("192.0.2.1", 10.0), current("192.0.2.2", 30.0)]
    assert write_all(resolutions) == [fact(5, ("a.example", both))]


def test_an_account_with_servers_of_its_own_is_asked_for_apart_and_others_answers_do_not_count() -> None:
    resolutions = known()
    resolutions.route(RouteKey("other", "r9"), Wanted(6, ("a.example",), False), 0.0)
    resolutions.chosen({"acc": ResolvingDoc(servers=(UpstreamServer("192.0.2.53", 53),))})
    own, common = Question("a.example", "acc"), Question("a.example")
    assert set(resolutions.questions()) == {own, common}
    resolutions.answer(common, found("192.0.2.9"), 10.0)
    assert [(key.account, each.names[0].addresses[0].address) for key, each in resolutions.pending()] == [
        ("other", "192.0.2.9")
    ]
    resolutions.answer(own, found("192.0.2.1"), 10.0)
    assert [key.account for key, _ in resolutions.pending()] == ["acc", "other"]
    resolutions.chosen({})
    assert set(resolutions.questions()) == {common}


def test_a_fact_says_who_answered_and_an_answer_from_elsewhere_is_no_news() -> None:
    resolutions = known()
    answer = Answer(v4=("192.0.2.1",), v6=(), source="192.0.2.53")
    resolutions.answer(Question("a.example"), answer, 10.0)
    [written] = write_all(resolutions)
    assert written.names[0].source == "192.0.2.53"
    resolutions.answer(Question("a.example"), replace(answer, source="192.0.2.54"), 70.0)
    assert resolutions.pending() == []


def test_who_answered_is_known_after_a_takeover_too() -> None:
    name = ResolvedName("a.example", (current("192.0.2.1", 70.0),), "192.0.2.53")
    resolutions = following(ResolutionFact(route_id="r1", revision=5, names=(name,)), keep=False)
    resolutions.lead(True, 90.0)
    resolutions.begin()
    resolutions.caught_up()
    assert resolutions.pending()[0][1].names[0].source == "192.0.2.53"


def test_d6_a_route_asks_its_own_routing_peers_unless_the_account_does_not_want_that() -> None:
    resolutions = leading()
    resolutions.route(R, Wanted(5, ("a.example",), False, ("gw",)), 0.0)
    resolutions.route(S, Wanted(6, ("a.example",), False, ("gw", "gw2")), 0.0)
    one, other = Question("a.example", "acc", ("gw",)), Question("a.example", "acc", ("gw", "gw2"))
    assert set(resolutions.questions()) == {one, other}
    resolutions.answer(one, found("10.0.0.1"), 10.0)
    assert [key for key, _ in resolutions.pending()] == [R]
    resolutions.chosen({"acc": ResolvingDoc(routing_peers=False)})
    assert set(resolutions.questions()) == {Question("a.example")}


def test_a_route_whose_routing_peers_are_others_asks_those() -> None:
    resolutions = leading()
    resolutions.route(R, Wanted(5, ("a.example",), False, ("gw",)), 0.0)
    resolutions.route(R, Wanted(6, ("a.example",), False, ("gw2",)), 0.0)
    assert set(resolutions.questions()) == {Question("a.example", "acc", ("gw2",))}


def test_that_a_routing_peer_answered_where_a_server_did_is_news() -> None:
    resolutions = known()
    answer = Answer(v4=("192.0.2.1",), v6=(), source="192.0.2.53")
    for source, news in (("192.0.2.53", 1), ("peer:gw", 1), ("peer:gw2", 0), ("192.0.2.54", 1)):
        resolutions.answer(Question("a.example"), replace(answer, source=source), 10.0)
        assert len(write_all(resolutions)) == news


def test_who_answered_another_replica_is_known_from_its_facts() -> None:
    names = (ResolvedName("a.example", (current("10.0.0.1", 70.0),), "peer:gw"),)
    resolutions = following(ResolutionFact(route_id="r1", revision=5, names=names), keep=False)
    assert resolutions.answering_peers() == {ResolvedKey("acc", "gw")}
    assert following(fact(5, ("a.example", [current("192.0.2.1", 70.0)])), keep=False).answering_peers() == set()


def test_the_names_of_a_route_are_asked_together() -> None:
    resolutions = leading()
    resolutions.route(R, Wanted(5, ("z.example", "b.example"), False), 0.0)
    resolutions.route(S, Wanted(6, ("a.example", "b.example", "c.example"), False), 0.0)
    assert [one.name for one in resolutions.questions()] == ["z.example", "b.example", "a.example", "c.example"]


def test_nobody_is_asked_before_it_is_known_whom_accounts_want_asked() -> None:
    resolutions = Resolutions(KeepLimits())
    resolutions.lead(True, 0.0)
    resolutions.route(R, Wanted(5, ("a.example",), False), 0.0)
    assert resolutions.questions() == []
    resolutions.chosen({"acc": ResolvingDoc(servers=(UpstreamServer("192.0.2.53", 53),))})
    assert resolutions.questions() == [Question("a.example", "acc")]
