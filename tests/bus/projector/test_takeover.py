"""Several replicas: one writes, and another goes on where it was lost."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from services.management.core.entities import Entity, Ref
from services.management.projector.succession import Claim
from services.management.projector.writer import FencedWriter, Superseded
from shared.bus import pinned
from shared.bus.streams import FEED
from shared.events.documents import FeedMessage, RuleDoc
from shared.events.subjects import FeedKey
from tests.builders import ACCOUNT, group, peer, policy, route
from tests.bus.projector.conftest import NewReplica, Plane, untold
from tests.support.bus import eventually

TAKEOVER_S = 5.0
"""Acceptance: FEED has a new owner this long after a kill -9 (architecture §2)."""

ROOT = Path(__file__).parents[3]
OFFICE = (group("office"), peer("alice", "office"), peer("bob", "office"), peer("gateway"), policy("default"))


def lan(metric: int = 100) -> Entity:
    return route("lan", peer="gateway", groups=("office",), metric=metric)


@asynccontextmanager
async def process(
    plane: Plane, directory: Path, *, right: bool = True, pin_timeout_s: float = pinned.PIN_TIMEOUT_S
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A replica as a process of its own, once somebody is the owner; there must be a commit to find.

    right: once the feed is right, too.
    """
    seed = plane.bus.seeds / "management.nk"
    of = (plane.bus.url, str(seed), str(directory), str(pin_timeout_s))
    arguments = (sys.executable, "-m", "tests.bus.projector.replica", *of)
    started = await asyncio.create_subprocess_exec(*arguments, cwd=ROOT)
    try:
        await eventually(plane.claimed, within_s=20)
        if right:
            await plane.becomes_right()
        yield started
    finally:
        if started.returncode is None:
            started.kill()
        await started.wait()


async def many_changes(plane: Plane, number: int) -> None:
    """Commit one after the other: routes change and go, peers come, move and go."""
    for step in range(number):
        match step % 5:
            case 0:
                await plane.commit(lan(metric=1 + step))
            case 1:
                await plane.commit(peer(f"guest{step}", "office"))
            case 2:
                await plane.commit(peer("bob", *(("office",) if step % 2 else ())))
            case 3:
                await plane.commit(deletes=(Ref("peer", f"guest{step - 2}"),))
            case 4:
                await plane.commit(deletes=(Ref("route", "lan"),))
    await plane.commit(peer(f"last{number}"), lan(metric=number))


async def test_one_replica_writes_and_the_others_wait(plane: Plane, new_replica: NewReplica) -> None:
    await plane.found(*OFFICE)
    replicas = [await new_replica() for _ in range(3)]
    await plane.becomes_right()
    first = await plane.claimed()
    await many_changes(plane, 20)
    await plane.becomes_right()
    assert sum(replica.projector.owner for replica in replicas) == 1
    assert await plane.claimed() == first


async def test_a_replica_that_stops_hands_over_at_once(plane: Plane, new_replica: NewReplica) -> None:
    await plane.found(*OFFICE)
    first, second = await new_replica(), await new_replica()
    await plane.becomes_right()
    owner, other = (first, second) if first.projector.owner else (second, first)
    await owner.stop()
    await eventually(lambda: other.projector.owner, within_s=1.0)
    await plane.commit(lan())
    await plane.becomes_right(within_s=1.0)


async def test_after_a_kill_amid_commits_another_process_goes_on_within_5_s_and_nothing_is_lost(
    plane: Plane, new_replica: NewReplica, tmp_path: Path
) -> None:
    await plane.found(*OFFICE)
    async with process(plane, tmp_path / "process") as owner:
        standby = await new_replica()
        await many_changes(plane, 10)
        assert not standby.projector.owner
        commits = asyncio.create_task(many_changes(plane, 400))
        await eventually(lambda: plane.bus.values_ever("LOG"))
        killed_after = await plane.bus.values_ever("LOG") + 100
        await eventually(lambda: log_reaches(plane, killed_after))
        owner.kill()
        await eventually(lambda: standby.projector.owner, within_s=TAKEOVER_S)
        await commits  # which take as long as the machine is busy
        await plane.becomes_right(within_s=TAKEOVER_S)


async def log_reaches(plane: Plane, sequence: int) -> bool:
    return await plane.bus.values_ever("LOG") >= sequence


async def test_the_pin_goes_to_another_replica_as_soon_as_its_holder_is_gone(
    plane: Plane, new_replica: NewReplica, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server by itself would wait for longer than the test does."""
    monkeypatch.setattr(pinned, "PIN_TIMEOUT_S", 600.0)
    await plane.found(*OFFICE)
    async with process(plane, tmp_path / "process", pin_timeout_s=600.0) as owner:
        standby, other = await new_replica(), await new_replica()
        owner.kill()
        await eventually(lambda: standby.projector.owner or other.projector.owner)
        await plane.commit(lan())
        await plane.becomes_right()


async def test_a_commit_after_the_kill_is_shown_within_5_s(
    plane: Plane, new_replica: NewReplica, tmp_path: Path
) -> None:
    await plane.found(*OFFICE)
    async with process(plane, tmp_path / "process") as owner:
        await new_replica()
        owner.kill()
        await plane.commit(lan())
        await plane.becomes_right(within_s=TAKEOVER_S)


async def test_a_killed_owner_has_a_successor_even_if_nothing_is_committed(
    plane: Plane, new_replica: NewReplica, tmp_path: Path
) -> None:
    await plane.found(*OFFICE)
    async with process(plane, tmp_path / "process") as owner:
        standby = await new_replica()
        owner.kill()
        await eventually(lambda: standby.projector.owner, within_s=TAKEOVER_S)


async def test_an_owner_that_was_suspended_changes_nothing_when_it_goes_on(
    plane: Plane, new_replica: NewReplica, tmp_path: Path
) -> None:
    await plane.found(*OFFICE)
    async with process(plane, tmp_path / "process") as owner:
        standby = await new_replica()
        os.kill(owner.pid, signal.SIGSTOP)
        await many_changes(plane, 20)
        await plane.becomes_right()
        os.kill(owner.pid, signal.SIGCONT)
        await many_changes(plane, 50)
        await plane.becomes_right()
        await eventually(lambda: standby.projector.owner)


async def test_a_write_under_an_older_claim_is_refused_even_for_a_document_nobody_has_written(plane: Plane) -> None:
    old, new = FencedWriter(plane.bus.management, untold), FencedWriter(plane.bus.management, untold)
    rule = RuleDoc(
        rule_id="r",
        policy_id="p",
        action="accept",
        protocol="all",
        bidirectional=False,
        ports=(),
        sources=(),
        source_peers=(),
        destinations=(),
        destination_peers=(),
    )
    key = FeedKey(ACCOUNT, "g.office", "rule", "r")
    await old.claim(Claim())
    await new.claim(Claim())
    with pytest.raises(Superseded):
        await old.write([(key, FeedMessage(9, rule))])
    assert await plane.stored() == {}
    await new.write([(key, FeedMessage(1, rule))])
    assert set(await plane.stored()) == {key}


async def test_a_new_owner_whose_fold_lags_writes_nothing_older_than_what_it_finds(
    plane: Plane, new_replica: NewReplica
) -> None:
    await plane.found(*OFFICE)
    owner, lagging = await new_replica(), await new_replica()
    if lagging.projector.owner:
        owner, lagging = lagging, owner
    await plane.becomes_right()
    await lagging.lag()
    await plane.commit(lan(metric=5))
    await plane.becomes_right()
    before = await plane.claimed()
    await owner.stop()
    await plane.commit(lan(metric=6))
    after = await eventually(lambda: newer_claim(plane, before))
    assert await plane.bus.values_ever(FEED) == after  # the claim is the last that was written
    await lagging.catch_up()
    await plane.becomes_right()


async def newer_claim(plane: Plane, than: int) -> int:
    now = await plane.claimed()
    return now if now > than else 0


async def test_the_owner_goes_on_after_a_restart_of_the_bus(plane: Plane, new_replica: NewReplica) -> None:
    await plane.found(*OFFICE)
    await new_replica()
    await plane.becomes_right()
    await plane.bus.restart()
    await eventually(lambda: plane.bus.management.is_connected)
    await plane.commit(lan())
    await plane.becomes_right(within_s=20)
    await many_changes(plane, 10)
    await plane.becomes_right()
