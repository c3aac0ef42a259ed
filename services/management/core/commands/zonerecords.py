"""Create, change and delete records of DNS zones. A record of another zone is unknown."""

from typing import Annotated

from services.management.core.commands.checks import found
from services.management.core.commands.decision import Context, Decision, changed, unchanged
from services.management.core.commands.request import Integer, Request, about
from services.management.core.entities import ref
from services.management.core.model.commit import Activity
from services.management.core.model.zone import (
    MAX_RECORDS,
    Zone,
    ZoneRecord,
    check_beside,
    check_ttl,
    content_of,
    record_name_of,
    record_type_of,
)
from services.management.core.state import AccountState
from services.management.errors import Invalid, Unknown


class ZoneRecordRequest(Request, frozen=True, kw_only=True):
    """The body of POST and PUT /api/dns/zones/{id}/records, which replaces the whole record."""

    name: Annotated[str, about("The whole name, in the zone's domain.", "wiki.corp.example.com", needed=True)] = ""
    type: Annotated[str, about("A, AAAA or CNAME.", "A", needed=True)] = ""
    content: Annotated[str, about("An address, or the name that a CNAME stands for.", "10.0.0.80", needed=True)] = ""
    ttl: Annotated[Integer, about("Seconds that an answer may be kept.", 300)] = 0


def create_record(
    state: AccountState, zone_id: str, request: ZoneRecordRequest, context: Context
) -> Decision[ZoneRecord]:
    """Raises Unknown, Invalid or AlreadyThere."""
    zone = found(state.zones, zone_id, "zone")
    record = _record(state, zone, context.new_id(), request)
    if len(state.records_of(zone_id)) >= MAX_RECORDS:
        raise Invalid(
            f"{zone.title} has {MAX_RECORDS} records, and cannot have more: create a zone below {zone.domain}"
        )
    return changed(context, state.account.id, record, [record_activity("create", zone, record)], upserts=[record])


def update_record(
    state: AccountState, zone_id: str, id: str, request: ZoneRecordRequest, context: Context
) -> Decision[ZoneRecord]:
    """Raises Unknown, Invalid or AlreadyThere."""
    zone, old = found_record(state, zone_id, id)
    record = _record(state, zone, id, request)
    if record == old:
        return unchanged(record)
    return changed(context, state.account.id, record, [record_activity("update", zone, record)], upserts=[record])


def delete_record(state: AccountState, zone_id: str, id: str, context: Context) -> Decision[None]:
    """Raises Unknown."""
    zone, record = found_record(state, zone_id, id)
    return changed(context, state.account.id, None, [record_activity("delete", zone, record)], deletes=[ref(record)])


def found_record(state: AccountState, zone_id: str, id: str) -> tuple[Zone, ZoneRecord]:
    """The zone and its record; raises Unknown."""
    zone, record = found(state.zones, zone_id, "zone"), found(state.zone_records, id, "record")
    if record.zone != zone_id:
        raise Unknown(f"record {id} not found in {zone.title}")
    return zone, record


def record_activity(what: str, zone: Zone, record: ZoneRecord) -> Activity:
    meta: dict[str, str | int | bool | list[str]] = {
        "name": record.name,
        "type": record.type,
        "content": record.content,
        "ttl": record.ttl,
        "zone_id": zone.id,
        "zone_name": zone.name,
    }
    return Activity(code=f"dns.zone.record.{what}", target_id=record.id, meta=meta)


def _record(state: AccountState, zone: Zone, id: str, request: ZoneRecordRequest) -> ZoneRecord:
    name, type = record_name_of(request.name, zone), record_type_of(request.type)
    content = content_of(request.content, type, name)
    check_ttl(request.ttl)
    record = ZoneRecord(id=id, zone=zone.id, name=name, type=type, content=content, ttl=request.ttl)
    check_beside(record, state.records_of(zone.id))
    return record
