"""Commits on a real bus: once each, in order, whoever else writes."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from nats.js.errors import APIError

from services.management import log as log_module
from services.management.core.commands.decision import Decision
from services.management.core.model.commit import Commit
from services.management.core.state import AccountState
from services.management.errors import AlreadyThere, ChangesRefused, Contended, Invalid, RetryLater
from shared.bus.codec import decode
from shared.bus.streams import LOG
from shared.events import subjects
from tests import builders
from tests.bus.management.replica import adding_group, append, running, whole_log
from tests.support.bus import Bus, eventually, freeze

WRITERS = 8
CHANGES_EACH = 12


def claiming(owner: str, slots: int) -> Callable[[AccountState], Decision[str]]:
    """A command that takes the lowest free of `slots` names for `owner`; refuses when all are taken."""

    def decide(state: AccountState) -> Decision[str]:
        taken = {group.name for group in state.groups.values()}
        free = next((f"slot-{n}" for n in range(slots) if f"slot-{n}" not in taken), None)
        if free is None:
            raise AlreadyThere("all slots are taken")
        return Decision(builders.commit(builders.group(free, id=f"{free}-of-{owner}")), free)

    return decide


async def test_eight_writers_on_two_replicas_lose_nothing_and_write_nothing_twice(account: Bus, tmp_path: Path) -> None:
    slots = WRITERS * CHANGES_EACH - 6  # fewer than are asked for: some writers must be told so
    accepted: list[str] = []
    refused: list[Exception] = []
    async with running(account, tmp_path / "a.db") as a, running(account, tmp_path / "b.db") as b:

        async def write(number: int) -> None:
            replica = (a, b)[number % 2]
            for change in range(CHANGES_EACH):
                owner = f"{number}-{change}"
                try:
                    slot = await replica.log.commit(builders.ACCOUNT, claiming(owner, slots))
                except (AlreadyThere, Contended) as refusal:
                    refused.append(refusal)
                else:
                    assert f"{slot}-of-{owner}" in replica.account.groups, "an answered change is readable at once"
                    accepted.append(f"{slot}-of-{owner}")

        await asyncio.gather(*(write(number) for number in range(WRITERS)))
        await a.readmodel.catch_up()
        await b.readmodel.catch_up()

        commits = [decode(LOG, data, Commit) for data in await whole_log(account)]
        written = Counter(entity.id for commit in commits[1:] for entity in commit.upserts)
        assert written == Counter(accepted), "every accepted change is in the log exactly once, and nothing else is"
        names = [group.name for group in a.account.groups.values()]
        assert len(names) == len(set(names)), "no slot was given twice"
        assert a.account.groups == b.account.groups
        assert len(accepted) + len(refused) == WRITERS * CHANGES_EACH
        contended = [refusal for refusal in refused if isinstance(refusal, Contended)]
        assert len(contended) <= len(accepted) * 0.05
        assert len(accepted) >= slots - len(contended)


async def test_a_lost_race_decides_again_on_what_the_winner_left(account: Bus, tmp_path: Path) -> None:
    seen: list[int] = []
    async with running(account, tmp_path / "a.db") as replica:
        late = adding_group("late", seen)

        def decide(state: AccountState) -> Decision[str]:
            decision = late(state)
            if len(seen) == 1:
                winner.append(asyncio.ensure_future(append(account, builders.commit(builders.group("early")))))
            return decision

        winner: list[asyncio.Future[int]] = []
        # The winner's message goes out on another connection: hold ours back until it is in.
        publish = replica.connection.publish

        async def after_the_winner(*args: object, **kwargs: object) -> None:
            await winner[0]
            await publish(*args, **kwargs)  # type: ignore[arg-type]

        replica.connection.publish = after_the_winner  # type: ignore[method-assign]
        assert await replica.log.commit(builders.ACCOUNT, decide) == "late"
        assert seen == [1, 2]
        assert set(replica.account.groups) == {builders.ALL, "early", "late"}


async def test_a_writer_that_loses_every_race_is_told_so_after_five_tries(account: Bus, tmp_path: Path) -> None:
    tries: list[int] = []
    async with running(account, tmp_path / "a.db") as replica:
        publish = replica.connection.publish

        async def after_a_winner(*args: object, **kwargs: object) -> None:
            if args[0] == subjects.log(builders.ACCOUNT):
                await append(account, builders.commit(builders.group(f"winner-{len(tries)}")))
            await publish(*args, **kwargs)  # type: ignore[arg-type]

        replica.connection.publish = after_a_winner  # type: ignore[method-assign]
        with pytest.raises(Contended):
            await replica.log.commit(builders.ACCOUNT, adding_group("loser", tries))
        assert tries == [1, 2, 3, 4, 5]
        assert "loser" not in replica.account.groups


async def test_a_publish_without_an_answer_is_repeated_and_taken_once(
    account: Bus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "ANSWER_WITHIN_S", 0.2)
    async with running(account, tmp_path / "a.db") as replica:
        freeze(account.server.pid)
        try:
            sent = replica.connection.stats["out_msgs"]
            writing = asyncio.ensure_future(replica.log.commit(builders.ACCOUNT, adding_group("patient")))
            await eventually(lambda: replica.connection.stats["out_msgs"] >= sent + 3)
            assert not writing.done()
        finally:
            os.kill(account.server.pid, signal.SIGCONT)
        assert await writing == "patient"
        await replica.readmodel.catch_up()
        assert len(await whole_log(account)) == 2


async def test_a_commit_that_was_taken_without_an_answer_counts_as_taken(
    account: Bus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer is lost and the repetition comes so late that the bus has forgotten the message's id."""
    monkeypatch.setattr(log_module, "ANSWER_WITHIN_S", 0.2)
    async with running(account, tmp_path / "a.db") as replica:
        jetstream = type(replica.connection.jetstream())
        publish = jetstream.publish
        first = True

        async def unheard(self: object, subject: str, payload: bytes, **kwargs: object) -> object:
            nonlocal first
            ack = await publish(self, subject, payload, **kwargs)  # type: ignore[arg-type]
            if first and subject == subjects.log(builders.ACCOUNT):
                first = False
                headers = {**kwargs["headers"], "Nats-Msg-Id": "forgotten"}  # type: ignore[dict-item]
                return await publish(self, subject, payload, headers=headers)  # type: ignore[arg-type]
            return ack

        monkeypatch.setattr(jetstream, "publish", unheard)
        assert await replica.log.commit(builders.ACCOUNT, adding_group("once")) == "once"
        assert len(await whole_log(account)) == 2


async def test_a_repetition_that_the_cluster_has_not_agreed_on_yet_is_made_again(
    account: Bus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(account, tmp_path / "a.db") as replica:
        jetstream = type(replica.connection.jetstream())
        publish = jetstream.publish
        refused: list[str] = []

        async def under_way_at_first(self: object, subject: str, payload: bytes, **kwargs: object) -> object:
            ack = await publish(self, subject, payload, **kwargs)  # type: ignore[arg-type]
            if not refused:
                refused.append(subject)
                raise APIError(code=409, err_code=10158, description="duplicate message id is in process")
            return ack

        monkeypatch.setattr(jetstream, "publish", under_way_at_first)
        assert await replica.log.commit(builders.ACCOUNT, adding_group("once")) == "once"
        assert refused == [subjects.log(builders.ACCOUNT)]
        assert len(await whole_log(account)) == 2


async def test_without_a_bus_a_writer_is_told_to_come_back_later(
    account: Bus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "ANSWER_WITHIN_S", 0.1)
    monkeypatch.setattr(log_module, "PATIENCE_S", 0.3)
    async with running(account, tmp_path / "a.db") as replica:
        freeze(account.server.pid)
        try:
            with pytest.raises(RetryLater):
                await replica.log.commit(builders.ACCOUNT, adding_group("nobody-hears"))
        finally:
            os.kill(account.server.pid, signal.SIGCONT)


async def test_while_there_is_a_trouble_no_change_is_taken_and_the_refusal_names_it(
    account: Bus, tmp_path: Path
) -> None:
    async with running(account, tmp_path / "a.db") as replica:
        before = await whole_log(account)
        replica.troubles.arise("disk", "the disk of the bus is full: make room")
        replica.troubles.arise("log", "the log is shorter than it was: restore the backup")
        with pytest.raises(ChangesRefused) as refused:
            await replica.log.commit(builders.ACCOUNT, adding_group("late"))
        assert "make room" in str(refused.value)
        assert "restore the backup" in str(refused.value)
        replica.troubles.end("disk")
        with pytest.raises(ChangesRefused):
            await replica.log.commit(builders.ACCOUNT, adding_group("late"))
        assert await whole_log(account) == before
        replica.troubles.end("log")
        assert await replica.log.commit(builders.ACCOUNT, adding_group("late")) == "late"


async def test_a_writer_that_waits_for_the_bus_stops_when_it_is_known_to_be_of_no_use(
    account: Bus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "ANSWER_WITHIN_S", 0.1)
    monkeypatch.setattr(log_module, "PATIENCE_S", 3600.0)
    async with running(account, tmp_path / "a.db") as replica:
        freeze(account.server.pid)
        try:
            waiting = asyncio.create_task(replica.log.commit(builders.ACCOUNT, adding_group("nobody-hears")))
            done, _ = await asyncio.wait({waiting}, timeout=0.3)
            assert not done
            replica.troubles.arise("disk", "the disk is full")
            with pytest.raises(RetryLater) as given_up:
                await asyncio.wait_for(waiting, 20)
            assert given_up.value.what == "the disk is full"
        finally:
            os.kill(account.server.pid, signal.SIGCONT)


async def test_a_change_too_large_for_one_message_is_refused_before_it_is_sent(account: Bus, tmp_path: Path) -> None:
    def decide(state: AccountState) -> Decision[None]:
        return Decision(builders.commit(*(builders.group("x" * 1000, id=str(n)) for n in range(9_000))), None)

    async with running(account, tmp_path / "a.db") as replica:
        with pytest.raises(Invalid) as refusal:
            await replica.log.commit(builders.ACCOUNT, decide)
        assert "\n" not in refusal.value.message
        assert len(await whole_log(account)) == 1
        assert await replica.log.commit(builders.ACCOUNT, adding_group("small")) == "small"


async def test_a_decision_without_a_commit_writes_nothing(account: Bus, tmp_path: Path) -> None:
    async with running(account, tmp_path / "a.db") as replica:
        assert await replica.log.commit(builders.ACCOUNT, lambda state: Decision(None, "as it was")) == "as it was"
        assert len(await whole_log(account)) == 1


async def test_an_undecodable_message_on_the_accounts_subject_does_not_stop_writers(
    account: Bus, tmp_path: Path
) -> None:
    async with running(account, tmp_path / "a.db") as replica:
        await account.management.jetstream().publish(subjects.log(builders.ACCOUNT), b"not a commit")
        assert await replica.log.commit(builders.ACCOUNT, adding_group("after")) == "after"
    async with running(account, tmp_path / "a.db") as replica:
        assert await replica.log.commit(builders.ACCOUNT, adding_group("after-a-restart")) == "after-a-restart"
