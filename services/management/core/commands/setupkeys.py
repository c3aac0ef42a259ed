"""Create, change and delete setup keys. Enrolling with one is in enrol.py."""

from collections.abc import Iterable
from typing import Annotated

from msgspec.structs import replace

from services.management.core import references
from services.management.core.commands.checks import existing_groups, found, named, unique
from services.management.core.commands.decision import Context, Decision, changed, unchanged
from services.management.core.commands.request import Integer, Request, about
from services.management.core.entities import ref
from services.management.core.model.commit import Activity
from services.management.core.model.setupkey import SetupKey, check_expiry, check_usage_limit, type_of
from services.management.core.state import AccountState
from services.management.errors import InUse, Invalid, names
from shared.events.subjects import setup_key_hash

HINT_LENGTH = 5


class SetupKeyRequest(Request, frozen=True, kw_only=True):
    """The body of POST /api/setup-keys."""

    name: Annotated[str, about("Not empty.", "offices", needed=True)] = ""
    type: Annotated[str, about("reusable or one-off.", "reusable", needed=True)] = ""
    expires_in: Annotated[Integer, about("Seconds from now, 0 is for ever.", 2_592_000)] = 0
    auto_groups: Annotated[tuple[str, ...] | None, about("Groups that its hosts join, without All.")] = None
    usage_limit: Annotated[Integer, about("How many hosts may use it, 0 is any number.", 0)] = 0
    ephemeral: Annotated[bool | None, about("Its hosts are removed once they are gone.")] = None
    allow_extra_dns_labels: Annotated[bool | None, about("Its hosts may bring DNS names of their own.")] = None


class SetupKeyUpdate(Request, frozen=True, kw_only=True):
    """The body of PUT /api/setup-keys/{id}; whatever else it holds is ignored."""

    revoked: Annotated[bool, about("True is for good.", False)] = False
    auto_groups: Annotated[
        tuple[str, ...] | None, about("Groups that its hosts join from now on.", [], needed=True)
    ] = None


def create_setup_key(state: AccountState, request: SetupKeyRequest, key: str, context: Context) -> Decision[SetupKey]:
    """key: the clear text, new and random; it goes into the answer and nowhere else. Raises Invalid."""
    named(request.name, "setup key")
    kind = type_of(request.type)
    check_expiry(request.expires_in)
    check_usage_limit(kind, request.usage_limit)
    auto_groups = _auto_groups(state, request.auto_groups)
    created = SetupKey(
        id=context.new_id(),
        name=request.name,
        key_hash=setup_key_hash(key),
        hint=key[:HINT_LENGTH],
        type=kind,
        created_at=context.now,
        updated_at=context.now,
        expires_at=context.now + request.expires_in if request.expires_in else 0.0,
        usage_limit=1 if kind == "one-off" else request.usage_limit,
        auto_groups=auto_groups,
        ephemeral=bool(request.ephemeral),
        allow_extra_dns_labels=bool(request.allow_extra_dns_labels),
    )
    activities = [_activity("setupkey.add", created), *_group_activities(state, "add", created, auto_groups)]
    return changed(context, state.account.id, created, activities, upserts=[created])


def update_setup_key(state: AccountState, id: str, request: SetupKeyUpdate, context: Context) -> Decision[SetupKey]:
    """Revokes it, or changes the groups that its hosts join. Raises Unknown or Invalid."""
    old = found(state.setup_keys, id, "setup key")
    if request.auto_groups is None:
        raise Invalid("auto_groups must be given, [] for none")
    if old.revoked and not request.revoked:
        raise Invalid(f"setup key {old.name} is revoked for good: create a new one")
    auto_groups = _auto_groups(state, request.auto_groups)
    new = replace(old, revoked=request.revoked, auto_groups=auto_groups, updated_at=context.now)
    activities = [
        *([_activity("setupkey.revoke", new)] if new.revoked and not old.revoked else []),
        *_group_activities(state, "delete", new, [group for group in old.auto_groups if group not in auto_groups]),
        *_group_activities(state, "add", new, [group for group in auto_groups if group not in old.auto_groups]),
    ]
    if not activities:
        return unchanged(old)
    return changed(context, state.account.id, new, activities, upserts=[new])


def delete_setup_key(state: AccountState, id: str, context: Context) -> Decision[None]:
    """Raises Unknown, or InUse while a peer that enrolled with it exists (decision R10)."""
    key = found(state.setup_keys, id, "setup key")
    peers = references.to(state, key)
    if peers:
        raise InUse(f"setup key {key.name} enrolled {names(peers)}: revoke it instead, or delete them first")
    return changed(context, state.account.id, None, [_activity("setupkey.delete", key)], deletes=[ref(key)])


def _auto_groups(state: AccountState, ids: tuple[str, ...] | None) -> tuple[str, ...]:
    groups = existing_groups(state, unique(ids), "auto_groups")
    if any(group.id == state.account.all_group for group in groups):
        raise Invalid("auto_groups: every peer is in the group All, leave it out")
    return tuple(group.id for group in groups)


def _activity(code: str, key: SetupKey) -> Activity:
    return Activity(code=code, target_id=key.id, meta={"name": key.name, "type": key.type, "key": key.masked})


def _group_activities(state: AccountState, what: str, key: SetupKey, groups: Iterable[str]) -> list[Activity]:
    return [
        Activity(
            code=f"setupkey.group.{what}",
            target_id=key.id,
            meta={"group": state.groups[id].name, "group_id": id, "setupkey": key.name},
        )
        for id in groups
    ]
