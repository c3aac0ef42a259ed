"""Setup keys: keys that let hosts enrol."""

from datetime import datetime
from typing import Annotated

import msgspec
from litestar import Response, delete, get, post, put
from litestar.di import NamedDependency
from litestar.params import FromPath

from services.management.api.call import Call, by_id, known, resource
from services.management.api.wire import Id, Integer, Nothing, about, example, given, moment
from services.management.core.commands import setupkeys as commands
from services.management.core.commands.checks import found
from services.management.core.model.setupkey import KeyState, SetupKey


class SetupKeyBody(msgspec.Struct, frozen=True, kw_only=True):
    name: Annotated[str | None, about("Not empty.", "offices")] = None
    type: Annotated[str | None, about("reusable or one-off.", "reusable")] = None
    expires_in: Annotated[Integer | None, about("Seconds from now, 0 is for ever.", 2_592_000)] = None
    auto_groups: Annotated[tuple[str, ...] | None, about("Groups that its hosts join, without All.")] = None
    usage_limit: Annotated[Integer | None, about("How many hosts may use it, 0 is any number.", 0)] = None
    ephemeral: Annotated[bool | None, about("Its hosts are removed once they are gone.")] = None
    allow_extra_dns_labels: Annotated[bool | None, about("Its hosts may bring DNS names of their own.")] = None


class SetupKeyChangeBody(msgspec.Struct, frozen=True, kw_only=True):
    """Whatever else the body holds is ignored."""

    revoked: Annotated[bool | None, about("True is for good.", False)] = None
    auto_groups: Annotated[tuple[str, ...] | None, about("Groups that its hosts join from now on.", [])] = None


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
    call: NamedDependency[Call], data: Annotated[SetupKeyBody, SETUP_KEY]
) -> Response[SetupKeyResponse]:
    """Create a setup key. Only this answer ever holds it."""
    request, text = given(data, commands.SetupKeyRequest), call.deps.new_setup_key()
    created = await call.commit(lambda state, context: commands.create_setup_key(state, request, text, context))
    return call.answer(msgspec.structs.replace(_shown(call, created), key=text), {"Cache-Control": "no-store"})


@put("/{id:str}", guards=[known(lambda state: state.setup_keys, "setup key")])
async def update_setup_key(
    call: NamedDependency[Call], id: FromPath[str], data: Annotated[SetupKeyChangeBody, SETUP_KEY_CHANGE]
) -> Response[SetupKeyResponse]:
    """Revoke a setup key, or change the groups that its hosts join."""
    request = given(data, commands.SetupKeyUpdate)
    return _one(call, await call.commit(lambda state, context: commands.update_setup_key(state, id, request, context)))


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
