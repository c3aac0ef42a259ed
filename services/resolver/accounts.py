"""What accounts have chosen of whom to ask, out of the feed."""

import asyncio
from collections.abc import Callable

from services.resolver.core.routes import WITHDRAW_AFTER_S
from shared.bus.codec import decode
from shared.bus.undecodable import Undecodables
from shared.errors import Undecodable
from shared.events import subjects
from shared.events.documents import FeedMessage, ResolvingDoc
from shared.events.subjects import BadSubject
from shared.tasks import end_if_cancelled


class Accounts:
    """chosen: account → its document; accounts that have chosen nothing are not in it. Reads them as
    shared.bus.lastvalues.Reader.

    changed: called when they may be others, and when they are known for the first time.
    """

    def __init__(self, undecodables: Undecodables, changed: Callable[[], None]) -> None:
        self.chosen: dict[str, ResolvingDoc] = {}
        self.known = False
        """Whether the feed was read whole: names of an account are nothing that other servers should be asked for."""
        self._undecodables = undecodables
        self._changed = changed
        self._in_doubt: set[str] = set()
        self._read_whole = asyncio.Event()

    def begin(self) -> None:
        self._in_doubt = set(self.chosen)

    def message(self, subject: str, data: bytes, sequence: int) -> None:
        try:
            account = subjects.parse_feed(subject).account
            document = decode(subject, data, FeedMessage).document
        except (Undecodable, BadSubject) as problem:
            self._undecodables.note(subjects.FEED_RESOLVING, problem)
            return
        self._in_doubt.discard(account)
        if isinstance(document, ResolvingDoc):
            self.chosen[account] = document
        else:
            self.chosen.pop(account, None)
        if self.known:
            self._changed()

    def caught_up(self) -> None:
        self.known = True
        self._read_whole.set()
        self._changed()

    async def withdraw(self) -> None:
        """Give up what a reading did not bring a while after it, for ever: it may only have been lost in the feed."""
        while True:
            end_if_cancelled()
            await self._read_whole.wait()
            self._read_whole.clear()
            await asyncio.sleep(WITHDRAW_AFTER_S)
            gone, self._in_doubt = self._in_doubt, set()
            for account in gone:
                self.chosen.pop(account, None)
            if gone:
                self._changed()
