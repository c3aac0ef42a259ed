"""The kinds of units, in the order in which their documents are written: how routing peers stand before everything that
can wait, and peers before the rules and routes that name them. A new kind is a file here and its place in UNITS."""

from typing import Any

from services.management.core.feed.unit import UnitKind
from services.management.core.feed.units.nameservers import NAMESERVERS
from services.management.core.feed.units.peer import PEER
from services.management.core.feed.units.policy import POLICY
from services.management.core.feed.units.presence import PRESENCE
from services.management.core.feed.units.resolution import RESOLUTION
from services.management.core.feed.units.resolving import RESOLVING
from services.management.core.feed.units.route import ROUTE
from services.management.core.feed.units.self import SELF
from services.management.core.feed.units.settings import SETTINGS
from services.management.core.feed.units.zone import ZONE

UNITS: tuple[UnitKind[Any], ...] = (
    PRESENCE,
    SETTINGS,
    RESOLVING,
    SELF,
    PEER,
    POLICY,
    ROUTE,
    RESOLUTION,
    NAMESERVERS,
    ZONE,
)
