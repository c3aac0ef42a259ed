"""One call of the API: who asks, what the account is, how it is changed, and how it is answered."""

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeVar

import msgspec
from litestar import Request, Response, Router
from litestar.connection import ASGIConnection
from litestar.datastructures import State
from litestar.exceptions import InternalServerException
from litestar.handlers import BaseRouteHandler
from litestar.middleware import AbstractAuthenticationMiddleware, AuthenticationResult
from litestar.types import Guard

from services.management.api.deps import Deps
from services.management.api.kept import K, Kept
from services.management.api.permissions import MODULES, allowed
from services.management.api.pieces import Pieces, accepts_gzip
from services.management.api.problem import Unauthorized, Unparsable
from services.management.core.commands.checks import found
from services.management.core.commands.decision import Context, Decision
from services.management.core.commands.request import told_by_null
from services.management.core.model.commit import Actor
from services.management.core.model.user import User
from services.management.core.state import AccountState, Owner
from services.management.errors import Forbidden, Stale

T = TypeVar("T")

SCHEMES = ("token", "bearer")
READING = ("GET", "HEAD", "OPTIONS")


class StrictRequest(Request[User, Owner, State]):
    """A request whose body is a JSON object, and is never coerced into the handler's type: "5" is no number.

    It is decoded twice: a decoder for a type skips fields that it does not know unread, and complains of a wrong type
    before it has seen what is malformed behind it.
    """

    async def body(self) -> bytes:
        try:
            return await super().body()
        except InternalServerException as gone:  # the caller went away before the end of its body
            raise Unparsable from gone

    async def json(self) -> Any:
        field = self.route_handler.parsed_data_field
        body = await self.body()
        try:
            given = msgspec.json.decode(body)
            if b"null" in body:
                body = msgspec.json.encode(_told(given, told_by_null(field.annotation) if field else ()))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
            raise Unparsable from problem
        if not isinstance(given, dict):
            raise Unparsable
        return msgspec.json.decode(body, type=field.annotation) if field else given


def _told(given: Any, by_null: Collection[str] = ()) -> Any:
    """The JSON without members that are null, but for those named: NetBird's clients write so what they leave out."""
    if isinstance(given, dict):
        return {name: _told(value) for name, value in given.items() if value is not None or name in by_null}
    return list(map(_told, given)) if isinstance(given, list) else given


class Authentication(AbstractAuthenticationMiddleware):
    """`user` of a request is the User whose token it presents, `auth` says of which account. Raises Unauthorized."""

    async def authenticate_request(self, connection: ASGIConnection[Any, Any, Any, Any]) -> AuthenticationResult:
        deps: Deps = connection.app.state.deps
        deps.troubles.require_serving()
        scheme, _, token = connection.headers.get("Authorization", "").partition(" ")
        if scheme.lower() not in SCHEMES:
            raise Unauthorized
        owner = deps.intent.access_token_by_hash(hashlib.sha256(token.strip().encode()).hexdigest())
        if owner is None:
            raise Unauthorized
        state = deps.intent.accounts[owner.account]
        access = state.access_tokens[owner.id]
        user = state.users.get(access.user_id)
        if user is None or user.is_blocked or 0.0 < access.expires_at <= deps.now():
            raise Unauthorized
        return AuthenticationResult(user=user, auth=owner)


def permitted(module: str) -> Guard:
    """A guard that lets through whose role may read, or write, the module of MODULES."""

    def guard(connection: ASGIConnection[Any, User, Owner, Any], _handler: BaseRouteHandler) -> None:
        if not allowed(connection.user, module, write=connection.scope.get("method") not in READING):
            raise Forbidden("permission denied")

    return guard


def resource(module: str, *handlers: BaseRouteHandler, path: str = "", guarded: bool = True) -> Router:
    """The router of a module of MODULES, for those who may, under its title in the document.

    path: the module's name if not given. guarded: False when each handler has a guard of its own, or needs none.
    """
    guards = [permitted(module)] if guarded else None
    path = path or f"/{module.replace('_', '-')}"
    return Router(path, route_handlers=handlers, guards=guards, tags=[MODULES[module].title])


def by_id(entities: Mapping[str, T]) -> list[T]:
    """What a listing shows, oldest first (ids grow with time): the same order on every replica and after a restart."""
    return [entities[id] for id in sorted(entities)]


def known(table: Callable[[AccountState], Mapping[str, Any]], what: str, *, parameter: str = "id") -> Guard:
    """A guard that answers for an unknown id in the path before the body is looked at, as NetBird does."""

    def guard(connection: ASGIConnection[Any, User, Owner, State], _handler: BaseRouteHandler) -> None:
        deps: Deps = connection.app.state.deps
        found(table(deps.intent.accounts[connection.auth.account]), connection.path_params[parameter], what)

    return guard


class Call:
    """What a handler works with; made anew for each request."""

    def __init__(self, request: StrictRequest) -> None:
        self.deps: Deps = request.app.state.deps
        self.user = request.user
        self.account = request.auth.account
        self._kept: Kept = request.app.state.kept
        self._if_match = request.headers.get("If-Match")
        self._gzip = accepts_gzip(request.headers.get("Accept-Encoding", ""))

    @property
    def state(self) -> AccountState:
        """The account as this replica knows it now. Read it anew after each await."""
        return self.deps.intent.accounts[self.account]

    async def commit(self, decide: Callable[[AccountState, Context], Decision[T]]) -> T:
        """What the command gave, committed. Raises its refusals, and Stale when If-Match names an old state."""
        actor = Actor(id=self.user.id, name=self.user.name, email=self.user.email)
        context = Context(self.deps.now(), actor, self.deps.new_id)

        def checked(state: AccountState) -> Decision[T]:
            if self._if_match is not None and not _names(self._if_match, state.revision):
                raise Stale("the account has changed since, read it again")
            return decide(state, context)

        return await self.deps.commit(self.account, checked)

    def answer(self, body: T, headers: dict[str, str] | None = None) -> Response[T]:
        """200 with the account's revision as ETag. `body` must have been made of `state` since the last await."""
        return Response(body, headers={"ETag": etag(self.state.revision), **(headers or {})})

    def kept(self, kind: Callable[[], K]) -> K:
        """What is kept of the account's long answers in an object of that class."""
        return self._kept.of(self.account, kind)

    def listing(self, revision: int, entries: Sequence[bytes]) -> Pieces[Any]:
        """200 with the entries, each the JSON of one, and the revision that they are of as ETag."""
        return Pieces(entries, {"ETag": etag(revision)}, gzip=self._gzip)


def etag(revision: int) -> str:
    return f'"{revision}"'


def _names(if_match: str, revision: int) -> bool:
    """Whether an If-Match header names the revision (RFC 9110 §13.1.1, strong comparison)."""
    return if_match.strip() == "*" or etag(revision) in [tag.strip() for tag in if_match.split(",")]
