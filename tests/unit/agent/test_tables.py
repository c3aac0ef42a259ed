"""The tables of kernel objects: each entry of a state has one, and what depends on what is read again with it."""

import pytest

from services.agent.core.desired_state import Desired, Entries, Observed
from services.agent.core.reconcile.tables import KINDS, TABLES, dirtied

LINK = {"link", "device", "sysctl", "route"}


def test_each_kind_of_entry_has_one_table_and_each_table_is_in_both_states() -> None:
    fields = [table.field for table in TABLES]
    assert sorted(fields) == sorted({*Entries.__struct_fields__, "ruleset"})
    assert {*fields} <= {*Desired.__struct_fields__} & {*Observed.__struct_fields__}
    assert len(set(KINDS)) == len(KINDS)


def test_what_a_table_names_is_a_kind_that_is_read_by_itself_or_a_change_of_the_host() -> None:
    alone = {table.kind for table in TABLES if not table.read_with}
    for table in TABLES:
        assert {table.read_with} <= alone | {""}
        assert {*table.dirty_with} <= {*KINDS, "addresses", "ways"}


@pytest.mark.parametrize(
    ("changed", "dirty"),
    [
        ((), set()),
        (("route",), {"route"}),
        (("ruleset", "rule"), {"ruleset", "rule"}),
        (("peer",), {"device"}),
        (("link",), LINK),
        (("device",), LINK),
        (("addresses",), {"sysctl", "floating"}),
        (("ways",), set()),
        (KINDS, {*KINDS} - {"peer"}),
    ],
)
def test_what_depends_on_what_changed_is_read_again(changed: tuple[str, ...], dirty: set[str]) -> None:
    assert dirtied(changed) == dirty
