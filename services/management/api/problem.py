"""What the API answers when it does not do what was asked: NetBird's body, a status, and nothing of our insides."""

from http import HTTPStatus
from typing import Any, TypeAlias

import msgspec
import structlog
from litestar import MediaType, Request, Response
from litestar.exceptions import HTTPException, ValidationException
from litestar.types import ExceptionHandlersMap

from services.management.errors import (
    AlreadyThere,
    ChangesRefused,
    Contended,
    Forbidden,
    InUse,
    Invalid,
    NotServing,
    Refusal,
    RetryLater,
    Stale,
    Unknown,
    Unsuitable,
)

AnyRequest: TypeAlias = Request[Any, Any, Any]

log = structlog.get_logger()

STATUS: dict[type[Refusal], HTTPStatus] = {
    Invalid: HTTPStatus.UNPROCESSABLE_ENTITY,
    Unknown: HTTPStatus.NOT_FOUND,
    AlreadyThere: HTTPStatus.CONFLICT,
    InUse: HTTPStatus.PRECONDITION_FAILED,
    Unsuitable: HTTPStatus.PRECONDITION_FAILED,
    Forbidden: HTTPStatus.FORBIDDEN,
    Stale: HTTPStatus.PRECONDITION_FAILED,
    Contended: HTTPStatus.CONFLICT,
}

TRY_AGAIN_AFTER_S = 1


class Problem(msgspec.Struct, frozen=True):
    """message: one line for a person, in lower case. code: the HTTP status."""

    message: str
    code: int


class Unauthorized(Exception):
    """Present a token that is known, not expired, and of a user who is not blocked (HTTP 401)."""


class Unparsable(Exception):
    """Send a JSON object (HTTP 400)."""


def _answer(status: int, message: str, headers: dict[str, str] | None = None) -> Response[Problem]:
    line = "".join(character if character.isprintable() else "�" for character in message)
    problem = Problem(line.lower(), int(status))
    return Response(problem, status_code=status, headers=headers, media_type=MediaType.JSON)


def _refused(_request: AnyRequest, refusal: Refusal) -> Response[Problem]:
    return _answer(STATUS[type(refusal)], refusal.message)


def _unauthorized(_request: AnyRequest, _problem: Unauthorized) -> Response[Problem]:
    headers = {"WWW-Authenticate": 'Token realm="whimbrel"'}
    return _answer(HTTPStatus.UNAUTHORIZED, "token missing, unknown, expired or its user is blocked", headers)


def _unparsable(_request: AnyRequest, _problem: Exception) -> Response[Problem]:
    return _answer(HTTPStatus.BAD_REQUEST, "couldn't parse the request")


def _wrong_type(_request: AnyRequest, problem: msgspec.ValidationError) -> Response[Problem]:
    return _answer(HTTPStatus.UNPROCESSABLE_ENTITY, str(problem))


def _retry_later(_request: AnyRequest, problem: RetryLater) -> Response[Problem]:
    log.warning("request not answered", what=problem.what, waited_s=problem.waited_s)
    headers = {"Retry-After": str(TRY_AGAIN_AFTER_S)}
    return _answer(HTTPStatus.SERVICE_UNAVAILABLE, "the bus does not answer, try again later", headers)


def _troubled(_request: AnyRequest, problem: ChangesRefused | NotServing) -> Response[Problem]:
    return _answer(HTTPStatus.SERVICE_UNAVAILABLE, str(problem), {"Retry-After": str(TRY_AGAIN_AFTER_S)})


def _of_http(request: AnyRequest, problem: HTTPException) -> Response[Problem]:
    """Unknown paths, wrong methods, bodies that are too large."""
    if problem.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:  # the framework's own complaint about our code
        return _unexpected(request, problem)
    headers = problem.headers if isinstance(problem.headers, dict) else None
    return _answer(problem.status_code, HTTPStatus(problem.status_code).phrase, headers)


def _unexpected(request: AnyRequest, problem: Exception) -> Response[Problem]:
    log.error("request failed", method=request.method, path=request.url.path, exc_info=problem)
    return _answer(HTTPStatus.INTERNAL_SERVER_ERROR, "internal server error")


HANDLERS: ExceptionHandlersMap = {
    Refusal: _refused,
    Unauthorized: _unauthorized,
    Unparsable: _unparsable,
    ValidationException: _unparsable,
    msgspec.ValidationError: _wrong_type,
    RetryLater: _retry_later,
    ChangesRefused: _troubled,
    NotServing: _troubled,
    HTTPException: _of_http,
    Exception: _unexpected,
}
