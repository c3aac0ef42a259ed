"""The first commit of an account."""

import msgspec

from services.management.core.addresses import check_overlay
from services.management.core.commands.decision import Context, Decision, changed
from services.management.core.entities import Entity
from services.management.core.model.account import ALL_GROUP_NAME, Account
from services.management.core.model.commit import Activity
from services.management.core.model.group import Group
from services.management.core.model.policy import Policy, PolicyRule
from services.management.core.model.user import AccessToken, User

DEFAULT_POLICY_NAME = "Default"


class NewAccount(msgspec.Struct, frozen=True, kw_only=True):
    """network_v4, network_v6: chosen at random, a /16 of 100.64.0.0/10 and a /64 of fd00::/8, in canonical text.

    token_hash: SHA-256, in hexadecimal, of the token that the owner will use the API with; it never expires.
    """

    network_v4: str
    network_v6: str
    dns_domain: str
    owner_name: str
    owner_email: str = ""
    token_name: str
    token_hash: str


def create_account(request: NewAccount, context: Context) -> Decision[Account]:
    """An account with its owner, the group All, and the policy Default that lets All talk to All. Raises Invalid."""
    check_overlay(request.network_v4, request.network_v6)
    everybody = Group(id=context.new_id(), name=ALL_GROUP_NAME)
    account = Account(
        id=context.new_id(),
        network_v4=request.network_v4,
        network_v6=request.network_v6,
        dns_domain=request.dns_domain,
        all_group=everybody.id,
        created_at=context.now,
    )
    owner = User(
        id=context.new_id(),
        name=request.owner_name,
        email=request.owner_email,
        role="owner",
        created_at=context.now,
    )
    token = AccessToken(
        id=context.new_id(),
        user_id=owner.id,
        name=request.token_name,
        token_hash=request.token_hash,
        created_at=context.now,
    )
    activities = [
        Activity(code="account.create", target_id=account.id),
        Activity(code="personal.access.token.create", target_id=owner.id, meta={"name": token.name}),
    ]
    upserts: list[Entity] = [account, everybody, _default_policy(everybody, context), owner, token]
    return changed(context, account.id, account, activities, upserts=upserts)


def _default_policy(everybody: Group, context: Context) -> Policy:
    description = "Lets every peer talk to every other."
    rule = PolicyRule(
        id=context.new_id(),
        name=DEFAULT_POLICY_NAME,
        description=description,
        bidirectional=True,
        sources=(everybody.id,),
        destinations=(everybody.id,),
    )
    return Policy(id=context.new_id(), name=DEFAULT_POLICY_NAME, description=description, rules=(rule,))
