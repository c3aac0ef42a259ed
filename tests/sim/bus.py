"""The stream FEED in memory, as one server after the other has it."""

from shared.events.documents import FeedMessage, Tombstone
from shared.events.subjects import FeedKey


class Bus:
    """The stream FEED: the last message of each subject, with its sequence. undo: what each write replaced."""

    def __init__(self) -> None:
        self.sequence = 0
        self.held: dict[FeedKey, tuple[int, FeedMessage]] = {}
        self.undo: list[tuple[FeedKey, tuple[int, FeedMessage] | None]] = []

    def write(self, key: FeedKey, message: FeedMessage) -> "Live":
        before = self.held.get(key)
        self.sequence += 1
        self.held[key] = self.sequence, message
        self.undo.append((key, before))
        return Live(key, self.sequence, before[0] if before else 0, message)

    def read(self, audience: str, start: int, upto: int) -> list[tuple[FeedKey, int, FeedMessage]]:
        """What the audience's subjects hold from sequence `start` on, on a server that has got everything to `upto`."""
        former = dict(reversed(self.undo[upto:]))
        held = ((key, former.get(key, newest)) for key, newest in self.held.items() if key.audience == audience)
        found = [(key, *there) for key, there in held if there and there[0] >= start]
        return sorted(found, key=lambda one: one[1])

    def expire(self) -> None:
        """Deletions are forgotten."""
        self.held = {key: held for key, held in self.held.items() if not isinstance(held[1].document, Tombstone)}


class Live:
    """A message as the server sends it on. before: the sequence of the subject's former message, 0 for none."""

    def __init__(self, key: FeedKey, sequence: int, before: int, message: FeedMessage) -> None:
        self.key, self.sequence, self.before, self.message = key, sequence, before, message


class Pull:
    """A reading of an audience from sequence `after` on: what there is when it goes on of what there was at first.

    upto: what the server had when the reading began. last: the last sequence that came, 0 for none.
    """

    def __init__(self, bus: Bus, audience: str, after: int, upto: int) -> None:
        self.last = 0
        self._bus = bus
        self._audience = audience
        self._next = after
        self._upto = upto

    def take(self, count: int | None, upto: int) -> list[tuple[FeedKey, int, FeedMessage]]:
        """The next messages, all for None. upto: what the server has by now. Fewer than `count` are the last ones."""
        there = self._bus.read(self._audience, self._next, upto)
        taken = [one for one in there if one[1] <= self._upto][:count]
        for _, sequence, _ in taken:
            self.last, self._next = sequence, sequence + 1
        return taken
