"""The fold of the log, in memory and on disk."""

import asyncio
import sqlite3
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import structlog.testing

from services.management.core.entities import Ref
from services.management.core.state import Change
from services.management.errors import ChangesRefused
from services.management.readmodel import readmodel as readmodel_module
from services.management.readmodel import store as store_module
from shared.bus.streams import LOG
from shared.errors import CorruptFile, NoRoom
from shared.events import subjects
from shared.metrics import REGISTRY
from tests import builders
from tests.bus.management.replica import Replica, adding_group, append, running, whole_log
from tests.support.bus import Bus, eventually
from tests.support.smalldisk import SmallDisk, disk

__all__ = ["disk"]

FILE = "readmodel.db"


async def some_history(bus: Bus) -> None:
    """Peers, groups, a route; a group with members goes again."""
    for entities in (
        (builders.group("office"), builders.group("lab")),
        (builders.peer("alice", "office"), builders.peer("bob", "office", "lab")),
        (builders.route("lan", peer="alice", groups=("office",)), builders.policy("default")),
        (builders.setup_key("key"), builders.user("admin")),
    ):
        await append(bus, builders.commit(*entities))
    await append(bus, builders.commit(deletes=[Ref("group", "lab")]))


def answers(replica: Replica) -> object:
    """What the API's answers are made of."""
    there = replica.account
    return (
        there.revision,
        {kind: dict(getattr(there, kind)) for kind in ("peers", "groups", "policies", "routes", "setup_keys", "users")},
        {group: sorted(there.members(group)) for group in there.groups},
    )


async def test_a_restart_goes_on_from_the_file_and_gives_the_same_answers(account: Bus, tmp_path: Path) -> None:
    await some_history(account)
    async with running(account, tmp_path / FILE) as first:
        await first.readmodel.wait_saved(first.readmodel.sequence)
        before, trail = answers(first), await first.readmodel.events(builders.ACCOUNT, 100)
    await append(account, builders.commit(builders.group("meanwhile")))
    async with running(account, tmp_path / FILE) as second:
        assert "meanwhile" in second.account.groups
        await append(account, builders.commit(deletes=[Ref("group", "meanwhile")]))
        await second.readmodel.catch_up()
        await second.readmodel.wait_saved(second.readmodel.sequence)
        assert (await second.readmodel.events(builders.ACCOUNT, 100))[2:] == trail
        assert answers(second)[1:] == before[1:]  # type: ignore[index]


async def test_a_deleted_file_is_rebuilt_with_the_same_answers(account: Bus, tmp_path: Path) -> None:
    await some_history(account)
    async with running(account, tmp_path / FILE) as first:
        await first.readmodel.wait_saved(first.readmodel.sequence)
        before, trail = answers(first), await first.readmodel.events(builders.ACCOUNT, 100)
    for part in tmp_path.glob(f"{FILE}*"):
        part.unlink()
    async with running(account, tmp_path / FILE) as second:
        await second.readmodel.wait_saved(second.readmodel.sequence)
        assert answers(second) == before
        assert await second.readmodel.events(builders.ACCOUNT, 100) == trail


def _garbage(file: Path) -> None:
    file.write_bytes(b"no database at all, but long enough for SQLite to look at it" * 50)


def _foreign(file: Path) -> None:
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE somebody_elses (thing)")


def _older_version(file: Path) -> None:
    _damage(file, "PRAGMA user_version = 0")


def _unreadable_entity(file: Path) -> None:
    _damage(file, "UPDATE entities SET data = x'c1'")


def _ahead_of_the_log(file: Path) -> None:
    _damage(file, "UPDATE checkpoint SET sequence = sequence + 100")


def _of_another_log(file: Path) -> None:
    _damage(file, "UPDATE checkpoint SET digest = x'00'")


def _damage(file: Path, statement: str) -> None:
    connection = sqlite3.connect(file)
    connection.execute(statement)
    connection.commit()
    connection.close()


@pytest.mark.parametrize(
    "damage", [_garbage, _foreign, _older_version, _unreadable_entity, _ahead_of_the_log, _of_another_log]
)
async def test_a_file_that_cannot_be_used_is_set_aside_and_rebuilt(
    account: Bus, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    await some_history(account)
    file = tmp_path / FILE
    if damage not in (_garbage, _foreign):
        async with running(account, file) as first:
            await first.readmodel.wait_saved(first.readmodel.sequence)
    damage(file)
    with structlog.testing.capture_logs() as logged:
        async with running(account, file) as replica:
            assert set(replica.account.peers) == {"alice", "bob"}
            assert list(replica.account.members("office")) != []
            assert replica.account.peers["bob"].groups == ("office",)
    assert (tmp_path / f"{FILE}.aside-1").exists()
    assert [line["kept"] for line in logged if "set aside" in line["event"]] == [str(tmp_path / f"{FILE}.aside-1")]


async def test_a_place_where_no_file_can_be_is_named(account: Bus, tmp_path: Path) -> None:
    (tmp_path / FILE).mkdir()
    with pytest.raises(CorruptFile) as problem:
        async with running(account, tmp_path / FILE):
            pass
    assert str(tmp_path / FILE) in str(problem.value)


def undecodable() -> float:
    """Messages of the log counted as undecodable so far."""
    return REGISTRY.get_sample_value("whimbrel_undecodable_messages_total", {"pattern": LOG}) or 0.0


async def test_undecodable_messages_are_counted_and_logged_once_and_the_fold_goes_on(
    account: Bus, tmp_path: Path
) -> None:
    other_account = subjects.log("other")
    with structlog.testing.capture_logs() as logged:
        async with running(account, tmp_path / FILE) as replica:
            before = undecodable()
            jetstream = account.management.jetstream()
            for data in (b"", b"\xc1", b"\x80", b'{"json": true}'):
                await jetstream.publish(subjects.log(builders.ACCOUNT), data)
            await append(account, builders.commit(builders.group("nowhere"), account="unheard-of"))
            await jetstream.publish(other_account, b"garbage")
            await append(account, builders.commit(builders.group("after")))
            await replica.readmodel.catch_up()
            assert undecodable() - before == 6
            assert "after" in replica.account.groups
            assert set(replica.readmodel.intent.accounts) == {builders.ACCOUNT}
    dropped = [line["subject"] for line in logged if line["event"] == "undecodable message dropped"]
    assert dropped == [subjects.log(builders.ACCOUNT), subjects.log("unheard-of"), other_account]


async def test_listeners_hear_every_commit_at_its_own_revision(account: Bus, tmp_path: Path) -> None:
    heard: list[tuple[str, int, int, list[Ref]]] = []

    class Listener:
        def folded(self, account: str, sequence: int, changes: Sequence[Change]) -> None:
            at = replica.readmodel.intent.sequence
            heard.append((account, sequence, at, [change.ref for change in changes]))

    async with running(account, tmp_path / FILE) as replica:
        replica.readmodel.listen(Listener())
        await some_history(account)
        await replica.readmodel.catch_up()
    assert [(sequence, at) for _, sequence, at, _ in heard] == [(n, n) for n in range(2, 7)]
    assert heard[-1][3] == [Ref("group", "lab"), Ref("peer", "bob")]


async def test_a_long_log_is_folded_whole_though_little_of_it_is_held_unsaved(
    account: Bus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Larger than what the server sends before it wants to hear that there is room (2 MiB)."""
    monkeypatch.setattr(readmodel_module, "MOST_UNSAVED", 10)
    for first in range(0, 2_000, 100):
        groups = (builders.group(f"g{number}" + "x" * 4_000) for number in range(first, first + 100))
        await asyncio.gather(*(append(account, builders.commit(group)) for group in groups))
    async with running(account, tmp_path / FILE) as replica:
        assert len(replica.account.groups) == 2_001
        await replica.readmodel.wait_saved(2_001)


async def test_a_restarted_bus_is_followed_on_without_a_gap(account: Bus, tmp_path: Path) -> None:
    async with running(account, tmp_path / FILE) as replica:
        await account.restart()
        await eventually(lambda: account.management.is_connected)
        await append(account, builders.commit(builders.group("after-the-restart")))
        await eventually(lambda: "after-the-restart" in replica.account.groups)
        assert await replica.log.commit(builders.ACCOUNT, adding_group("and-writes")) == "and-writes"


async def test_a_consumer_that_vanished_is_made_anew(account: Bus, tmp_path: Path) -> None:
    async with running(account, tmp_path / FILE) as replica:
        jetstream = account.management.jetstream()
        [consumer] = await jetstream.consumers_info(LOG)
        await jetstream.delete_consumer(LOG, consumer.name)
        await append(account, builders.commit(builders.group("later")))
        await eventually(lambda: "later" in replica.account.groups, within_s=20)


async def test_on_a_full_disk_it_reads_and_follows_and_saves_what_it_missed_when_there_is_room(
    account: Bus, disk: SmallDisk
) -> None:
    file = disk.root / FILE
    await some_history(account)
    async with running(account, file) as replica:
        await replica.readmodel.wait_saved(replica.readmodel.sequence)
        disk.fill()
        for number in range(40):
            await append(account, builders.commit(builders.group("x" * 9_000, id=f"late-{number}")))
        await replica.readmodel.catch_up()
        await eventually(lambda: replica.troubles.lines)
        assert str(file) in replica.troubles.lines[0]
        with pytest.raises(ChangesRefused):
            await replica.log.commit(builders.ACCOUNT, adding_group("refused"))
        assert "late-39" in replica.account.groups
        assert await replica.readmodel.events(builders.ACCOUNT, 100)
        disk.empty()
        await eventually(lambda: not replica.troubles.lines)
        assert await replica.log.commit(builders.ACCOUNT, adding_group("taken")) == "taken"
        before = answers(replica)
    async with running(account, file) as again:
        assert answers(again) == before
        trail = await again.readmodel.events(builders.ACCOUNT, 100)
        assert len(trail) == len(await whole_log(account))


async def test_a_start_on_a_full_disk_takes_over_what_the_file_holds(account: Bus, disk: SmallDisk) -> None:
    file = disk.root / FILE
    await some_history(account)
    async with running(account, file) as first:
        await first.readmodel.wait_saved(first.readmodel.sequence)
        before = answers(first)
    disk.fill()
    async with running(account, file) as second:
        assert answers(second) == before
        await append(account, builders.commit(builders.group("meanwhile")))
        await eventually(lambda: "meanwhile" in second.account.groups)
    assert not list(disk.root.glob("*aside*"))


async def test_without_room_for_a_first_file_it_says_so(account: Bus, disk: SmallDisk) -> None:
    disk.fill()
    with pytest.raises(NoRoom) as problem:
        async with running(account, disk.root / FILE):
            pass
    assert str(disk.root / FILE) in str(problem.value)


KILLED_AFTER_PUBLISH = """
import asyncio, os, sys
from pathlib import Path
from services.management.readmodel.store import Store
from tests import builders
from tests.bus.management.replica import Replica, adding_group
from shared.bus.connection import connect
from shared.bus.keys import read_seed

async def main(url, seed, file):
    replica = Replica(await connect(url, read_seed(Path(seed)), "management"), Path(file))
    await replica.readmodel.open()
    running = [asyncio.create_task(work()) for work in (replica.readmodel.follow, replica.readmodel.save)]
    await replica.readmodel.catch_up()
    await replica.log.commit(builders.ACCOUNT, adding_group("saved"))

    async def killed(self, batch):
        os.kill(os.getpid(), 9)

    Store.save = killed
    await replica.log.commit(builders.ACCOUNT, adding_group("in-the-log-alone"))

asyncio.run(main(*sys.argv[1:]))
"""


async def test_a_kill_between_the_log_and_the_file_loses_nothing(account: Bus, tmp_path: Path) -> None:
    file = tmp_path / FILE
    arguments = (account.url, str(account.seeds / "management.nk"), str(file))
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", KILLED_AFTER_PUBLISH, *arguments)
    assert await asyncio.wait_for(process.wait(), 30) == -9
    store = await store_module.Store.open(file)
    stored = await store.load()
    await store.close()
    assert "saved" in {entity.id for entity in stored.entities[builders.ACCOUNT]}
    assert "in-the-log-alone" not in {entity.id for entity in stored.entities[builders.ACCOUNT]}
    async with running(account, file) as replica:
        assert set(replica.account.groups) == {builders.ALL, "saved", "in-the-log-alone"}
        assert len(await whole_log(account)) == 3
