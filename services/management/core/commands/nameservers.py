"""Create, change and delete nameserver groups. The order of the checks is NetBird's (reference control-plane §1.10)."""

from typing import Annotated

from services.management.core.commands.checks import distribution_groups, found
from services.management.core.commands.decision import Context, Decision, changed, unchanged
from services.management.core.commands.request import Integer, Request, about
from services.management.core.entities import ref
from services.management.core.model.commit import Activity
from services.management.core.model.nameservers import (
    MAX_NAME_LENGTH,
    MAX_NAMESERVERS,
    Nameserver,
    NameserverGroup,
    match_domains_of,
    nameserver_of,
)
from services.management.core.state import AccountState
from services.management.errors import Invalid


class NameserverRequest(Request, frozen=True, kw_only=True):
    """One nameserver."""

    ip: Annotated[str, about("Its address.", "10.0.0.53", needed=True)] = ""
    ns_type: Annotated[str, about("udp.", "udp", needed=True)] = ""
    port: Annotated[Integer, about("1 to 65535.", 53, needed=True)] = 0


class NameserverGroupRequest(Request, frozen=True, kw_only=True):
    """The body of POST and PUT /api/dns/nameservers, which replaces the whole group.

    Either it is primary or it has domains. Absent and null lists are empty.
    """

    name: Annotated[str, about("1 to 40 characters, and no other group's.", "office", needed=True)] = ""
    description: str = ""
    nameservers: Annotated[tuple[NameserverRequest, ...] | None, about("1 to 3.", needed=True)] = None
    enabled: Annotated[bool, about("One that is not enabled reaches nobody.", True)] = False
    groups: Annotated[
        tuple[str, ...] | None, about("Groups that get it, at least one.", ["d0fsqhs3r4mc73a1b2c0"], needed=True)
    ] = None
    primary: Annotated[bool, about("They answer for everything that nothing else answers for.", False)] = False
    domains: Annotated[
        tuple[str, ...] | None, about("What they answer for, with everything below it.", ["corp.example.com"])
    ] = None
    search_domains_enabled: Annotated[bool, about("The domains are also search domains.", False)] = False


def create_nameserver_group(
    state: AccountState, request: NameserverGroupRequest, context: Context
) -> Decision[NameserverGroup]:
    """Raises Invalid."""
    group = _group(state, context.new_id(), request)
    return changed(context, state.account.id, group, [_activity("add", group)], upserts=[group])


def update_nameserver_group(
    state: AccountState, id: str, request: NameserverGroupRequest, context: Context
) -> Decision[NameserverGroup]:
    """It becomes what the request says, as a whole. Raises Unknown or Invalid."""
    old = found(state.nameserver_groups, id, "nameserver group")
    group = _group(state, id, request)
    if group == old:
        return unchanged(group)
    return changed(context, state.account.id, group, [_activity("update", group)], upserts=[group])


def delete_nameserver_group(state: AccountState, id: str, context: Context) -> Decision[None]:
    """Raises Unknown."""
    group = found(state.nameserver_groups, id, "nameserver group")
    return changed(context, state.account.id, None, [_activity("delete", group)], deletes=[ref(group)])


def _group(state: AccountState, id: str, request: NameserverGroupRequest) -> NameserverGroup:
    domains = _domains(request)
    nameservers = _nameservers(request)
    _check_name(state, id, request.name)
    return NameserverGroup(
        id=id,
        name=request.name,
        description=request.description,
        nameservers=nameservers,
        enabled=request.enabled,
        groups=distribution_groups(state, request.groups, "groups"),
        primary=request.primary,
        domains=domains,
        search_domains_enabled=request.search_domains_enabled,
    )


def _domains(request: NameserverGroupRequest) -> tuple[str, ...]:
    if request.primary and request.domains:
        raise Invalid("give either primary or domains, not both")
    if not request.primary and not request.domains:
        raise Invalid("give either primary or domains")
    if request.primary and request.search_domains_enabled:
        raise Invalid("search_domains_enabled needs domains, a primary group has none")
    return match_domains_of(request.domains or ())


def _nameservers(request: NameserverGroupRequest) -> tuple[Nameserver, ...]:
    asked = request.nameservers or ()
    if not 1 <= len(asked) <= MAX_NAMESERVERS:
        raise Invalid(f"nameservers must have 1 to {MAX_NAMESERVERS} entries, it has {len(asked)}")
    return tuple(nameserver_of(one.ip, one.ns_type, one.port) for one in asked)


def _check_name(state: AccountState, id: str, name: str) -> None:
    if not 1 <= len(name) <= MAX_NAME_LENGTH:
        raise Invalid(f"name must have 1 to {MAX_NAME_LENGTH} characters, it has {len(name)}")
    if any(other.name == name for other in state.nameserver_groups.values() if other.id != id):
        raise Invalid(f"a nameserver group with the name {name} exists already: choose another name")


def _activity(what: str, group: NameserverGroup) -> Activity:
    return Activity(code=f"nameserver.group.{what}", target_id=group.id, meta={"name": group.name})
