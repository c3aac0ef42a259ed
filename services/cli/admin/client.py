"""The REST API as the commands use it: every failure is one line."""

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import httpx
from cyclopts import Parameter

from services.cli.core.names import Ambiguous, NotFound, find
from services.cli.errors import Failed

ANSWER_LIMIT_S = 30.0
TRIES = 3
"""How often a change is tried anew when somebody else changed the account in between."""

_ALSO = {"peers": ("dns_label", "ip", "ipv6")}
"""Resource → fields by which its objects are found as well as by id and name."""

_TOKEN_REMEDY = "the server writes admin.token into its data directory"

Object = dict[str, Any]


@Parameter(name="*")
@dataclass(frozen=True)
class Connection:
    """Where the API is, and how its answers are shown."""

    api: Annotated[str, Parameter(help="Address of the API.", env_var="WHIMBREL_ADMIN_API")] = "http://127.0.0.1:8080"
    token_file: Annotated[
        Path | None,
        Parameter(help="File with an access token, such as the server's admin.token.", env_var="WHIMBREL_TOKEN_FILE"),
    ] = None
    json: Annotated[bool, Parameter(negative="", help="Print what the API answers, for machines.")] = False


class Client:
    """Calls the API with the token from the file. Raises Failed."""

    def __init__(self, connection: Connection) -> None:
        address = connection.api.rstrip("/").removesuffix("/api")
        self._address = address if "://" in address else f"http://{address}"
        try:
            url = httpx.URL(self._address)
        except httpx.InvalidURL:
            raise Failed(f"--api {connection.api!r} is no address: write it as http://127.0.0.1:8080") from None
        self._token_file = connection.token_file
        self._http = httpx.Client(
            base_url=f"{self._address}/api",
            headers={"Authorization": f"Token {_token(connection.token_file)}"},
            timeout=ANSWER_LIMIT_S,
            trust_env=not _is_loopback(url.host),
        )

    def get(self, path: str, **query: str | None) -> Any:
        return self._call("GET", path, query={name: value for name, value in query.items() if value is not None})[0]

    def post(self, path: str, body: Object) -> Object:
        created: Object = self._call("POST", path, body)[0]
        return created

    def put(self, path: str, body: Object) -> Object:
        """Of what keeps all that the body does not name; else see `revise`."""
        changed: Object = self._call("PUT", path, body)[0]
        return changed

    def delete(self, path: str) -> Object:
        nothing: Object = self._call("DELETE", path)[0]
        return nothing

    def revise(self, path: str, change: Callable[[Object], Object]) -> Object:
        """Read the object, put what `change` makes of it; anew when the account changes in between."""
        for _ in range(TRIES - 1):
            current, revision = self._call("GET", path)
            answer = self._send("PUT", path, change(current), if_match=revision)
            if answer.status_code != httpx.codes.PRECONDITION_FAILED:
                return self._decoded(answer)[0]  # type: ignore[no-any-return]
        current, revision = self._call("GET", path)
        revised: Object = self._call("PUT", path, change(current), if_match=revision)[0]
        return revised

    def find(self, resource: str, wanted: str, what: str, *, name: str = "name") -> Object:
        """The object with that id or name in the list at `resource`."""
        return _found(self.get(f"/{resource}"), resource, wanted, what, name)

    def ids(self, resource: str, wanted: list[str], what: str) -> list[str]:
        """The ids of objects given by id or name, in the order given."""
        if not wanted:
            return []
        listed = self.get(f"/{resource}")
        return [_found(listed, resource, one, what)["id"] for one in wanted]

    def names(self, resource: str) -> dict[str, str]:
        """Id → name of every object in the list at `resource`."""
        return {thing["id"]: thing["name"] for thing in self.get(f"/{resource}")}

    def _call(
        self,
        method: str,
        path: str,
        body: Object | None = None,
        *,
        query: dict[str, str] | None = None,
        if_match: str | None = None,
    ) -> tuple[Any, str]:
        return self._decoded(self._send(method, path, body, query=query, if_match=if_match))

    def _send(
        self,
        method: str,
        path: str,
        body: Object | None = None,
        *,
        query: dict[str, str] | None = None,
        if_match: str | None = None,
    ) -> httpx.Response:
        headers = {"If-Match": if_match} if if_match else {}
        try:
            return self._http.request(method, path, json=body, params=query, headers=headers)
        except httpx.TimeoutException:
            raise Failed(f"{self._address} did not answer within {ANSWER_LIMIT_S:g} s, try again later") from None
        except httpx.TransportError:
            raise Failed(f"no API answers at {self._address}: start `whimbrel server` or correct --api") from None

    def _decoded(self, answer: httpx.Response) -> tuple[Any, str]:
        """The body and the account's revision; raises Failed with the API's message."""
        try:
            body = answer.json()
        except ValueError:
            body = None
        if answer.is_success and body is not None:
            return body, answer.headers.get("ETag", "")
        if isinstance(body, dict) and isinstance(body.get("message"), str):
            message = " ".join(body["message"].split())
            if answer.status_code == httpx.codes.UNAUTHORIZED:
                raise Failed(f"token file {self._token_file}: {message}; {_TOKEN_REMEDY}, name it with --token-file")
            if answer.status_code == httpx.codes.FORBIDDEN:
                raise Failed(f"{message}: `whimbrel admin users current` shows what the token may do")
            raise Failed(message)
        raise Failed(f"what answers at {self._address} is not this API (HTTP {answer.status_code}): correct --api")


def _found(listed: list[Object], resource: str, wanted: str, what: str, name: str = "name") -> Object:
    try:
        return dict(find(listed, wanted, what, (name, *_ALSO.get(resource, ()))))
    except NotFound as problem:
        command = resource.rpartition("/")[2]
        raise Failed(f"{problem}: see `whimbrel admin {command} list`") from None
    except Ambiguous as problem:
        raise Failed(str(problem)) from None


def _token(file: Path | None) -> str:
    if file is None:
        raise Failed(f"no access token: name its file with --token-file or WHIMBREL_TOKEN_FILE; {_TOKEN_REMEDY}")
    try:
        token = file.read_text(encoding="ascii").strip()
    except OSError as problem:
        raise Failed(f"token file {file}: {problem.strerror}; {_TOKEN_REMEDY}") from None
    except UnicodeDecodeError:
        token = ""
    if not token or not token.isprintable() or " " in token:
        raise Failed(f"token file {file} holds no access token; {_TOKEN_REMEDY}")
    return token


def _is_loopback(host: str) -> bool:
    """A proxy of the environment is no way to this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
