"""Making sure that the log of the bus is this installation's, and whole: at the start, and for as long as it runs."""

import asyncio
from collections.abc import Callable

import nats.errors
import structlog
from nats.aio.client import Client
from nats.js.errors import NotFoundError

from services.management.core import evidence
from services.management.core.evidence import Evidence
from services.management.errors import LogChanged
from services.management.ports import NewestFold, TroublesPort
from shared.bus.codec import decode
from shared.bus.reached import Reached
from shared.bus.streams import FEED, LOG
from shared.errors import Undecodable
from shared.events import subjects
from shared.events.documents import FeedMessage
from shared.tasks import end_if_cancelled

LOOK_EVERY_S = 1.0
SURE_AFTER = 3
"""Looks that agree before a log counts as damaged: a server that has just become its leader may not have got to the
last messages yet."""

CAUSE = "log"

log = structlog.get_logger()


class Wholeness:
    """held: this replica's fold. lost_file: sequence of a read model that the log did not reach, 0 for none."""

    def __init__(
        self,
        connection: Client,
        held: NewestFold,
        reached: Reached,
        troubles: TroublesPort,
        lost_file: Callable[[], int],
    ) -> None:
        self._connection = connection
        self._held = held
        self._reached = reached
        self._troubles = troubles
        self._lost_file = lost_file
        self._noted = 0
        self._told = False

    async def begun(self) -> None:
        """Return once the log is there, or may be made. Raises nats.errors.Error or TimeoutError."""
        looks = 0
        while True:
            end_if_cancelled()
            seen = await self.look()
            if seen.last or seen.may_begin:
                self._troubles.end(CAUSE)
                return
            looks += 1
            if looks >= SURE_AFTER:
                self._troubles.arise(CAUSE, evidence.nothing_to_begin(seen), serves=False)
            await asyncio.sleep(LOOK_EVERY_S)

    async def to_begin(self) -> bool:
        """Return once the log is whole and folded; whether it has still to be begun, with an account.

        Raises nats.errors.Error or TimeoutError.
        """
        looks = 0
        await self._note(self._lost_file())
        while True:
            end_if_cancelled()
            seen = await self.look()
            await self._held.catch_up()
            problem = evidence.problem(seen)
            accounts = self._held.intent.accounts
            if problem is None and not accounts:
                problem = self._beginning(seen)
            if problem is None:
                self._troubles.end(CAUSE)
                return not accounts
            looks += 1
            if looks >= SURE_AFTER:
                self._troubles.arise(CAUSE, problem, serves=False)
            await asyncio.sleep(LOOK_EVERY_S)

    def _beginning(self, seen: Evidence) -> str | None:
        """What keeps the log from being begun."""
        if not seen.may_begin:
            return evidence.nothing_to_begin(seen)
        if not self._reached.writable:
            return "the start could not be remembered: make the folder --remembered writable"
        return None

    async def note(self) -> None:
        """Remember beside the seeds how far the log has come."""
        await self._note(self._held.sequence)

    async def _note(self, sequence: int) -> None:
        if sequence <= self._noted:
            return
        try:
            await asyncio.to_thread(self._reached.note, sequence)
            self._noted = sequence
        except OSError as problem:
            if not self._told:
                self._told = True
                log.warning(
                    "cannot remember how far the log has come: make the folder --remembered writable",
                    problem=str(problem),
                )

    async def watch(self) -> None:
        """Look again and again, for ever. Raises LogChanged."""
        looks, behind = 0, False
        while True:
            end_if_cancelled()
            await asyncio.sleep(LOOK_EVERY_S)
            try:
                seen = await self.look()
            except (nats.errors.Error, TimeoutError):
                continue  # the bus is away, which others tell
            problem = evidence.problem(seen)
            looks = looks + 1 if problem else 0
            if problem and looks >= SURE_AFTER:
                behind = behind or seen.last < self._held.sequence
                await self.note()  # who accepts the loss has to know of all of it
                self._troubles.arise(CAUSE, problem, serves=self._held.sequence >= seen.reached)
            elif not problem:
                if behind:
                    raise LogChanged
                self._troubles.end(CAUSE)
                await self.note()

    async def look(self) -> Evidence:
        """What the bus has and what is remembered. Raises nats.errors.Error or TimeoutError."""
        # What is remembered is read first: what the log has at that moment is at least as new.
        newest, accepted = await asyncio.to_thread(self._reached.read) or (None, 0)
        folded, feed = self._held.sequence, await self._feed()
        last, missing = await self._log()
        return Evidence(
            last=last,
            missing=missing,
            remembered=newest,
            accepted=accepted,
            read_model=max(folded, self._lost_file()),
            feed=feed,
        )

    async def _log(self) -> tuple[int, int]:
        try:
            state = (await self._connection.jetstream().stream_info(LOG)).state
        except NotFoundError:
            return 0, 0
        return state.last_seq, state.last_seq - state.messages

    async def _feed(self) -> int:
        """Revision of the newest document."""
        try:
            newest = await self._connection.jetstream().get_last_msg(FEED, subjects.FEED_DOCUMENTS)
        except NotFoundError:
            return 0
        try:
            return decode(newest.subject or FEED, newest.data or b"", FeedMessage).revision
        except Undecodable:
            return 0
