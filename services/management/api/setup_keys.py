"""Setup keys: keys that let hosts enrol."""

from datetime import datetime
from typing import Annotated

import msgspec
from litestar import Response, delete, get, post, put
from litestar.di import NamedDependency
from litestar.params import FromPath

from services.management.api.call import Call, by_id, known, resource
from services.management.api.wire import Id, Nothing, example, moment
from services.management.core.commands import setupkeys as commands
from services.management.core.commands.checks import found
from services.management.core.commands.request import about
from services.management.core.model.setupkey import KeyState, SetupKey


class SetupKeyResponse(msgspec.Struct, frozen=True, kw_only=True):
    """key: in clear text in the answer to the POST that made it, its beginning in every other answer."""

    id: Id
    name: str
    key: Annotated[str, about("See above.", "3F2A8*******************************")]
    type: str
    state: KeyState
    valid: bool
    revoked: bool
    used_times: int
    usage_limit: int
    last_used: datetime
    expires: datetime
    updated_at: datetime
    auto_groups: list[str]
    ephemeral: bool
    allow_extra_dns_labels: bool


SETUP_KEY = example(
    {"name": "offices", "type": "reusable", "expires_in": 2_592_000, "auto_groups": [], "usage_limit": 0}
)


SETUP_KEY_CHANGE = example({"revoked": True, "auto_groups": []})


@get("/")
async def list_setup_keys(call: NamedDependency[Call]) -> Response[list[SetupKeyResponse]]:
    """Every setup key of the account."""
    return call.answer([_shown(call, key) for key in by_id(call.state.setup_keys)])


@get("/{id:str}")
async def get_setup_key(call: NamedDependency[Call], id: FromPath[str]) -> Response[SetupKeyResponse]:
    """One setup key."""
    return _one(call, found(call.state.setup_keys, id, "setup key"))


@post("/", status_code=200)
async def create_setup_key(
    call: NamedDependency[Call], data: Annotated[commands.SetupKeyRequest, SETUP_KEY]
) -> Response[SetupKeyResponse]:
    """Create a setup key. Only this answer ever holds it."""
    text = call.deps.new_setup_key()
    created = await call.commit(lambda state, context: commands.create_setup_key(state, data, text, context))
    return call.answer(msgspec.structs.replace(_shown(call, created), key=text), {"Cache-Control": "no-store"})


@put("/{id:str}", guards=[known(lambda state: state.setup_keys, "setup key")])
async def update_setup_key(
    call: NamedDependency[Call], id: FromPath[str], data: Annotated[commands.SetupKeyUpdate, SETUP_KEY_CHANGE]
) -> Response[SetupKeyResponse]:
    """Revoke a setup key, or change the groups that its hosts join."""
    return _one(call, await call.commit(lambda state, context: commands.update_setup_key(state, id, data, context)))


@delete("/{id:str}", status_code=200)
async def delete_setup_key(call: NamedDependency[Call], id: FromPath[str]) -> Response[Nothing]:
    """Delete a setup key that no peer has enrolled with."""
    await call.commit(lambda state, context: commands.delete_setup_key(state, id, context))
    return call.answer(Nothing())


def _one(call: Call, key: SetupKey) -> Response[SetupKeyResponse]:
    return call.answer(_shown(call, call.state.setup_keys.get(key.id, key)))


def _shown(call: Call, key: SetupKey) -> SetupKeyResponse:
    state = key.state(call.deps.now())
    return SetupKeyResponse(
        id=key.id,
        name=key.name,
        key=key.masked,
        type=key.type,
        state=state,
        valid=state == "valid",
        revoked=key.revoked,
        used_times=key.used_times,
        usage_limit=key.usage_limit,
        last_used=moment(key.last_used),
        expires=moment(key.expires_at),
        updated_at=moment(key.updated_at),
        auto_groups=list(key.auto_groups),
        ephemeral=key.ephemeral,
        allow_extra_dns_labels=key.allow_extra_dns_labels,
    )


router = resource("setup_keys", list_setup_keys, get_setup_key, create_setup_key, update_setup_key, delete_setup_key)
