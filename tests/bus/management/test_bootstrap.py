"""The first start, alone and together with others."""

import asyncio
import hashlib
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from services.management import bootstrap
from services.management.bootstrap import ensure_account, new_token
from services.management.ids import new_id
from shared import files
from shared.events import subjects
from tests import builders
from tests.bus.management.replica import Replica, running, whole_log
from tests.support.bus import Bus


async def ensure(replica: Replica, token_file: Path) -> None:
    await ensure_account(replica.connection, replica.readmodel, token_file, "whimbrel.test", new_id)


def works(replica: Replica, token_file: Path) -> bool:
    """Whether the token in the file is one of the account's."""
    token = token_file.read_text().strip()
    return replica.readmodel.intent.access_token_by_hash(hashlib.sha256(token.encode()).hexdigest()) is not None


def test_a_token_has_netbirds_form_and_a_checksum_of_its_own() -> None:
    token = new_token()
    assert re.fullmatch(r"nbp_[0-9A-Za-z]{36}", token)
    assert token != new_token()
    number = 0
    for digit in bootstrap._checksum("123456789"):
        number = number * 62 + "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz".index(digit)
    assert number == 0xCBF43926, "the check value of CRC-32"


async def test_the_first_start_makes_an_account_with_a_working_token(bus: Bus, tmp_path: Path) -> None:
    token_file = tmp_path / "admin.token"
    async with running(bus, tmp_path / "a.db") as replica:
        await ensure(replica, token_file)
        [account] = replica.readmodel.intent.accounts.values()
        assert [group.name for group in account.groups.values()] == ["All"]
        assert [policy.name for policy in account.policies.values()] == ["Default"]
        assert works(replica, token_file)
        assert token_file.stat().st_mode & 0o777 == 0o600
        await ensure(replica, token_file)
        assert len(await whole_log(bus)) == 1
    log = b"".join(await whole_log(bus))
    assert token_file.read_bytes().strip() not in log


async def test_of_replicas_that_start_at_once_one_makes_the_account_and_the_others_keep_no_token(
    bus: Bus, tmp_path: Path
) -> None:
    async with (
        running(bus, tmp_path / "a.db") as a,
        running(bus, tmp_path / "b.db") as b,
        running(bus, tmp_path / "c.db") as c,
    ):
        replicas = {tmp_path / f"{name}.token": replica for name, replica in (("a", a), ("b", b), ("c", c))}
        await asyncio.gather(*(ensure(replica, file) for file, replica in replicas.items()))
        [kept] = [file for file in replicas if file.exists()]
        assert all(works(replica, kept) for replica in replicas.values())
        assert len(await whole_log(bus)) == 1


def test_replicas_that_share_the_token_file_and_start_at_once_share_the_token(tmp_path: Path) -> None:
    token_file, together = tmp_path / "new" / "admin.token", threading.Barrier(3)

    def start() -> str:
        together.wait()
        return bootstrap._token_in(token_file)

    with ThreadPoolExecutor(3) as replicas:
        [token] = {future.result() for future in [replicas.submit(start) for _ in range(3)]}
    assert token_file.read_text().strip() == token


async def test_a_start_that_was_interrupted_after_writing_the_token_uses_it(bus: Bus, tmp_path: Path) -> None:
    token_file = tmp_path / "admin.token"
    files.write(token_file, f"{(token := new_token())}\n".encode())
    async with running(bus, tmp_path / "a.db") as replica:
        await ensure(replica, token_file)
        assert token_file.read_text().strip() == token
        assert works(replica, token_file)


async def test_a_file_that_holds_no_token_is_written_anew(bus: Bus, tmp_path: Path) -> None:
    token_file = tmp_path / "admin.token"
    token_file.write_text("half a tok")
    async with running(bus, tmp_path / "a.db") as replica:
        await ensure(replica, token_file)
        assert works(replica, token_file)


async def test_with_an_account_in_the_log_nothing_is_written(account: Bus, tmp_path: Path) -> None:
    async with running(account, tmp_path / "a.db") as replica:
        await ensure(replica, tmp_path / "admin.token")
        assert not (tmp_path / "admin.token").exists()
        assert len(await whole_log(account)) == 1


async def test_garbage_in_the_log_does_not_stop_the_first_start(bus: Bus, tmp_path: Path) -> None:
    await bus.management.jetstream().publish(subjects.log(builders.ACCOUNT), b"garbage")
    async with running(bus, tmp_path / "a.db") as replica:
        await ensure(replica, tmp_path / "admin.token")
        assert works(replica, tmp_path / "admin.token")


async def test_a_first_commit_whose_answer_was_lost_keeps_its_token(bus: Bus, tmp_path: Path) -> None:
    """Repeated under its id, the bus says either yes or that the log has moved on; both mean that it is in."""
    token_file = tmp_path / "admin.token"
    async with running(bus, tmp_path / "a.db") as replica:
        publish = replica.connection.publish

        async def twice(*args: object, **kwargs: object) -> None:
            await publish(*args, **kwargs)  # type: ignore[arg-type]
            await publish(*args, **kwargs)  # type: ignore[arg-type]

        replica.connection.publish = twice  # type: ignore[method-assign]
        await ensure(replica, token_file)
        assert works(replica, token_file)
        assert len(await whole_log(bus)) == 1
