"""A backup, a move to a cluster and back, a damaged log, and another token: with real servers."""

import asyncio
import contextlib
import io
import os
import tarfile
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import nats
import nats.errors
import pytest
from nats.aio.client import Client
from nats.js.errors import NotFoundError

from services.management import backup, upkeep
from services.management.errors import NotRestored
from services.management.settings import Settings
from shared.bus.embedded.config import credentials
from shared.bus.embedded.die_with_parent import die_with_parent
from shared.bus.embedded.server import executable
from shared.bus.reached import Reached
from shared.bus.streams import FACTS, FEED, LOG, configurations, ensure_streams
from tests.bus.management.processes import serving, whimbrel
from tests.bus.management.test_beginning import health, is_well, management
from tests.support.bus import Bus, eventually
from tests.support.cluster import READY_WITHIN_S, SERVERS, Cluster
from tests.support.damage import break_off
from tests.support.ports import free_port

Content = dict[str, list[tuple[int, str, bytes, Any]]]


class EmptyCluster(Cluster):
    """Three servers that hold nothing yet."""

    async def _has_streams(self) -> bool:
        try:
            await self.management.jetstream().stream_info(LOG)
        except NotFoundError:
            return True
        except nats.errors.Error:
            return False
        return True


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[EmptyCluster]:
    cluster = EmptyCluster(tmp_path / "three")
    await cluster.start()
    yield cluster
    await cluster.stop()


@pytest.fixture
async def another_bus(tmp_path: Path) -> AsyncIterator[Bus]:
    bus = Bus(tmp_path / "another")
    await bus.start()
    yield bus
    await bus.stop()


def beside(bus: Bus, replicas: int = 1) -> Settings:
    return Settings(bus=bus.url, credentials=bus.seeds, data_dir=bus.seeds, stream_replicas=replicas)


def log_in(client: httpx.AsyncClient, token_file: Path) -> None:
    client.headers["Authorization"] = f"Token {token_file.read_text().strip()}"


async def add_group(client: httpx.AsyncClient, name: str) -> int:
    return (await client.post("/api/groups", json={"name": name})).status_code


async def groups(client: httpx.AsyncClient) -> set[str]:
    answer = await client.get("/api/groups")
    assert answer.status_code == 200, answer.text
    return {group["name"] for group in answer.json()}


async def content(bus: Bus) -> Content:
    """Sequence, subject, data and headers of every message of every stream."""
    found: Content = {}
    jetstream = bus.management.jetstream()
    for stream in (LOG, FACTS, FEED):
        found[stream] = []
        for sequence in range(1, (await jetstream.stream_info(stream)).state.last_seq + 1):
            try:
                message = await jetstream.get_msg(stream, sequence)
            except NotFoundError:
                continue
            found[stream].append((sequence, message.subject or "", message.data or b"", message.headers))
    return found


async def some_life(bus: Bus, folder: Path) -> None:
    """An account with changes, documents in FEED, and a fact."""
    async with management(bus, folder) as client:
        await eventually(lambda: is_well(client), within_s=30)
        log_in(client, folder / "admin.token")
        for number in range(20):
            assert await add_group(client, f"group-{number}") == 200
        signal = await bus.service("signal")
        await signal.jetstream().publish("fact.a.peer.p.session", b"fact")


async def test_a_move_to_a_cluster_and_back_keeps_every_message_with_its_number(
    bare_bus: Bus, another_bus: Bus, cluster: EmptyCluster, tmp_path: Path
) -> None:
    token_file = tmp_path / "one/admin.token"
    await some_life(bare_bus, tmp_path / "one")
    before = await content(bare_bus)
    assert len(before[LOG]) == 21
    assert before[FACTS]
    said: list[str] = []
    await upkeep.back_up(beside(bare_bus), tmp_path / "backup", said.append)
    assert (tmp_path / "backup").stat().st_mode & 0o777 == 0o600
    assert "LOG: 21 messages, up to 21" in said

    await upkeep.restore(beside(cluster, SERVERS), tmp_path / "backup", said.append)
    assert await content(cluster) == before
    for stream in (LOG, FACTS, FEED):
        assert (await cluster.management.jetstream().stream_info(stream)).config.num_replicas == SERVERS
    await eventually(cluster.whole, within_s=READY_WITHIN_S)
    async with management(cluster, tmp_path / "three-replica") as client:
        await eventually(lambda: is_well(client), within_s=60)
        log_in(client, token_file)
        assert await groups(client) == {"All", *(f"group-{number}" for number in range(20))}
        assert await add_group(client, "on the cluster") == 200
        assert not (tmp_path / "three-replica/admin.token").exists()

    moved = await content(cluster)
    await upkeep.back_up(beside(cluster, SERVERS), tmp_path / "backup-2", said.append)
    await upkeep.restore(beside(another_bus), tmp_path / "backup-2", said.append)
    assert await content(another_bus) == moved
    async with management(another_bus, tmp_path / "back") as client:
        await eventually(lambda: is_well(client), within_s=30)
        log_in(client, token_file)
        assert "on the cluster" in await groups(client)


async def test_a_restore_that_was_cut_off_is_finished_by_another_and_never_goes_over_data(
    bare_bus: Bus, another_bus: Bus, tmp_path: Path
) -> None:
    await some_life(bare_bus, tmp_path / "one")
    await upkeep.back_up(beside(bare_bus), tmp_path / "backup", print)
    before = await content(bare_bus)
    await upkeep.restore(beside(another_bus), tmp_path / "backup", print)
    await upkeep.restore(beside(another_bus), tmp_path / "backup", print)
    assert await content(another_bus) == before
    async with management(another_bus, tmp_path / "two") as client:
        await eventually(lambda: is_well(client), within_s=30)
        log_in(client, tmp_path / "one/admin.token")
        assert await add_group(client, "later") == 200
    later = (await content(another_bus))[LOG]
    with pytest.raises(NotRestored, match="of its own"):
        await upkeep.restore(beside(another_bus), tmp_path / "backup", print)
    assert (await content(another_bus))[LOG] == later


@pytest.mark.parametrize("file", [b"", b"no archive at all", b"\0" * 10240], ids=["empty", "garbage", "zeros"])
async def test_what_is_no_backup_changes_nothing(bare_bus: Bus, tmp_path: Path, file: bytes) -> None:
    (tmp_path / "backup").write_bytes(file)
    with pytest.raises(NotRestored, match=str(tmp_path / "backup")):
        await upkeep.restore(beside(bare_bus), tmp_path / "backup", print)
    with pytest.raises(NotFoundError):
        await bare_bus.management.jetstream().stream_info(LOG)
    assert Reached(bare_bus.seeds).read() == (0, 0)


async def says(client: httpx.AsyncClient, status: str, why: str) -> bool:
    seen = await health(client)
    return seen["status"] == status and any(why in line for line in seen["troubles"])


async def test_with_a_damaged_log_no_change_is_taken_until_somebody_accepts_the_loss(
    bare_bus: Bus, tmp_path: Path
) -> None:
    folder = tmp_path / "one"
    async with management(bare_bus, folder) as client:
        await eventually(lambda: is_well(client), within_s=30)
        log_in(client, folder / "admin.token")
        for number in range(20):
            assert await add_group(client, f"group-{number}") == 200
        before = await groups(client)
        await break_off(bare_bus, LOG)
        await eventually(lambda: says(client, "read-only", "the log ends at"), within_s=60)
        assert await groups(client) == before, "what it knows is still read"
        refused = await client.post("/api/groups", json={"name": "too late"})
        assert refused.status_code == 503
        for remedy in ("whimbrel server restore", "whimbrel server accept-loss"):
            assert remedy in refused.json()["message"]
    # Another start finds the same, and does not serve what is left as if it were whole.
    async with management(bare_bus, folder) as client:
        await eventually(lambda: says(client, "unavailable", "was at 21 before"), within_s=60)
        assert (folder / "readmodel.db.aside-1").exists(), "what it knew is kept"
    async with management(bare_bus, tmp_path / "new") as client:
        await eventually(lambda: says(client, "unavailable", "was at 21 before"), within_s=60)
        said: list[str] = []
        await upkeep.accept_loss(beside(bare_bus), said.append)
        assert said[0].startswith("lost: ")
        await eventually(lambda: is_well(client), within_s=60)
        log_in(client, folder / "admin.token")
        left = await groups(client)
        assert left < before
        assert await add_group(client, "afterwards") == 200
        [log] = [info.state for info in [await bare_bus.management.jetstream().stream_info(LOG)]]
        assert log.last_seq > 21, "no number is given twice"
        again: list[str] = []
        await upkeep.accept_loss(beside(bare_bus), again.append)
        assert again == [f"the log is at {log.last_seq}"], "there is nothing more to accept"
        events = (await client.get("/api/events/audit")).json()
        assert [event["activity_code"] for event in events].count("account.loss.accept") == 1


async def test_a_replica_that_knows_more_than_the_log_begins_anew_once_the_loss_is_accepted(
    bare_bus: Bus, tmp_path: Path
) -> None:
    folder = tmp_path / "one"
    async with management(bare_bus, folder) as client:
        await eventually(lambda: is_well(client), within_s=30)
        log_in(client, folder / "admin.token")
        for number in range(20):
            assert await add_group(client, f"group-{number}") == 200
        before = await groups(client)
        await break_off(bare_bus, LOG)
        await eventually(lambda: says(client, "read-only", "the log ends at"), within_s=60)
        await upkeep.accept_loss(beside(bare_bus), print)
        await eventually(lambda: is_well(client), within_s=60)
        assert await groups(client) < before
        assert (folder / "readmodel.db.aside-1").exists()


@contextlib.asynccontextmanager
async def unguarded_server(folder: Path) -> AsyncIterator[Client]:
    """A server that refuses nobody anything."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *die_with_parent(
            str(executable()), "-a", "127.0.0.1", "-p", str(port), "-js", "-sd", str(folder), "-l", f"{folder}.log"
        )
    )
    try:
        client = await nats.connect(f"nats://127.0.0.1:{port}", max_reconnect_attempts=200, reconnect_time_wait=0.1)
        yield client
        await client.close()
    finally:
        process.terminate()
        await process.wait()


async def with_a_hole(bus: Bus, sequence: int, folder: Path) -> Path:
    """A backup whose log lacks that message."""
    async with unguarded_server(folder / "unguarded") as client:
        jetstream = client.jetstream()
        for config in configurations(1):
            await jetstream.add_stream(replace(config, deny_delete=False))
        for _, subject, data, headers in (await content(bus))[LOG]:
            await jetstream.publish(subject, data, headers=headers)
        await jetstream.delete_msg(LOG, sequence)
        await backup.back_up(client, folder / "holed", print)
    return folder / "holed"


async def test_a_message_that_is_missing_amid_the_log_is_noticed_and_can_be_accepted(
    bare_bus: Bus, another_bus: Bus, tmp_path: Path
) -> None:
    folder = tmp_path / "one"
    async with management(bare_bus, folder) as client:
        await eventually(lambda: is_well(client), within_s=30)
        log_in(client, folder / "admin.token")
        for number in range(5):
            assert await add_group(client, f"group-{number}") == 200
        before = await groups(client)
    holed = await with_a_hole(bare_bus, 4, tmp_path)
    await backup.restore(another_bus.management, holed, 1, print)
    Reached(another_bus.seeds).accept(6, 0)
    async with management(another_bus, tmp_path / "new") as client:
        await eventually(lambda: says(client, "unavailable", "1 messages within the log are missing"), within_s=60)
        assert await add_group(client, "too early") == 503
        await upkeep.accept_loss(beside(another_bus), print)
        await eventually(lambda: is_well(client), within_s=60)
        log_in(client, folder / "admin.token")
        assert await groups(client) == before - {"group-2"}
        assert await add_group(client, "afterwards") == 200


async def test_an_owner_without_a_token_gets_a_new_one_and_the_old_one_is_worth_nothing(tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with serving(data) as server:
        old = (data / "admin.token").read_text()
        assert (await server.post("/api/groups", {"name": "office"})).status_code == 200
        assert (await whimbrel("server", "new-token", "--data-dir", str(data)))[0] == 0
        running = (data / "admin.token").read_text()
        assert running != old
        assert (data / "admin.token").stat().st_mode & 0o777 == 0o600

        async def taken() -> bool:
            return (await server.get("/api/groups")).status_code == 200

        await eventually(taken)
        (data / "admin.token").write_text(old)
        assert (await server.get("/api/groups")).status_code == 401
        assert (await whimbrel("server", "backup", "--data-dir", str(data), str(tmp_path / "backup")))[0] == 0
    (data / "admin.token").unlink()
    restored = tmp_path / "restored"
    for arguments in (
        ("restore", "--data-dir", str(restored), str(tmp_path / "backup")),
        ("new-token", "--data-dir", str(restored)),
    ):
        code, said = await whimbrel("server", *arguments)
        assert (code, said) == (0, "")
    async with serving(restored) as server:
        names = {group["name"] for group in (await server.get("/api/groups")).json()}
        assert names == {"All", "office"}


async def test_a_token_that_cannot_be_written_takes_no_other_away(bare_bus: Bus, tmp_path: Path) -> None:
    folder = tmp_path / "one"
    async with management(bare_bus, folder) as client:
        await eventually(lambda: is_well(client), within_s=30)
        log_in(client, folder / "admin.token")
        for path in (tmp_path / "none" / "token", folder):
            with pytest.raises(OSError, match=str(path)) as problem:
                await upkeep.new_token(beside(bare_bus), path)
            assert problem.value.filename == str(path)
        events = (await client.get("/api/events/audit")).json()
        assert [event["activity_code"] for event in events].count("personal.access.token.delete") == 0


@pytest.mark.parametrize("part", ["FEED.json", "FEED.snapshot", "LOG.json", "LOG.snapshot", "whimbrel-backup.json"])
@pytest.mark.parametrize("how", ["flipped", "missing"])
async def test_a_damaged_backup_makes_nothing(
    bare_bus: Bus, another_bus: Bus, tmp_path: Path, part: str, how: str
) -> None:
    await ensure_streams(bare_bus.management.jetstream())
    await upkeep.back_up(beside(bare_bus), tmp_path / "whole", print)
    with tarfile.open(tmp_path / "whole") as whole, tarfile.open(tmp_path / "damaged", "w") as damaged:
        for member in whole.getmembers():
            content = bytearray(whole.extractfile(member).read())  # type: ignore[union-attr]
            if member.name == part:
                content[len(content) // 2] ^= 0x80
            if member.name != part or how == "flipped":
                damaged.addfile(member, io.BytesIO(content))
    with pytest.raises(NotRestored, match=f"{tmp_path / 'damaged'} is "):
        await upkeep.restore(beside(another_bus), tmp_path / "damaged", print)
    with pytest.raises(NotFoundError):
        await another_bus.management.jetstream().stream_info(FEED)


async def test_a_backup_is_for_its_owner_whatever_stood_there(bare_bus: Bus, tmp_path: Path) -> None:
    """Another user of the folder may have put it there, to read along or to have a file of ours written over."""
    await ensure_streams(bare_bus.management.jetstream())
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "backup.part").symlink_to(tmp_path / "precious")
    await upkeep.back_up(beside(bare_bus), tmp_path / "backup", print)
    assert (tmp_path / "precious").read_text() == "precious"
    assert not (tmp_path / "backup").is_symlink()
    (tmp_path / "backup.part").touch(mode=0o666)
    await upkeep.back_up(beside(bare_bus), tmp_path / "backup", print)
    assert (tmp_path / "backup").stat().st_mode & 0o777 == 0o600


async def test_a_directory_without_a_control_plane_is_left_alone(tmp_path: Path) -> None:
    for arguments in (("backup", str(tmp_path / "b")), ("accept-loss",), ("new-token",)):
        code, said = await whimbrel("server", *arguments, "--data-dir", str(tmp_path / "typo"))
        assert (code, len(said.splitlines())) == (1, 1), said
        assert f"{tmp_path / 'typo'} holds no account" in said
    assert not list(tmp_path.iterdir())


@pytest.mark.root
async def test_a_directory_of_another_user_is_left_alone(tmp_path: Path) -> None:
    """Files that are made by root would keep the server from its own data."""
    data = tmp_path / "data"
    credentials(data / "keys")
    os.chown(data, 65534, 65534)
    before = sorted(data.rglob("*"))
    for arguments in (("backup", str(tmp_path / "b")), ("accept-loss",), ("new-token",)):
        code, said = await whimbrel("server", *arguments, "--data-dir", str(data))
        assert (code, len(said.splitlines())) == (1, 1), said
        assert "belongs to user 65534" in said
    assert sorted(data.rglob("*")) == before


async def test_what_cannot_be_done_is_one_line(tmp_path: Path) -> None:
    for arguments, code, named in (
        (("backup", str(tmp_path / "b")), 2, "--data-dir"),
        (("restore", str(tmp_path / "none"), "--data-dir", str(tmp_path / "d")), 1, str(tmp_path / "none")),
        (("new-token", "--data-dir", str(tmp_path / "d")), 1, "no account"),
    ):
        found, said = await asyncio.wait_for(whimbrel("server", *arguments), 60)
        assert found == code, said
        assert named in said
        assert len(said.splitlines()) == 1, said
