"""A zone with its records, for the groups that it is distributed to."""

from services.management.core.feed.unit import Copies, Given, UnitKind
from services.management.core.model.zone import Zone, ZoneRecord
from shared.events.documents import DnsRecord, ZoneDoc
from shared.events.subjects import group_audience


def _documents(given: Given, zone_id: str) -> Copies:
    """Nothing while it is disabled or has no records."""
    zone, records = given.state.zones.get(zone_id), given.state.records_of(zone_id)
    if zone is None or not zone.enabled or not records:
        return
    document = ZoneDoc(
        zone_id=zone.id,
        domain=zone.domain,
        records=tuple(sorted(map(_record, records))),
        search=zone.enable_search_domain,
    )
    for audience in set(map(group_audience, zone.distribution_groups)):
        yield audience, zone.id, document


def _record(record: ZoneRecord) -> DnsRecord:
    return DnsRecord(record.name, record.type, record.content, record.ttl)


def _zone_of(record: ZoneRecord) -> str:
    return record.zone


ZONE = UnitKind(name="zone", entity=Zone, makes=ZoneDoc, documents=_documents, parts={ZoneRecord: _zone_of})
