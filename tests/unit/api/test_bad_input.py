"""What is no request at all: answered in NetBird's words, and nothing is committed."""

import json
import re
from collections.abc import Iterable
from typing import Any

import pytest
import structlog.testing
from litestar.exceptions import ImproperlyConfiguredException
from litestar.routes import BaseRoute, HTTPRoute

from services.management.api.problem import STATUS
from services.management.errors import Contended, NotEnrolled, Refusal, RetryLater
from tests.unit.api.world import World, problem

WRITES = [
    ("POST", "routes"),
    ("PUT", "routes/lan"),
    ("POST", "groups"),
    ("PUT", "groups/office"),
    ("POST", "policies"),
    ("PUT", "policies/Default"),
    ("PUT", "peers/gw"),
    ("POST", "dns/nameservers"),
    ("PUT", "dns/nameservers/corp"),
    ("PUT", "dns/settings"),
    ("POST", "dns/zones"),
    ("PUT", "dns/zones/lab.example"),
    ("POST", "dns/zones/lab.example/records"),
    ("PUT", "dns/zones/lab.example/records/www.lab.example"),
    ("POST", "setup-keys"),
    ("PUT", "setup-keys/valid"),
    ("PUT", "accounts/{account}"),
]
UNPARSABLE = {
    "nothing": b"",
    "half an object": b'{"name": "x"',
    "an object and more": b"{} {}",
    "a comment": b"/* */ {}",
    "single quotes": b"{'name': 'x'}",
    "not a number": b'{"x": NaN}',
    "too deep": b'{"x":' + b"[" * 200_000 + b"]" * 200_000 + b"}",
    "a form": b"name=x&peers=y",
    "a wrong type, and cut off": b'{"name": 1, "network_id": 1, "rules": 1, "auto_groups": 1',
    "a wrong type, and more": b'{"name": 1, "network_id": 1, "rules": 1, "auto_groups": 1} {}',
    "no UTF-8 in a field that nobody reads": b'{"unknown": "\xff"}',
    "half a character in a field that nobody reads": b'{"unknown": "\\ud800"}',
    "a list": b"[]",
    "a list, cut off": b"[",
    "a text": b'"x"',
    "a text that is an object": b'"{}"',
    "a text, cut off": b'"x',
    "a number": b"1",
    "null": b"null",
    "true": b"true",
}
WRONG_TYPES: list[tuple[str, dict[str, Any]]] = [
    ("routes", {"network_id": 1}),
    ("routes", {"description": {}}),
    ("routes", {"network": ["10.0.0.0/8"]}),
    ("routes", {"domains": "example.com"}),
    ("routes", {"domains": [1]}),
    ("routes", {"peer": 1}),
    ("routes", {"peer_groups": "gateways"}),
    ("routes", {"metric": "9999"}),
    ("routes", {"metric": 1.5}),
    ("routes", {"metric": True}),
    ("routes", {"metric": 2**63}),
    ("routes", {"masquerade": "true"}),
    ("routes", {"enabled": 1}),
    ("routes", {"groups": {"id": "office"}}),
    ("routes", {"groups": [None]}),
    ("routes", {"access_control_groups": [["office"]]}),
    ("routes", {"keep_route": "yes"}),
    ("routes", {"skip_auto_apply": 0}),
    ("groups", {"name": None, "peers": [{"id": "gw"}]}),
    ("groups", {"resources": ["x"]}),
    ("groups", {"resources": [{"id": "x"}]}),
    ("policies", {"rules": {}}),
    ("policies", {"rules": [1]}),
    ("policies", {"rules": [{"ports": [80]}]}),
    ("policies", {"rules": [{"port_ranges": [{"start": "1", "end": "2"}]}]}),
    ("policies", {"rules": [{"authorized_groups": ["office"]}]}),
    ("policies", {"rules": [{"sourceResource": "gw"}]}),
    ("dns/nameservers", {"nameservers": {"ip": "10.0.0.53"}}),
    ("dns/nameservers", {"nameservers": ["10.0.0.53"]}),
    ("dns/nameservers", {"nameservers": [{"port": "53"}]}),
    ("dns/nameservers", {"domains": "corp.example"}),
    ("dns/nameservers", {"primary": "true"}),
    ("dns/zones", {"enabled": "yes"}),
    ("dns/zones", {"distribution_groups": "office"}),
    ("dns/zones/lab.example/records", {"ttl": "300"}),
    ("dns/zones/lab.example/records", {"content": ["10.0.0.1"]}),
    ("setup-keys", {"expires_in": "30d"}),
    ("setup-keys", {"usage_limit": 10**30}),
    ("setup-keys", {"auto_groups": "office"}),
    ("setup-keys", {"ephemeral": "no"}),
]


@pytest.mark.parametrize("what", UNPARSABLE)
@pytest.mark.parametrize(("method", "path"), WRITES)
async def test_what_is_no_json_object_is_400(method: str, path: str, what: str) -> None:
    world = World()
    answer = await world.call(method, path, content=UNPARSABLE[what])
    assert problem(answer) == (400, "couldn't parse the request")
    assert world.commits == []


@pytest.mark.parametrize("text", [b"\xff", b"\\ud800", b"\\x00", b"a\nb"])
async def test_text_that_json_cannot_hold_is_400(text: bytes) -> None:
    world = World()
    assert problem(await world.call("POST", "groups", content=b'{"name": "' + text + b'"}'))[0] == 400
    assert world.commits == []


def test_every_handler_that_takes_a_body_is_among_them() -> None:
    handlers = {(method, handler) for route in World().server.app.routes for method, handler in _with_body(route)}
    assert handlers == {(method, _template(f"/api/{path}")) for method, path in WRITES}


def _template(path: str) -> str:
    with_zone = re.sub("/(corp|Default|gw|lab.example|lan|office|valid|{account})(?=/|$)", "/{id:str}", path)
    return with_zone.replace("/www.lab.example", "/{record_id:str}")


def _with_body(route: BaseRoute) -> Iterable[tuple[str, str]]:
    for handler in route.route_handlers if isinstance(route, HTTPRoute) else ():
        if handler.parsed_data_field is not None:
            yield from ((method, route.path) for method in handler.http_methods)


@pytest.mark.parametrize(("path", "body"), WRONG_TYPES, ids=[json.dumps(case[1]) for case in WRONG_TYPES])
async def test_a_field_of_the_wrong_type_is_422_and_named(path: str, body: dict[str, Any]) -> None:
    world = World()
    status, message = problem(await world.call("POST", path, body))
    assert status == 422
    assert f"`$.{list(body)[-1]}" in message
    assert world.commits == []


@pytest.mark.parametrize(("method", "path"), WRITES)
async def test_a_body_larger_than_1_mib_is_413(method: str, path: str) -> None:
    world = World()
    name = "x" * (1024 * 1024)
    assert problem(await world.call(method, path, {"name": name}))[0] == 413
    assert world.commits == []


async def test_a_large_body_of_unknown_length_is_413() -> None:
    world = World()
    headers = {"Transfer-Encoding": "chunked"}
    assert problem(await world.call("POST", "groups", content=b" " * (1024 * 1024 + 1), headers=headers))[0] == 413


async def test_a_body_of_almost_1_mib_is_read() -> None:
    answer = await World().call("POST", "groups", content=b'{"name": "new"}' + b" " * (1024 * 1024 - 15))
    assert answer.status_code == 200


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "nonsense"])
async def test_the_content_type_does_not_matter(content_type: str) -> None:
    headers = {"Content-Type": content_type}
    assert (await World().call("POST", "groups", content=b'{"name": "new"}', headers=headers)).status_code == 200


@pytest.mark.parametrize(
    "path", ["/", "/api", "/api/", "/api/nothing", "/api/routes/lan/more", "/api/docs/nothing", "/metrics/x"]
)
async def test_an_unknown_path_is_404(path: str) -> None:
    assert (await World().call("GET", path)).status_code == 404


@pytest.mark.parametrize(
    ("method", "path"), [("PATCH", "routes"), ("POST", "routes/lan"), ("DELETE", "routes"), ("POST", "peers")]
)
async def test_a_wrong_method_is_405_and_says_which_are_right(method: str, path: str) -> None:
    answer = await World().call(method, path)
    assert problem(answer) == (405, "method not allowed")
    assert "GET" in answer.headers["Allow"]


@pytest.mark.parametrize("path", ["routes", "routes/lan", "peers/gw/accessible-peers", "users/current"])
async def test_options_says_which_methods_there_are_to_whoever_has_a_token(path: str) -> None:
    answer = await World().call("OPTIONS", path)
    assert (answer.status_code, answer.text) == (204, "")
    assert "GET" in answer.headers["Allow"]
    assert problem(await World().call("OPTIONS", path, caller="nobody"))[0] == 401


async def test_a_dashboard_of_another_origin_may_ask() -> None:
    world, origin = World(), {"Origin": "https://dashboard.example"}
    wanted = {"Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "authorization,if-match"}
    preflight = await world.call("OPTIONS", "routes/lan", caller="nobody", headers=origin | wanted)
    assert preflight.status_code == 204
    assert preflight.headers["Access-Control-Allow-Origin"] == "*"
    assert {"authorization", "if-match"} <= set(preflight.headers["Access-Control-Allow-Headers"].split(", "))
    for caller, status in (("owner", 200), ("nobody", 401)):
        answer = await world.call("GET", "routes", caller=caller, headers=origin)
        assert (answer.status_code, answer.headers["Access-Control-Allow-Origin"]) == (status, "*")
        assert answer.headers["Access-Control-Expose-Headers"] == "ETag"
        assert "Access-Control-Allow-Credentials" not in answer.headers


async def test_an_unreadable_query_is_400() -> None:
    assert problem(await World().call("GET", "users?service_user=perhaps"))[0] == 400


async def test_a_silent_bus_is_503_and_says_when_to_try_again() -> None:
    world = World()
    world.server.log.fail(RetryLater("the bus", 12.0))
    answer = await world.call("POST", "groups", {"name": "new"})
    assert problem(answer) == (503, "the bus does not answer, try again later")
    assert answer.headers["Retry-After"] == "1"


async def test_losing_every_race_is_409() -> None:
    world = World()
    world.server.log.fail(Contended("others changed the account at the same time, try again"))
    assert problem(await world.call("DELETE", "routes/lan"))[0] == 409


async def test_a_defect_is_500_in_one_line_and_its_cause_is_only_in_the_log() -> None:
    world = World()
    world.server.log.fail(KeyError("the insides"))
    with structlog.testing.capture_logs() as logs:
        answer = await world.call("DELETE", "routes/lan")
    assert problem(answer) == (500, "internal server error")
    assert "insides" not in answer.text
    [entry] = logs
    assert (entry["event"], entry["method"], entry["path"]) == ("request failed", "DELETE", "/api/routes/lan")
    assert isinstance(entry["exc_info"], KeyError)


async def test_what_the_framework_complains_of_is_in_the_log_as_well() -> None:
    world = World()
    world.server.log.fail(ImproperlyConfiguredException("the insides"))
    with structlog.testing.capture_logs() as logs:
        assert problem(await world.call("DELETE", "routes/lan")) == (500, "internal server error")
    assert [entry["event"] for entry in logs] == ["request failed"]


async def test_a_caller_that_goes_away_in_the_middle_of_its_body_is_no_defect() -> None:
    world = World()
    arriving: list[Any] = [
        {"type": "http.request", "body": b'{"name": "ne', "more_body": True},
        {"type": "http.disconnect"},
    ]
    answered: list[Any] = []

    async def receive() -> Any:
        return arriving.pop(0)

    async def send(message: Any) -> None:
        answered.append(message)

    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/api/groups",
        "raw_path": b"/api/groups",
        "query_string": b"",
        "root_path": "",
        "headers": [(b"authorization", f"Token {world.token('owner')}".encode())],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
    }
    with structlog.testing.capture_logs() as logs:
        await world.server.app(scope, receive, send)  # type: ignore[arg-type]
    assert answered[0]["status"] == 400
    assert (logs, world.commits) == ([], [])


async def test_a_message_is_one_line_whatever_it_quotes() -> None:
    world = World()
    assert problem(await world.call("GET", "routes/a%0Ab%00")) == (404, "route a�b� not found")


def test_every_refusal_has_a_status() -> None:
    assert set(Refusal.__subclasses__()) - {NotEnrolled} == set(STATUS)
