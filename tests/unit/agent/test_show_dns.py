"""What `debug dns` says of a question, and `networks ls` of the names of a route."""

from datetime import UTC, datetime
from typing import Any

import pytest

from services.agent.core import parsed
from services.agent.core.dns.decide import Ask, Known, decide
from services.agent.core.dns.learned import Joined, Learned, addresses_of
from services.agent.core.dns.messages import failed, own, replied, typed
from services.agent.core.dns.outcome import Outcome
from services.agent.core.dns.rules import Rules, Terms
from services.agent.core.reconcile.desired import desired
from services.agent.core.routing.hagroups import HaKey
from services.agent.core.show.dns import Explained, explained
from services.agent.core.show.status import NamedAddress, networks
from shared.events.documents import DnsRecord, DnsServer
from tests.unit.agent.make import documents, local, me, nameservers, peer, resolution, route, settings, zone

CORP: HaKey = ("corp", "", ("*.corp.test",))
GATEWAY = peer("gw", number=9)
RULES = Rules(
    Terms(
        me=me(),
        settings=settings(),
        nameservers={"g": nameservers("g", "corp.test")},
        zones={"z": zone("z", DnsRecord("x.a.corp.test", "A", "10.3.0.1", 60), domain="a.corp.test")},
        used=(CORP,),
        host=(DnsServer("192.0.2.53", 53),),
    )
)
PEERS = {"gw": parsed.peer(GATEWAY)}


def shown(outcome: Outcome, name: str) -> Explained:
    return explained(typed(name, "A"), outcome, 0.0025, RULES, PEERS)


def said(one: Explained) -> list[tuple[str, str]]:
    return [(rule.rule, rule.said) for rule in one.rules]


def test_who_answered_and_from_where_and_in_what_time_and_why_no_other_rule() -> None:
    asked = typed("Y.a.corp.test", "A")
    found = decide(RULES, asked.name, "A")
    assert isinstance(found, Ask)
    answer = replied(asked, asked.message, [DnsRecord("y.a.corp.test", "CNAME", "z.corp.test", 60)])
    one = shown(Outcome(answer, found.rule, found.passed, DnsServer(GATEWAY.address_v4, 22054), CORP), "Y.a.corp.test")
    assert (one.name, one.type, one.rcode, one.took_ms, one.why) == ("y.a.corp.test", "A", "NOERROR", 2.5, "")
    assert one.answers == ("y.a.corp.test. 60 IN CNAME z.corp.test.",)
    assert (one.rule, one.server) == (
        "route *.corp.test of network corp",
        f"{GATEWAY.address_v4}:22054 (gw.whimbrel.test)",
    )
    assert said(one) == [
        ("zone a.corp.test (z)", "the zone has no name y.a.corp.test"),
        ("route *.corp.test of network corp", "answers"),
        ("nameserver group g for corp.test (10.1.0.53)", "not asked: another rule goes first"),
        ("this host's own servers (192.0.2.53)", "not asked: another rule goes first"),
    ]


def test_an_answer_of_our_own_comes_from_no_server() -> None:
    asked = typed("x.a.corp.test", "A")
    found = decide(RULES, asked.name, "A")
    assert isinstance(found, Known)
    one = shown(Outcome(own(asked, found.records, exists=True, zone="a.corp.test"), found.rule), "x.a.corp.test")
    assert (one.server, one.answers) == ("", ("x.a.corp.test. 60 IN A 10.3.0.1",))
    assert said(one)[0] == ("zone a.corp.test (z)", "answers")


def test_a_failure_says_why() -> None:
    asked = typed("y.corp.test", "A")
    found = decide(RULES, asked.name, "A")
    assert isinstance(found, Ask)
    one = shown(Outcome(failed(asked, 22, "nobody"), found.rule, why="nobody"), "y.corp.test")
    assert (one.rcode, one.why) == ("SERVFAIL", "nobody")
    assert said(one)[0] == ("route *.corp.test of network corp", "has the name, and gave no answer")


@pytest.mark.parametrize(("name", "kind"), [("a..b", "A"), ("a" * 64 + ".test", "A"), ("a.test", "NONSENSE")])
def test_what_is_no_name_or_no_type_is_no_question(name: str, kind: str) -> None:
    with pytest.raises(ValueError):
        typed(name, kind)


def test_what_people_type_may_be_in_any_script() -> None:
    assert typed("bücher.test", "aaaa").name == ("xn--bcher-kva", "test")


def test_names_of_a_route_are_shown_with_addresses_source_and_time() -> None:
    learned = Learned()
    learned.take(CORP, "db.corp.test", 4, addresses_of(["10.1.0.1"]), 1_700_000_000.0, keep=False)
    there = documents(
        me(),
        [GATEWAY],
        routes=[route("r", domains=CORP[2], network_id="corp")],
        resolutions=[resolution("r", db_corp_test=["10.1.0.2"], a_other_test=["10.1.0.3"])],
    )
    joined, here = Joined().update(there, learned.resolved()), local(["gw"])
    (one,) = networks(joined, here, desired(joined, here), {}, learned=learned.seen())
    resolver: dict[str, Any] = {"source": "resolver", "seen": datetime.fromtimestamp(1.0, UTC)}
    asked: dict[str, Any] = {"source": "routing peer", "seen": datetime.fromtimestamp(1_700_000_000.0, UTC)}
    assert one.names == (
        NamedAddress(name="db.corp.test", address="10.1.0.1", **asked),
        NamedAddress(name="db.corp.test", address="10.1.0.2", **resolver),
    )
    assert one.resolved_ips == {"db.corp.test": ("10.1.0.1", "10.1.0.2")}
