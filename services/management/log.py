"""Writing the log: decide on the newest state, append with the expected sequence, decide again after a lost race."""

import asyncio
import random
import secrets
import time
from collections import defaultdict
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

import nats.errors
from nats.aio.client import Client
from nats.js.errors import APIError, NotFoundError

from services.management.core.commands.decision import Decision
from services.management.core.model.commit import Commit
from services.management.core.state import AccountState
from services.management.errors import ChangesRefused, Contended, Invalid, RaceLost, RetryLater, Unknown
from services.management.ports import PATIENCE_S, Fold
from shared.bus.codec import encode
from shared.bus.streams import LOG, WRONG_LAST_SEQUENCE
from shared.events import subjects
from shared.metrics import REGISTRY, Counter, Histogram

MOST_TRIES = 5
ANSWER_WITHIN_S = 2.0
YIELD_S = 0.005
"""After a commit, a replica that has met another writer of the account yields to it for up to this long; without
the pause either is as likely to win each try, and one commit in thirty would lose five times."""
CONTENDED_FOR_S = 1.0
"""A replica that has met another writer of an account yields after each commit to it for this long."""

STILL_UNDER_WAY = 10158
"""Error code of a message that a cluster has taken in once already and not agreed on yet:
JSStreamDuplicateMessageConflict (nats-server, server/errors.json)."""

HEADERS_BYTES = 1024
"""Room for the headers in a message."""

T = TypeVar("T")

_commits = Counter("whimbrel_commits", "Commits this replica tried", ["outcome"], registry=REGISTRY)
_duration = Histogram("whimbrel_commit_seconds", "Time from the request to the readable commit", registry=REGISTRY)


class Held(Fold, Protocol):
    """What the log's writer needs of the read model beside the fold."""

    async def wait_saved(self, sequence: int) -> None:
        """Return once the file holds everything up to the sequence."""

    def committed_as(self, message_id: str) -> int | None:
        """LOG sequence of a recent message with that Nats-Msg-Id."""


class Log:
    """One replica's writer. Writers of one account take turns here, and race only with other replicas."""

    def __init__(self, connection: Client, held: Held, require_changeable: Callable[[], None]) -> None:
        self._connection = connection
        self._held = held
        self._require_changeable = require_changeable
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._last_known: defaultdict[str, int] = defaultdict(int)
        self._own: dict[str, int] = {}
        self._contended_until: defaultdict[str, float] = defaultdict(float)

    async def commit(self, account: str, decide: Callable[[AccountState], Decision[T]], /) -> T:
        """The decision's result, once the read model holds its commit. Without a commit nothing is appended.

        decide: called with the newest state, again after each lost race. Its Refusals come through; raises Contended
        after MOST_TRIES lost races, RetryLater when the bus does not answer, and what `require_changeable` raises while
        no change may be taken, besides.
        """
        self._require_changeable()
        begin = time.monotonic()
        decision, sequence = await self._in_turn(account, decide)
        if sequence:
            await self._patiently(self._held.wait_saved(sequence), "the read model")
            _commits.labels("taken").inc()
            _duration.observe(time.monotonic() - begin)
        return decision.result

    async def _in_turn(self, account: str, decide: Callable[[AccountState], Decision[T]]) -> tuple[Decision[T], int]:
        async with self._turns[account]:
            for attempt in range(MOST_TRIES):
                await asyncio.sleep(random.random() * YIELD_S * max(0, attempt - 1))
                state = self._held.intent.accounts.get(account)
                if state is None:
                    raise Unknown("no such account")
                revision, decision = state.revision, decide(state)
                if decision.commit is None:
                    return decision, 0
                folded = self._held.sequence
                try:
                    sequence = await self._append(decision.commit, revision)
                except RaceLost as lost:
                    _commits.labels("race lost").inc()
                    self._last_known[account] = lost.sequence
                    continue
                if sequence <= folded:
                    raise ChangesRefused([f"the log gave {sequence} to a change and was at {folded} before"])
                await self._patiently(self._held.wait_for(sequence), "the log")
                await self._yield(account, revision, sequence)
                return decision, sequence
        _commits.labels("contended").inc()
        raise Contended("others changed the account at the same time, try again")

    async def _append(self, commit: Commit, revision: int) -> int:
        """LOG sequence of the commit; raises RaceLost, with the fold up to date, when it was not the next one."""
        data = encode(commit)
        most = self._connection.max_payload - HEADERS_BYTES
        if len(data) > most:
            raise Invalid(f"the change takes {len(data)} bytes, at most {most} fit: change fewer objects at once")
        subject, message_id = subjects.log(commit.account), secrets.token_hex(16)
        headers = {
            "Nats-Msg-Id": message_id,
            # An undecodable message on the subject moves the sequence on without a new revision.
            "Nats-Expected-Last-Subject-Sequence": str(max(revision, self._last_known[commit.account])),
        }
        try:
            return await self._publish(subject, data, headers)
        except APIError as problem:
            if problem.err_code not in WRONG_LAST_SEQUENCE:
                raise RetryLater("the bus", ANSWER_WITHIN_S) from problem
        last = await self._last_sequence(subject)
        await self._patiently(self._held.wait_for(last), "the log")
        # After a publish without an answer the message in our way may be our own.
        sequence = self._held.committed_as(message_id)
        if sequence is None:
            raise RaceLost(last)
        return sequence

    async def _publish(self, subject: str, data: bytes, headers: dict[str, str]) -> int:
        """The message's sequence. Repeats it until there is an answer: the bus takes one id once."""
        begin = time.monotonic()
        while (waited := time.monotonic() - begin) < PATIENCE_S:
            try:
                jetstream = self._connection.jetstream()
                return (await jetstream.publish(subject, data, timeout=ANSWER_WITHIN_S, headers=headers)).seq
            except APIError as problem:
                if problem.code != 503 and problem.err_code != STILL_UNDER_WAY:
                    raise
                await asyncio.sleep(ANSWER_WITHIN_S / 10)
            except nats.errors.TimeoutError:
                pass
            except nats.errors.Error:
                await asyncio.sleep(ANSWER_WITHIN_S / 10)
            try:
                self._require_changeable()
            except ChangesRefused as refused:
                raise RetryLater("; ".join(refused.lines), time.monotonic() - begin) from refused
        _commits.labels("no answer").inc()
        raise RetryLater("the bus", waited)

    async def _last_sequence(self, subject: str) -> int:
        try:
            found = await self._connection.jetstream().get_last_msg(LOG, subject)
        except NotFoundError:
            return 0
        except nats.errors.Error as problem:
            raise RetryLater("the bus", ANSWER_WITHIN_S) from problem
        return found.seq or 0

    async def _patiently(self, waiting: Coroutine[Any, Any, None], what: str) -> None:
        try:
            await asyncio.wait_for(waiting, PATIENCE_S)
        except TimeoutError:
            raise RetryLater(what, PATIENCE_S) from None

    async def _yield(self, account: str, found: int, sequence: int) -> None:
        now = time.monotonic()
        if self._own.get(account, found) != found:
            self._contended_until[account] = now + CONTENDED_FOR_S
        self._own[account] = sequence
        if now < self._contended_until[account]:
            await asyncio.sleep(random.random() * YIELD_S)
