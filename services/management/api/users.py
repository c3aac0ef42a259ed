"""Users, and who is asking."""

from datetime import datetime

import msgspec
from litestar import Response, get
from litestar.di import NamedDependency
from litestar.params import FromQuery

from services.management.api.call import Call, by_id, permitted, resource
from services.management.api.permissions import MODULES, NOT_SERVED, allowed
from services.management.api.wire import NEVER, Id
from services.management.core.model.user import Role, User


class Rights(msgspec.Struct, frozen=True, kw_only=True):
    create: bool
    read: bool
    update: bool
    delete: bool


class Permissions(msgspec.Struct, frozen=True, kw_only=True):
    """is_restricted: the user may do nothing beyond looking at itself. modules: what it may do, by resource."""

    is_restricted: bool
    modules: dict[str, Rights]


class UserResponse(msgspec.Struct, frozen=True, kw_only=True):
    """permissions: only where a user asks about itself."""

    id: Id
    email: str
    name: str
    role: Role
    status: str
    last_login: datetime
    auto_groups: list[str]
    is_current: bool
    is_service_user: bool
    is_blocked: bool
    pending_approval: bool
    issued: str
    permissions: Permissions | msgspec.UnsetType = msgspec.UNSET


@get("/", guards=[permitted("users")])
async def list_users(
    call: NamedDependency[Call], service_user: FromQuery[bool | None] = None
) -> Response[list[UserResponse]]:
    """Every user of the account, or only service users, or only people."""
    users = [u for u in by_id(call.state.users) if service_user is None or u.is_service_user is service_user]
    return call.answer([_shown(user, call.user) for user in users])


@get("/current")
async def current_user(call: NamedDependency[Call]) -> Response[UserResponse]:
    """The user whose token was presented, and what it may do."""
    return call.answer(msgspec.structs.replace(_shown(call.user, call.user), permissions=_permissions(call.user)))


def _shown(user: User, current: User) -> UserResponse:
    return UserResponse(
        id=user.id,
        email=user.email,
        name=user.name,
        role=user.role,
        status="blocked" if user.is_blocked else "active",
        last_login=NEVER,
        auto_groups=list(user.auto_groups),
        is_current=user.id == current.id,
        is_service_user=user.is_service_user,
        is_blocked=user.is_blocked,
        pending_approval=False,
        issued="api",
    )


def _permissions(user: User) -> Permissions:
    served = {module: _rights(user, module) for module in MODULES}
    modules = served | dict.fromkeys(NOT_SERVED, Rights(create=False, read=False, update=False, delete=False))
    return Permissions(is_restricted=not any(rights.read for rights in modules.values()), modules=modules)


def _rights(user: User, module: str) -> Rights:
    write = allowed(user, module, write=True)
    return Rights(create=write, read=allowed(user, module, write=False), update=write, delete=write)


router = resource("users", list_users, current_user, guarded=False)  # everybody may ask who it is itself
