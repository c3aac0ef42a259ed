"""What a host says of itself."""

import pytest
from msgspec.structs import replace

from services.agent.bus.report import report
from services.agent.core.reconcile.desired import Local
from services.agent.situation import Situation
from shared.bus.codec import decode, encode
from shared.errors import Undecodable
from shared.events.facts import ReportFact
from shared.events.signals import PeerMeta


def said(meta: PeerMeta) -> ReportFact:
    return report(Situation(Local(public_key="", listen_port=1)), meta, "p1", "wireguard-go")


def test_texts_of_any_length_are_cut_to_what_a_report_may_hold() -> None:
    fact = said(PeerMeta(hostname="h" * 300, os="Debian", kernel_version="6.1", version="1.0.0"))
    assert (fact.hostname, fact.os, fact.kernel, fact.version) == ("h" * 255, "Debian", "6.1", "1.0.0")
    assert decode("fact", encode(fact), ReportFact) == fact


@pytest.mark.parametrize("field", ["version", "hostname", "os", "kernel", "backend"])
def test_a_report_with_a_longer_text_is_none(field: str) -> None:
    fact = replace(said(PeerMeta(hostname="h")), **{field: "x" * 256})
    with pytest.raises(Undecodable):
        decode("fact", encode(fact), ReportFact)
