"""Metrics of how routing peers stand."""

import pytest
from msgspec.structs import replace

from services.management.projector.standings import Standings
from shared.events.documents import PresenceDoc, Withdrawn
from shared.events.subjects import FeedKey
from shared.metrics import REGISTRY
from tests.builders import ACCOUNT


def counted() -> dict[str, float | None]:
    states = ("draining", "withdrawn", "away")
    return {state: REGISTRY.get_sample_value("whimbrel_routing_peers", {"state": state}) for state in states}


@pytest.mark.parametrize(
    "document, expected",
    [
        (PresenceDoc(peer_id="gw", agent=True), (0, 0, 0)),
        (PresenceDoc(peer_id="gw", agent=True, draining=True), (1, 0, 0)),
        (PresenceDoc(peer_id="gw", agent=True, withdrawn=(Withdrawn("lan", "no leg"),)), (0, 1, 0)),
        (PresenceDoc(peer_id="gw", agent=False, draining=True), (1, 0, 1)),
    ],
)
def test_a_routing_peer_is_counted_in_the_states_it_is_in(
    document: PresenceDoc, expected: tuple[float, float, float]
) -> None:
    standings = Standings()
    to_others = replace(document, withdrawn=())
    copies = {
        FeedKey(ACCOUNT, audience, "presence", "gw"): copy
        for audience, copy in (("g.office", to_others), ("p.gw", document), ("g.all", to_others))
    }
    for _ in range(2):
        standings.found(ACCOUNT, "gw", copies, 0)
    assert tuple(counted().values()) == expected
    standings.found(ACCOUNT, "gw", {}, 2)
    assert tuple(counted().values()) == (0, 0, 0)


def test_a_replica_that_is_not_the_owner_any_more_counts_none_and_writes_are_counted() -> None:
    standings = Standings()
    before = REGISTRY.get_sample_value("whimbrel_presence_writes_total") or 0
    away = PresenceDoc(peer_id="gw", agent=False)
    standings.found(ACCOUNT, "gw", {FeedKey(ACCOUNT, "g.office", "presence", "gw"): away}, 3)
    standings.forget()
    assert counted() == {"draining": 0, "withdrawn": 0, "away": 0}
    assert REGISTRY.get_sample_value("whimbrel_presence_writes_total") == before + 3
