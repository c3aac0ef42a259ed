"""Decision D1: where routing peers answer DNS questions."""

import pytest

from services.management.core.entities import Ref
from services.management.core.feed.compose import documents
from services.management.core.feed.incremental import FeedIndex
from services.management.core.feed.unit import NOTHING, Observed, Unit
from services.management.core.state import AccountState
from shared.events.documents import SETTINGS_ID, SettingsDoc
from shared.events.signals import PeerMeta
from tests import builders

REFERENCE = {
    "no peers": ([], 5353),
    "all older": (["0.57.0", "0.26.0"], 5353),
    "all new enough": (["0.59.0", "0.59.0"], 22054),
    "mixed": (["0.59.0", "0.57.0"], 5353),
    "one without a version": ([""], 5353),
    "a development build": (["development"], 22054),
    "an unknown version": (["unknown"], 5353),
}
"""NetBird's table of TestComputeForwarderPort (reference control-plane §8.10)."""


@pytest.mark.parametrize("row", REFERENCE)
def test_d1_the_port_of_an_account_as_netbird_chooses_it(row: str) -> None:
    versions, port = REFERENCE[row]
    state = builders.state(*(builders.peer(f"p{n}", meta=PeerMeta(version=v)) for n, v in enumerate(versions)))
    assert settings_of(state).forwarder_port == port


@pytest.mark.parametrize("versions", [["0.58.0", "1.0.0"], ["unknown", "1.0.0"]])
def test_d1_a_peer_that_comes_or_goes_changes_the_port_with_one_document(versions: list[str]) -> None:
    old, new = (builders.peer(f"p{n}", meta=PeerMeta(version=version)) for n, version in enumerate(versions))
    without, mixed = builders.state(new), builders.state(old, new)
    assert settings_of(without).forwarder_port == 22054
    assert settings_of(mixed).forwarder_port == 5353
    there = builders.intent(new)
    index = FeedIndex(there.accounts[builders.ACCOUNT])
    account_settings = Unit("settings", SETTINGS_ID)
    assert account_settings in index.touched(there.apply(2, builders.commit(old)))
    assert account_settings not in index.touched(there.apply(3, builders.commit(builders.peer("p2"))))
    assert account_settings in index.touched(there.apply(4, builders.commit(deletes=[Ref("peer", old.id)])))


@pytest.mark.parametrize(
    ("versions", "unseen", "port"),
    [
        ({"old": "1.0.0"}, (), 22054),
        ({"old": "0.58.9"}, (), 5353),
        ({"new": "0.58.9"}, ("old",), 5353),
        ({}, ("old",), 22054),
        ({}, ("old", "new"), 5353),
        ({"gone": "0.1.0"}, ("old",), 22054),
    ],
)
def test_d1_what_an_agent_reports_counts_and_who_was_not_seen_for_long_does_not(
    versions: dict[str, str], unseen: tuple[str, ...], port: int
) -> None:
    state = builders.state(
        builders.peer("old", meta=PeerMeta(version="0.58.0")), builders.peer("new", meta=PeerMeta(version="1.0.0"))
    )
    assert settings_of(state).forwarder_port == 5353
    assert settings_of(state, Observed(versions=versions, unseen=frozenset(unseen))).forwarder_port == port


def settings_of(state: AccountState, observed: Observed = NOTHING) -> SettingsDoc:
    [settings] = [found for found in documents(state, observed).values() if isinstance(found, SettingsDoc)]
    return settings


@pytest.mark.parametrize(
    "versions, port",
    [
        (["0.59.0"], 22054),
        (["0.59.0", "1.0.0", "0.60.12", "10.0.0"], 22054),
        (["v0.59.0"], 22054),
        (["1.0.0-rc.1"], 22054),
        (["0.59.0+build.5"], 22054),
        (["0.59.0", "0.58.9"], 5353),
        (["development", "0.58.0"], 5353),
        (["0.59.0-rc.1"], 5353),
        (["0.9.0"], 5353),
        (["0.59.0 "], 5353),
    ],
)
def test_d1_one_peer_that_is_too_old_keeps_the_account_on_the_old_port(versions: list[str], port: int) -> None:
    peers = [builders.peer(f"p{n}", meta=PeerMeta(version=version)) for n, version in enumerate(versions)]
    assert settings_of(builders.state(*peers)).forwarder_port == port
