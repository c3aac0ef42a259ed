"""DNS labels made of host names (reference control-plane §5.6)."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.management.core.labels import free_label, label_of
from tests.builders import peer, state


@pytest.mark.parametrize(
    "name, label",
    [
        ("web", "web"),
        ("Web-01.example.com", "web-01"),
        ("my_host", "my-host"),
        ("a b!c", "a-b-c"),
        ("-a-", "a"),
        ("münchen", "xn--mnchen-3ya"),
        ("mu\u0308nchen", "xn--mnchen-3ya"),
        ("日本", "xn--wgv71a"),
        ("Ｗｅｂ", "web"),
        ("x" * 100, "x" * 59),
        ("", ""),
        (".", ""),
        ("!", ""),
    ],
)
def test_a_host_name_becomes_a_label(name: str, label: str) -> None:
    assert label_of(name) == label


@given(st.text(max_size=100))
def test_whatever_the_name_the_label_is_one(name: str) -> None:
    label = label_of(name)
    assert label == "" or re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", label)
    assert len(label) <= 59
    free = free_label(state(peer("p", dns_label=label)), label or "peer", "100.64.255.255")
    assert len(free) <= 63
    assert free != label


def test_a_renamed_peer_may_keep_its_own_label() -> None:
    there = state(peer("web"), peer("b"))
    assert free_label(there, "web", "100.64.1.2", own_id="web") == "web"
    assert free_label(there, "web", "100.64.1.2", own_id="b") == "web-1-2"
