"""Access tokens."""

from services.management.core.commands.decision import Context, Decision, changed
from services.management.core.entities import ref
from services.management.core.model.commit import Activity
from services.management.core.model.user import AccessToken
from services.management.core.state import AccountState
from services.management.errors import Unknown


def replace_owners_tokens(state: AccountState, name: str, token_hash: str, context: Context) -> Decision[None]:
    """The owner has this token and no other; it never expires. Raises Unknown when there is no owner."""
    owner = next((user for user in state.users.values() if user.role == "owner" and not user.is_service_user), None)
    if owner is None:
        raise Unknown("the account has no owner")
    old = [token for token in state.access_tokens.values() if token.user_id == owner.id]
    new = AccessToken(id=context.new_id(), user_id=owner.id, name=name, token_hash=token_hash, created_at=context.now)
    activities = [
        *(_activity("delete", token) for token in sorted(old, key=lambda token: token.id)),
        _activity("create", new),
    ]
    return changed(context, state.account.id, None, activities, upserts=[new], deletes=[ref(token) for token in old])


def _activity(what: str, token: AccessToken) -> Activity:
    return Activity(code=f"personal.access.token.{what}", target_id=token.user_id, meta={"name": token.name})
