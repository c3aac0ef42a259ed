"""DNS zones and their records: names that the account itself gives addresses to."""

from typing import Annotated

import msgspec
from litestar import Response, delete, get, post, put
from litestar.di import NamedDependency
from litestar.params import FromPath

from services.management.api.call import Call, by_id, known, resource
from services.management.api.wire import Id, Nothing, example
from services.management.core.commands import zonerecords as records
from services.management.core.commands import zones as commands
from services.management.core.commands.checks import found
from services.management.core.model.zone import Zone, ZoneRecord
from services.management.core.state import AccountState
from shared.events.documents import RecordType
from shared.net.domains import to_unicode


class ZoneRecordResponse(msgspec.Struct, frozen=True, kw_only=True):
    """Names as people write them. ttl: seconds."""

    id: Id
    name: str
    type: RecordType
    content: str
    ttl: int


class ZoneResponse(msgspec.Struct, frozen=True, kw_only=True):
    """domain: as people write it."""

    id: Id
    name: str
    domain: str
    enabled: bool
    enable_search_domain: bool
    distribution_groups: list[str]
    records: list[ZoneRecordResponse]


ZONE = example(
    {
        "name": "office",
        "domain": "corp.example.com",
        "enabled": True,
        "enable_search_domain": False,
        "distribution_groups": ["d0fsqhs3r4mc73a1b2d0"],
    }
)
RECORD = example({"name": "wiki.corp.example.com", "type": "A", "content": "10.0.0.80", "ttl": 300})

KNOWN_ZONE = known(lambda state: state.zones, "zone")
KNOWN_RECORD = known(lambda state: state.zone_records, "record", parameter="record_id")


@get("/")
async def list_zones(call: NamedDependency[Call]) -> Response[list[ZoneResponse]]:
    """Every zone of the account, with its records."""
    return call.answer([_shown(call.state, zone) for zone in by_id(call.state.zones)])


@get("/{id:str}")
async def get_zone(call: NamedDependency[Call], id: FromPath[str]) -> Response[ZoneResponse]:
    """One zone, with its records."""
    return _one(call, found(call.state.zones, id, "zone"))


@post("/", status_code=200)
async def create_zone(
    call: NamedDependency[Call], data: Annotated[commands.ZoneRequest, ZONE]
) -> Response[ZoneResponse]:
    """Create a zone."""
    return _one(call, await call.commit(lambda state, context: commands.create_zone(state, data, context)))


@put("/{id:str}", guards=[KNOWN_ZONE])
async def update_zone(
    call: NamedDependency[Call], id: FromPath[str], data: Annotated[commands.ZoneRequest, ZONE]
) -> Response[ZoneResponse]:
    """Replace everything of a zone but its domain and its records."""
    return _one(call, await call.commit(lambda state, context: commands.update_zone(state, id, data, context)))


@delete("/{id:str}", status_code=200)
async def delete_zone(call: NamedDependency[Call], id: FromPath[str]) -> Response[Nothing]:
    """Delete a zone and its records."""
    await call.commit(lambda state, context: commands.delete_zone(state, id, context))
    return call.answer(Nothing())


@get("/{id:str}/records")
async def list_records(call: NamedDependency[Call], id: FromPath[str]) -> Response[list[ZoneRecordResponse]]:
    """Every record of a zone."""
    found(call.state.zones, id, "zone")
    return call.answer([_record(record) for record in call.state.records_of(id)])


@get("/{id:str}/records/{record_id:str}")
async def get_record(
    call: NamedDependency[Call], id: FromPath[str], record_id: FromPath[str]
) -> Response[ZoneRecordResponse]:
    """One record of a zone."""
    return call.answer(_record(records.found_record(call.state, id, record_id)[1]))


@post("/{id:str}/records", status_code=200, guards=[KNOWN_ZONE])
async def create_record(
    call: NamedDependency[Call], id: FromPath[str], data: Annotated[records.ZoneRecordRequest, RECORD]
) -> Response[ZoneRecordResponse]:
    """Add a record to a zone."""
    created = await call.commit(lambda state, context: records.create_record(state, id, data, context))
    return _one_record(call, created)


@put("/{id:str}/records/{record_id:str}", guards=[KNOWN_ZONE, KNOWN_RECORD])
async def update_record(
    call: NamedDependency[Call],
    id: FromPath[str],
    record_id: FromPath[str],
    data: Annotated[records.ZoneRecordRequest, RECORD],
) -> Response[ZoneRecordResponse]:
    """Replace a record of a zone."""
    updated = await call.commit(lambda state, context: records.update_record(state, id, record_id, data, context))
    return _one_record(call, updated)


@delete("/{id:str}/records/{record_id:str}", status_code=200)
async def delete_record(call: NamedDependency[Call], id: FromPath[str], record_id: FromPath[str]) -> Response[Nothing]:
    """Delete a record of a zone."""
    await call.commit(lambda state, context: records.delete_record(state, id, record_id, context))
    return call.answer(Nothing())


def _one(call: Call, zone: Zone) -> Response[ZoneResponse]:
    """The zone as it is now, which may be later than the caller's own change; the ETag says so."""
    return call.answer(_shown(call.state, call.state.zones.get(zone.id, zone)))


def _one_record(call: Call, record: ZoneRecord) -> Response[ZoneRecordResponse]:
    return call.answer(_record(call.state.zone_records.get(record.id, record)))


def _shown(state: AccountState, zone: Zone) -> ZoneResponse:
    return ZoneResponse(
        id=zone.id,
        name=zone.name,
        domain=to_unicode(zone.domain),
        enabled=zone.enabled,
        enable_search_domain=zone.enable_search_domain,
        distribution_groups=list(zone.distribution_groups),
        records=[_record(record) for record in state.records_of(zone.id)],
    )


def _record(record: ZoneRecord) -> ZoneRecordResponse:
    content = to_unicode(record.content) if record.type == "CNAME" else record.content
    return ZoneRecordResponse(
        id=record.id, name=to_unicode(record.name), type=record.type, content=content, ttl=record.ttl
    )


router = resource(
    "dns",
    list_zones,
    get_zone,
    create_zone,
    update_zone,
    delete_zone,
    list_records,
    get_record,
    create_record,
    update_record,
    delete_record,
    path="/dns/zones",
)
