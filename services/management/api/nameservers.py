"""Nameserver groups: which nameservers answer the questions of whom."""

from typing import Annotated

import msgspec
from litestar import Response, delete, get, post, put
from litestar.di import NamedDependency
from litestar.params import FromPath

from services.management.api.call import Call, by_id, known, resource
from services.management.api.wire import Id, Nothing, example
from services.management.core.commands import nameservers as commands
from services.management.core.commands.checks import found
from services.management.core.model.nameservers import Nameserver, NameserverGroup
from shared.net.domains import to_unicode


class NameserverGroupResponse(msgspec.Struct, frozen=True, kw_only=True):
    """domains: as people write them."""

    id: Id
    name: str
    description: str
    nameservers: list[Nameserver]
    enabled: bool
    groups: list[str]
    primary: bool
    domains: list[str]
    search_domains_enabled: bool


NAMESERVER_GROUP = example(
    {
        "name": "office",
        "description": "the office's own names",
        "nameservers": [{"ip": "10.0.0.53", "ns_type": "udp", "port": 53}],
        "enabled": True,
        "groups": ["d0fsqhs3r4mc73a1b2d0"],
        "primary": False,
        "domains": ["corp.example.com"],
        "search_domains_enabled": True,
    }
)


@get("/")
async def list_nameserver_groups(call: NamedDependency[Call]) -> Response[list[NameserverGroupResponse]]:
    """Every nameserver group of the account."""
    return call.answer(list(map(_shown, by_id(call.state.nameserver_groups))))


@get("/{id:str}")
async def get_nameserver_group(call: NamedDependency[Call], id: FromPath[str]) -> Response[NameserverGroupResponse]:
    """One nameserver group."""
    return _one(call, found(call.state.nameserver_groups, id, "nameserver group"))


@post("/", status_code=200)
async def create_nameserver_group(
    call: NamedDependency[Call], data: Annotated[commands.NameserverGroupRequest, NAMESERVER_GROUP]
) -> Response[NameserverGroupResponse]:
    """Create a nameserver group."""
    return _one(call, await call.commit(lambda state, context: commands.create_nameserver_group(state, data, context)))


@put("/{id:str}", guards=[known(lambda state: state.nameserver_groups, "nameserver group")])
async def update_nameserver_group(
    call: NamedDependency[Call], id: FromPath[str], data: Annotated[commands.NameserverGroupRequest, NAMESERVER_GROUP]
) -> Response[NameserverGroupResponse]:
    """Replace a nameserver group."""
    return _one(
        call, await call.commit(lambda state, context: commands.update_nameserver_group(state, id, data, context))
    )


@delete("/{id:str}", status_code=200)
async def delete_nameserver_group(call: NamedDependency[Call], id: FromPath[str]) -> Response[Nothing]:
    """Delete a nameserver group."""
    await call.commit(lambda state, context: commands.delete_nameserver_group(state, id, context))
    return call.answer(Nothing())


def _one(call: Call, group: NameserverGroup) -> Response[NameserverGroupResponse]:
    """The group as it is now, which may be later than the caller's own change; the ETag says so."""
    return call.answer(_shown(call.state.nameserver_groups.get(group.id, group)))


def _shown(group: NameserverGroup) -> NameserverGroupResponse:
    return NameserverGroupResponse(
        id=group.id,
        name=group.name,
        description=group.description,
        nameservers=list(group.nameservers),
        enabled=group.enabled,
        groups=list(group.groups),
        primary=group.primary,
        domains=list(map(to_unicode, group.domains)),
        search_domains_enabled=group.search_domains_enabled,
    )


router = resource(
    "nameservers",
    list_nameserver_groups,
    get_nameserver_group,
    create_nameserver_group,
    update_nameserver_group,
    delete_nameserver_group,
    path="/dns/nameservers",
)
