"""Services that write facts, on a bus whose disk is full: they say so, and what waits is written later."""

import nats.errors
import pytest
from structlog.testing import capture_logs

from services.resolver import facts
from services.signal import sessions
from shared.events import subjects
from tests.bus.resolver import test_service as resolver
from tests.bus.signal import test_service as signals
from tests.support.bus import Bus, eventually
from tests.support.dns import DnsServer, dns_server
from tests.support.smalldisk import SmallDisk, disk

__all__ = ["disk", "dns_server"]

SOON_S = 60.0
PEER = "p1"


async def stop_facts(bus: Bus) -> None:
    """Send more than fits; small ones still fit where a block was begun."""
    signal = await bus.service("signal")
    with pytest.raises(nats.errors.TimeoutError):
        await signal.jetstream().publish(subjects.session_fact("none", "none"), bytes(64 * 1024), timeout=1)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (facts, sessions):
        monkeypatch.setattr(module, "QUIET_S", 0.0)


@pytest.mark.timeout(240)
async def test_facts_that_find_no_room_are_told_of_and_written_later(
    impatient: None, disk: SmallDisk, dns_server: DnsServer
) -> None:
    bus = Bus(disk.root)
    await bus.start()
    dns_server.zone = {"a.example": ["A 192.0.2.1"]}
    try:
        await bus.make_streams()
        await resolver.publish(bus, "g.g1", 1, resolver.domain_route("a.example"))
        with capture_logs() as lines:

            def said(event: str) -> bool:
                return any(line["event"].startswith(event) for line in lines)

            async with signals.replica(bus), resolver.resolver(bus, dns_server, interval_s=resolver.FASTEST_S):
                await resolver.told(bus, {"a.example": ["192.0.2.1"]}, within_s=SOON_S)
                disk.fill()
                await stop_facts(bus)
                dns_server.zone = {"a.example": ["A 192.0.2.2"]}
                async with signals.beating(await bus.peer(signals.ACCOUNT, PEER), PEER, epoch=1):
                    for event in ("session facts wait", "resolution facts wait"):
                        await eventually(lambda event=event: said(event), within_s=SOON_S)  # type: ignore[misc]
                    disk.empty()
                    await bus.restart()
                    await resolver.told(bus, {"a.example": ["192.0.2.2"]}, within_s=SOON_S)
                    await signals.told(bus, PEER, connected=True, epoch=1, within_s=SOON_S)
                    for event in ("session facts are written again", "resolution facts are written again"):
                        await eventually(lambda event=event: said(event), within_s=SOON_S)  # type: ignore[misc]
    finally:
        disk.empty()
        await bus.stop()
    told = {line["event"].partition(" wait")[0]: line for line in reversed(lines) if "facts wait" in line["event"]}
    assert set(told) == {"session facts", "resolution facts"}
    for first in told.values():
        assert (first["log_level"], "no room on its disk" in first["problem"]) == ("warning", True)
