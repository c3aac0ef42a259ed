"""The API's own description at /api/openapi.json, and a page to browse it at /api/docs that needs no internet."""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from litestar import Request, Response, Router, get
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin, SwaggerRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme, Tag
from litestar.static_files import create_static_files_router

from services.management.api.permissions import MODULES
from services.management.core.commands import request as commands
from shared.version import VERSION

PAGE = "/api/docs"
ASSETS = f"{PAGE}/assets"

READ_PROBLEMS = {
    400: ("a parameter or the body cannot be read", "couldn't parse the request"),
    401: (
        "token missing, unknown or expired, or its user is blocked",
        "token missing, unknown, expired or its user is blocked",
    ),
    403: ("the user's role does not allow it", "permission denied"),
    404: ("there is no such object", "route d0fsqhs3r4mc73a1b2c0 not found"),
    500: ("a defect of the server", "internal server error"),
}
WRITE_PROBLEMS = READ_PROBLEMS | {
    409: (
        "something else has it already, or other writers were faster",
        "peer gw already serves 10.0.0.0/24 by route office: choose another or change that route",
    ),
    412: ("others refer to it, or If-Match names an older revision", "the account has changed since, read it again"),
    413: ("the body is larger than 1 MiB", "request entity too large"),
    422: ("a field's value breaks a rule", "expected `int`, got `str` - at `$.metric`"),
    503: ("the bus does not answer", "the bus does not answer, try again later"),
}
"""Status → when it is answered, and an example of the message."""


class _Page(SwaggerRenderPlugin):
    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        return super().render(request, _description(request))


class _Document(JsonRenderPlugin):
    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        return super().render(request, _description(request))


@get("/api/openapi.json", include_in_schema=False)
async def document(request: Request[Any, Any, Any]) -> Response[dict[str, Any]]:
    return Response(_description(request))


def _description(request: Request[Any, Any, Any]) -> dict[str, Any]:
    return complete(request.app.openapi_schema.to_schema())


def complete(schema: dict[str, Any]) -> dict[str, Any]:
    """Litestar's description, with what holds for every operation put into it: error bodies, ETag and If-Match."""
    for path, method, operation in _operations(schema):
        operation["summary"] = operation.get("description", "").partition("\n")[0].rstrip(".")
        operation["responses"]["200"]["description"] = "done"
        if not path.startswith("/api/"):
            continue
        write = method != "get"
        operation["responses"]["200"]["headers"] = {"ETag": {"$ref": "#/components/headers/Revision"}}
        operation["responses"] |= {
            str(status): _problem(when, message, status)
            for status, (when, message) in sorted((WRITE_PROBLEMS if write else READ_PROBLEMS).items())
        }
        if write:
            operation.setdefault("parameters", []).append({"$ref": "#/components/parameters/IfMatch"})
    for body in commands.Request.__subclasses__():
        if required := commands.needed(body):
            schema["components"]["schemas"][body.__name__]["required"] = required
    schema["components"] |= _COMPONENTS
    schema["components"]["schemas"]["Problem"] = _PROBLEM
    return schema


def _operations(schema: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in schema["paths"].items():
        for method, operation in item.items():
            yield path, method, operation


def _problem(when: str, message: str, status: int) -> dict[str, Any]:
    body = {"schema": {"$ref": "#/components/schemas/Problem"}, "example": {"message": message, "code": status}}
    return {"description": when, "content": {"application/json": body}}


_PROBLEM = {
    "title": "Problem",
    "type": "object",
    "required": ["message", "code"],
    "properties": {
        "message": {"type": "string", "description": "One line for a person, in lower case."},
        "code": {"type": "integer", "description": "The HTTP status."},
    },
}
_COMPONENTS = {
    "headers": {
        "Revision": {
            "description": "The account's revision that the answer shows.",
            "schema": {"type": "string"},
            "example": '"1042"',
        }
    },
    "parameters": {
        "IfMatch": {
            "name": "If-Match",
            "in": "header",
            "required": False,
            "description": "Write only if the account still has this revision, else 412.",
            "schema": {"type": "string"},
            "example": '"1042"',
        }
    },
}


def openapi() -> OpenAPIConfig:
    return OpenAPIConfig(
        title="Whimbrel",
        version=VERSION,
        description=(
            "Paths, fields, status codes and error bodies are NetBird's, so that its clients work unchanged. "
            "In addition: every answer has the account's revision as `ETag`, a write with `If-Match` is refused "
            "with 412 once the account has changed, and routes come with `warnings`, `probe` and `return_address`, and "
            "alone with their `status`; peers have `draining`. A PUT that leaves one of these out leaves it as it is."
        ),
        path=PAGE,
        use_handler_docstrings=True,
        render_plugins=[
            _Document(path="/openapi.json"),
            _Page(
                path="/",
                js_url=f"{ASSETS}/swagger-ui-bundle.js",
                css_url=f"{ASSETS}/swagger-ui.css",
                standalone_preset_js_url=f"{ASSETS}/swagger-ui-standalone-preset.js",
                favicon=f"<link rel='icon' href='{ASSETS}/favicon-32x32.png'>",
            ),
        ],
        components=Components(
            security_schemes={
                "token": SecurityScheme(
                    type="apiKey",
                    name="Authorization",
                    security_scheme_in="header",
                    description="`Token nbp_…`, an access token. `Bearer nbp_…` does as well.",
                )
            }
        ),
        security=[{"token": []}],
        tags=[
            *(Tag(module.title, module.about) for module in MODULES.values()),
            Tag("Operation", "For machines that watch the service."),
        ],
    )


def browser_assets() -> Router:
    """The page's scripts and styles, from the package that carries them (imported, it would load frameworks)."""
    package = find_spec("swagger_ui")
    if package is None or package.origin is None:
        raise ModuleNotFoundError("swagger_ui")
    return create_static_files_router(
        path=ASSETS, directories=[Path(package.origin).parent / "static"], include_in_schema=False
    )
