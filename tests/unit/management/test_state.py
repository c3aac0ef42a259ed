"""The fold of the log and its indexes."""

from msgspec.structs import replace

from services.management.core.entities import Ref
from services.management.core.state import Intent
from tests.builders import ACCOUNT, ALL, account, bus_key, commit, group, intent, peer, setup_key, state, wireguard_key


def test_members_follow_the_peers_and_all_is_everybody() -> None:
    there = state(group("a"), peer("x", "a"), peer("y"))
    assert sorted(there.members("a")) == ["x"]
    assert sorted(there.members(ALL)) == ["x", "y"]
    assert list(there.members("ghost")) == []
    assert (there.member_count("a"), there.member_count(ALL), there.member_count("ghost")) == (1, 2, 0)
    assert there.groups_of(there.peers["x"]) == ("a", ALL)


def test_deleting_a_group_takes_its_members_out_and_says_so() -> None:
    there = state(group("a"), group("b"), peer("x", "a", "b"), peer("y", "a"))
    changes = there.apply(2, commit(deletes=[Ref("group", "a")]))
    assert [change.ref for change in changes] == [Ref("group", "a"), Ref("peer", "x"), Ref("peer", "y")]
    assert there.peers["x"].groups == ("b",)
    assert there.peers["y"].groups == ()
    assert list(there.members("a")) == []


def test_two_peers_may_swap_address_label_and_keys_in_one_commit() -> None:
    x, y = peer("x", address_v4="100.64.0.1"), peer("y", address_v4="100.64.0.2")
    there = intent(x, y)
    swapped = [
        replace(y, id="x", name="x"),
        replace(x, id="y", name="y"),
    ]
    there.apply(2, commit(*swapped))
    here = there.accounts[ACCOUNT]
    assert here.address_taken("100.64.0.1")
    assert here.address_taken("100.64.0.2")
    assert [set(here.label_holders(label)) for label in "xy"] == [{"y"}, {"x"}]
    owners = [there.peer_by_bus_key(bus_key(name)) for name in "xy"]
    assert [owner.id for owner in owners if owner] == ["y", "x"]


def test_what_a_deleted_peer_had_is_free_again() -> None:
    there = intent(peer("x", extra_dns_labels=("db",)), peer("y", extra_dns_labels=("db",)))
    x = there.accounts[ACCOUNT].peers["x"]
    there.apply(2, commit(deletes=[Ref("peer", "x")]))
    here = there.accounts[ACCOUNT]
    assert not here.address_taken(x.address_v4)
    assert not here.address_taken(x.address_v6)
    assert not here.label_holders("x")
    assert here.label_holders("db") == {"y"}
    assert there.peer_by_wireguard_key(wireguard_key("x")) is None


def test_a_commit_folded_before_changes_nothing() -> None:
    there = intent(peer("x"))
    assert there.apply(1, commit(deletes=[Ref("peer", "x")])) == []
    assert "x" in there.accounts[ACCOUNT].peers


def test_a_restored_intent_equals_the_folded_one() -> None:
    folded = intent(group("a"), peer("x", "a"), setup_key("ci"))
    folded.apply(2, commit(account("other"), peer("z"), account="other"))
    restored = Intent()
    restored.restore(
        folded.sequence,
        {id: there.revision for id, there in folded.accounts.items()},
        {id: list(there.entities()) for id, there in folded.accounts.items()},
    )
    assert restored.sequence == 2
    for id, there in folded.accounts.items():
        again = restored.accounts[id]
        assert list(again.entities()) == list(there.entities())
        assert again.revision == there.revision
        assert sorted(again.members("a")) == sorted(there.members("a"))
    owner = restored.peer_by_wireguard_key(wireguard_key("z"))
    assert owner is not None
    assert (owner.account, owner.id) == ("other", "z")
