"""A new account has what NetBird's has: group All and policy Default."""

import pytest

from services.management.core.commands.accounts import NewAccount, create_account
from services.management.core.model.account import Account
from services.management.core.model.commit import Activity
from services.management.core.model.policy import PolicyRule
from services.management.core.state import Intent
from services.management.errors import Invalid
from tests.builders import NOW, context

NEW = NewAccount(
    network_v4="100.93.0.0/16",
    network_v6="fd12:3456:789a:1::/64",
    dns_domain="whimbrel.test",
    owner_name="admin",
    token_name="first",
    token_hash="ab" * 32,
)


def test_an_account_starts_with_all_default_its_owner_and_a_token() -> None:
    decision = create_account(NEW, context())
    assert decision.commit is not None
    there = Intent()
    there.apply(7, decision.commit)
    state = there.accounts[decision.result.id]

    [everybody] = state.groups.values()
    [policy] = state.policies.values()
    [owner] = state.users.values()
    assert decision.result == Account(
        id=decision.commit.account,
        network_v4="100.93.0.0/16",
        network_v6="fd12:3456:789a:1::/64",
        dns_domain="whimbrel.test",
        all_group=everybody.id,
        created_at=NOW,
    )
    assert everybody.name == "All"
    assert (policy.name, policy.enabled) == ("Default", True)
    assert policy.rules == (
        PolicyRule(
            id=policy.rules[0].id,
            name="Default",
            description=policy.rules[0].description,
            enabled=True,
            action="accept",
            bidirectional=True,
            protocol="all",
            sources=(everybody.id,),
            destinations=(everybody.id,),
        ),
    )
    assert (owner.name, owner.role) == ("admin", "owner")
    token = there.access_token_by_hash("ab" * 32)
    assert token is not None
    assert state.access_tokens[token.id].user_id == owner.id
    assert decision.commit.activities == (
        Activity(code="account.create", target_id=decision.result.id),
        Activity(code="personal.access.token.create", target_id=owner.id, meta={"name": "first"}),
    )


def test_every_entity_has_an_id_of_its_own() -> None:
    commit = create_account(NEW, context()).commit
    assert commit is not None
    assert len({entity.id for entity in commit.upserts}) == len(commit.upserts) == 5


@pytest.mark.parametrize(
    "v4, v6",
    [
        ("100.64.0.0/15", NEW.network_v6),
        ("100.128.0.0/16", NEW.network_v6),
        ("10.0.0.0/16", NEW.network_v6),
        ("fd00::/64", NEW.network_v6),
        (NEW.network_v4, "fd00::/48"),
        (NEW.network_v4, "2001:db8::/64"),
        (NEW.network_v4, "100.64.0.0/16"),
    ],
)
def test_the_overlay_is_a_16_of_cgnat_and_a_64_of_ula(v4: str, v6: str) -> None:
    with pytest.raises(Invalid, match="is not a /"):
        create_account(NewAccount(**{**_fields(), "network_v4": v4, "network_v6": v6}), context())


def _fields() -> dict[str, str]:
    return {name: getattr(NEW, name) for name in NEW.__struct_fields__}
