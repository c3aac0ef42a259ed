"""Create, change and delete DNS zones. Their records are in zonerecords.py."""

from typing import Annotated

from services.management.core.commands.checks import distribution_groups, found
from services.management.core.commands.decision import Context, Decision, changed, unchanged
from services.management.core.commands.request import Request, about
from services.management.core.commands.zonerecords import record_activity
from services.management.core.entities import ref
from services.management.core.model.commit import Activity
from services.management.core.model.zone import Zone, check_beside_peers, check_zone_name, zone_domain_of
from services.management.core.state import AccountState
from services.management.errors import AlreadyThere, Invalid


class ZoneRequest(Request, frozen=True, kw_only=True):
    """The body of POST and PUT /api/dns/zones, which replaces everything but the domain and the records."""

    name: Annotated[str, about("1 to 255 characters.", "office", needed=True)] = ""
    domain: Annotated[
        str, about("The names of its records end with it. It cannot be changed.", "corp.example.com", needed=True)
    ] = ""
    enabled: Annotated[bool, about("One that is not enabled reaches nobody.", True)] = True
    enable_search_domain: Annotated[bool, about("The domain is also a search domain.", False)] = False
    distribution_groups: Annotated[
        tuple[str, ...] | None, about("Groups that get it, at least one.", ["d0fsqhs3r4mc73a1b2c0"], needed=True)
    ] = None


def create_zone(state: AccountState, request: ZoneRequest, context: Context) -> Decision[Zone]:
    """Raises Invalid or AlreadyThere."""
    zone = _zone(state, context.new_id(), request)
    check_beside_peers(zone.domain, state.account.dns_domain, "domain")
    if any(other.domain == zone.domain for other in state.zones.values()):
        raise AlreadyThere(f"there is a zone {zone.domain} already: add records to it")
    return changed(context, state.account.id, zone, [_activity("create", zone)], upserts=[zone])


def update_zone(state: AccountState, id: str, request: ZoneRequest, context: Context) -> Decision[Zone]:
    """Raises Unknown or Invalid."""
    old = found(state.zones, id, "zone")
    zone = _zone(state, id, request)
    if zone.domain != old.domain:
        raise Invalid(f"domain: a zone stays {old.domain}, create another one for {zone.domain}")
    if zone == old:
        return unchanged(zone)
    return changed(context, state.account.id, zone, [_activity("update", zone)], upserts=[zone])


def delete_zone(state: AccountState, id: str, context: Context) -> Decision[None]:
    """Its records go with it. Raises Unknown."""
    zone = found(state.zones, id, "zone")
    records = state.records_of(id)
    activities = [*(record_activity("delete", zone, record) for record in records), _activity("delete", zone)]
    return changed(
        context, state.account.id, None, activities, deletes=[*(ref(record) for record in records), ref(zone)]
    )


def _zone(state: AccountState, id: str, request: ZoneRequest) -> Zone:
    check_zone_name(request.name)
    return Zone(
        id=id,
        name=request.name,
        domain=zone_domain_of(request.domain),
        enabled=request.enabled,
        enable_search_domain=request.enable_search_domain,
        distribution_groups=distribution_groups(state, request.distribution_groups, "distribution_groups"),
    )


def _activity(what: str, zone: Zone) -> Activity:
    return Activity(code=f"dns.zone.{what}", target_id=zone.id, meta={"name": zone.name, "domain": zone.domain})
