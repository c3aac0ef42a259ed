"""The kinds of units fit together."""

from typing import get_args

from services.management.core.entities import Entity
from services.management.core.feed.units import UNITS
from shared.events.documents import Document

NAMES = [kind.name for kind in UNITS]


def test_peers_come_before_what_names_them_and_addresses_after_their_route() -> None:
    assert NAMES == [
        "presence",
        "settings",
        "resolving",
        "self",
        "peer",
        "policy",
        "route",
        "resolution",
        "nameservers",
        "zone",
    ]


def test_each_kind_of_document_is_made_by_one_kind_of_unit() -> None:
    made = [kind.makes for kind in UNITS]
    assert len(made) == len(set(made))
    assert set(made) == set(get_args(Document))


def test_a_kind_follows_one_that_there_is_and_its_units_have_the_same_ids() -> None:
    by_name = {kind.name: kind for kind in UNITS}
    for kind in UNITS:
        assert not kind.follows or by_name[kind.follows].entity is kind.entity
        assert kind.entity in get_args(Entity)
