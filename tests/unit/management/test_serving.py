"""A replica that answers who connects and who enrols."""

from pathlib import Path
from typing import Any, cast

import pytest

from services.management import wiring
from services.management.settings import Settings
from services.management.wiring import Seeds, _Replica
from shared.bus.broker import Leave
from shared.bus.keys import new_seed
from shared.events import subjects


class Hearing:
    """Stands in for a broker. heard: what is subscribed to now. stop_at: raises on the catching up after so many."""

    def __init__(self, stop_at: int) -> None:
        self.heard: list[str] = []
        self._stop_at = stop_at

    async def over(self, *_: object) -> "Hearing":
        return self

    async def hear(self, pattern: str, handler: object, *, queue: str = "") -> Leave:
        self.heard.append(pattern)

        async def leave() -> None:
            self.heard.remove(pattern)

        return leave

    async def catch_up(self) -> None:
        if len(self.heard) == self._stop_at:
            raise RuntimeError("the log is another one")


class Away:
    is_connected = False


@pytest.fixture
def replica(tmp_path: Path) -> _Replica:
    settings = Settings(bus="nats://127.0.0.1:1", data_dir=tmp_path, credentials=tmp_path)
    seeds = Seeds(management="", system="", issuer="", callout=new_seed("curve"))
    away = cast(Any, Away())
    return _Replica(settings, seeds, cast(Any, None), away, away)


@pytest.mark.parametrize("stop_at", [1, 3])
async def test_a_replica_that_is_given_up_before_it_serves_answers_nobody(
    replica: _Replica, monkeypatch: pytest.MonkeyPatch, stop_at: int
) -> None:
    bus = Hearing(stop_at)
    monkeypatch.setattr(wiring, "over", bus.over)
    monkeypatch.setattr(replica.readmodel, "catch_up", bus.catch_up)
    with pytest.raises(RuntimeError):
        await replica.serve()
    assert bus.heard == []


async def test_a_replica_that_serves_leaves_all_in_the_end(replica: _Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    bus = Hearing(0)
    monkeypatch.setattr(wiring, "over", bus.over)
    monkeypatch.setattr(replica.readmodel, "catch_up", bus.catch_up)
    leaving = await replica.serve()
    assert bus.heard == [subjects.AUTH_CALLOUT, subjects.ENROL_ALL, subjects.LEASE_ALL]
    for leave in leaving:
        await leave()
    assert bus.heard == []
