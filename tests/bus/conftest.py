"""Tests on a real nats-server."""

from tests.support.bus import bare_bus, bus, impatient_bus

__all__ = ["bare_bus", "bus", "impatient_bus"]
