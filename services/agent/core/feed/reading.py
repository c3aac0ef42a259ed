"""How a host reads its feed: the audiences it follows, when it reads one again, and when it needs another session.

A session is one connection to the bus. It opens with the host's own audience, whose document names the others; once all
of them were read it is open. What comes over the connection is heard from then on, and read again where a message may
have been missed: after a gap, after a beacon that speaks of more, after a subscription that was too slow, soon after an
election, and every ten minutes. A reading that fails ends the session; the next one reads what this one could not.
"""

from collections.abc import Iterable
from enum import Enum
from typing import TypeAlias

import msgspec

from services.agent.core.documents import Documents, FeedView
from services.agent.core.feed.audience import BEING_READ, FOLLOWED, MIXED, Audience, Event, State
from services.agent.core.feed.heldback import HeldBack
from shared.events.documents import KINDS, Beacon, FeedMessage, SelfDoc
from shared.events.subjects import FeedKey

SELF = KINDS[SelfDoc]
CHECK_EVERY_S = 600.0
"""Servers that lose touch for a moment can swallow live copies unnoticed: what was written since the last reading is
read again. Well below RESUMABLE_S."""
CHECK_AFTER_ELECTION_S = 10.0
"""The same within so long after a change of the stream's leader, not by all hosts at once."""
READINGS_AT_ONCE = 8


class Subscribe(msgspec.Struct, frozen=True):
    """Subscribe to what is written to the audience."""

    audience: str


class Read(msgspec.Struct, frozen=True):
    """Read what the stream holds of the audience from sequence `after` on, 0 for its first message."""

    audience: str
    after: int


class Opened(msgspec.Struct, frozen=True):
    """Everything the bus holds for this host is here: the session may replace the one before it."""


class NewSession(msgspec.Struct, frozen=True):
    """Open another session: this host has other rights than the ones that this session was admitted with."""


Command: TypeAlias = Subscribe | Read | Opened | NewSession


class _Phase(Enum):
    CLOSED = "there is no session, or it only brings what is written until there is another"
    OPENING = "some audiences were not read in this session yet"
    OPEN = "each audience was read in this session"


class Reading:
    """Take what happens to the feed, and give commands to the session. It lives longer than sessions.

    own: the audience of this host alone. All times are seconds on one clock that also runs while the host is suspended;
    `now` never goes backwards. chance: in [0, 1), so that not all hosts do the same at once.
    """

    def __init__(self, own: str, view: FeedView, now: float) -> None:
        self._own = own
        self._view = view
        self._audiences = {own: Audience(own, view)}
        self._picture = HeldBack(view, now)
        self._phase = _Phase.CLOSED
        self._awaited: set[str] = set()
        self._check_at = now
        self._commands: list[Command] = []
        self.stirred = False
        """Whether `advance` has something to do before the deadline that was given last."""

    def documents(self, now: float) -> Documents:
        """The picture, as it was before a reading while one is going on, for HELD_BACK_S at most."""
        return self._picture.documents(now)

    def connected(self, now: float, chance: float) -> None:
        """A session begins. What the one before it still brings is taken too."""
        self.closed()
        self._commands.clear()
        self._phase = _Phase.OPENING
        self._check_at = now + CHECK_EVERY_S * (1 + chance) / 2
        self._follow({self._own}, now)

    def closed(self) -> None:
        """The session is over, and all its readings with it."""
        self._phase = _Phase.CLOSED
        self._awaited.clear()
        for audience in self._in(FOLLOWED):
            audience.on(Event.LOST)

    def heard(self, key: FeedKey, sequence: int, message: FeedMessage | None, before: int, now: float) -> None:
        """A message came live. before: the sequence of the subject's former message, 0 for none. None: undecodable."""
        audience = self._audiences.get(key.audience)
        if audience is None:
            return  # withdrawn while it was on its way
        if message is not None and audience.state is State.LIVE and self._view.gap(key, before):
            self._miss([audience], now)
        self._take(audience, key, sequence, message, now)

    def read(self, key: FeedKey, sequence: int, message: FeedMessage | None, now: float) -> None:
        """A message came in a reading."""
        audience = self._audiences.get(key.audience)
        if audience is not None:
            self._take(audience, key, sequence, message, now)

    def ended(self, name: str, last: int, now: float, chance: float) -> None:
        """A reading brought everything; its last message had sequence `last`, 0 when there was none."""
        audience = self._audiences.get(name)
        if audience is None or audience.state not in BEING_READ:
            return
        if audience.is_another_stream(last):
            audience.begin_beside(now, chance)
            self._commands.append(Read(name, 0))
        else:
            self._end(audience, last, now)
        self.stirred = True

    def told(self, name: str, beacon: Beacon, now: float, chance: float) -> None:
        """A beacon came."""
        audience = self._audiences.get(name)
        if audience is not None:
            before = audience.certainty.due
            audience.certainty.told(beacon, now, chance)
            self.stirred |= audience.certainty.due != before

    def elected(self, now: float, chance: float) -> None:
        """The stream has another leader, and the one before it may have swallowed live copies."""
        self._check_at = min(self._check_at, now + CHECK_AFTER_ELECTION_S * chance)
        self.stirred = True

    def overrun(self, now: float) -> None:
        """The bus was faster than this host, and live messages were dropped."""
        self._miss(self._in(FOLLOWED), now)

    def proved(self, at: float) -> None:
        """Whatever the bus sent over this session until then has arrived."""
        for audience in self._audiences.values():
            audience.proved(at)

    def advance(self, now: float, chance: float) -> None:
        """Time passed, or something happened: begin the readings that are due."""
        if self._phase is not _Phase.CLOSED and now >= self._check_at:
            self._check_at = now + CHECK_EVERY_S
            self._miss(self._in(FOLLOWED), now)
            self._view.forget_deletions(now)
        self._miss([one for one in self._in({State.LIVE}) if one.take_due(now, chance)], now)
        self.stirred = False
        room = READINGS_AT_ONCE - len(self._in(BEING_READ))
        for audience in self._in({State.DUE})[:room]:
            self._commands.append(Read(audience.name, audience.begin(now, chance)))

    def next_deadline(self) -> float | None:
        """When to call `advance` at the latest; None while there is no session."""
        if self._phase is _Phase.CLOSED:
            return None
        due = [audience.next_deadline() for audience in self._in({State.LIVE})]
        return min([self._check_at, *(at for at in due if at is not None)])

    def take(self) -> list[Command]:
        """What the session is to do, in this order. It forgets commands that it did not do when it ends."""
        commands, self._commands = self._commands, []
        return commands

    def take_changed(self) -> bool:
        """Whether the picture changed since the last call."""
        return self._picture.take_changed()

    def _take(self, audience: Audience, key: FeedKey, sequence: int, message: FeedMessage | None, now: float) -> None:
        if audience.took(key, sequence, message):
            self._picture.change()
            if key.kind == SELF:
                self._judge_rights(now)

    def _end(self, audience: Audience, last: int, now: float) -> None:
        if audience.end(last, now):
            self._picture.change()
        self._awaited.discard(audience.name)
        if self._phase is _Phase.OPENING and audience.name == self._own:
            self._follow(self._granted() - self._followed(), now)
        if self._phase is _Phase.OPENING and not self._awaited:
            self._phase = _Phase.OPEN
            self._commands.append(Opened())
            self._judge_rights(now)
        elif audience.name == self._own:
            self._judge_rights(now)
        self._mix(now)

    def _follow(self, names: Iterable[str], now: float) -> None:
        for name in sorted(names):
            audience = self._audiences.setdefault(name, Audience(name, self._view))
            audience.on(Event.FOLLOWED)
            self._awaited.add(name)
            self._commands.append(Subscribe(name))
        self._mix(now)
        self.stirred = True

    def _judge_rights(self, now: float) -> None:
        """Forget what this host may no longer see; ask for a session with the rights that it has now.

        Its own document counts once it is read: a server that is behind may send an old one first.
        """
        if self._phase is not _Phase.OPEN or self._audiences[self._own].state is not State.LIVE:
            return
        granted, followed = self._granted(), self._followed()
        for name in (self._view.audiences | self._audiences.keys()) - granted:
            self._audiences.pop(name, None)
            if self._view.drop_audience(name):
                self._picture.change()
        if followed != granted:
            self.closed()
            self._commands.append(NewSession())
            self.stirred = True
        self._mix(now)

    def _granted(self) -> frozenset[str]:
        """The audiences that this host is in, as its own document says; only its own until there is one."""
        mine = self._view.documents().self_doc
        return frozenset(mine.audiences if mine else ()) | {self._own}

    def _followed(self) -> frozenset[str]:
        return frozenset(audience.name for audience in self._in(FOLLOWED))

    def _miss(self, audiences: Iterable[Audience], now: float) -> None:
        for audience in audiences:
            audience.on(Event.MISSED)
            self.stirred = True
        self._mix(now)

    def _mix(self, now: float) -> None:
        self._picture.mix(bool(self._in(MIXED)), now)

    def _in(self, states: Iterable[State]) -> list[Audience]:
        """Sorted by name."""
        return [audience for _, audience in sorted(self._audiences.items()) if audience.state in states]
