"""The forwarder's mind: questions in, answers and commands out. It has no socket, and `now` is given to it.

A question of somebody who may ask for the name is answered from what is known, or put to the host's nameservers.
Before an answer with addresses leaves, they are in the firewall's sets of every route that the name belongs to (D4):
clients may use them from the moment on that they read them. What was answered a moment ago to the same bytes is found
by these bytes and costs two look-ups.
"""

from collections import Counter, deque
from collections.abc import Hashable, Iterable
from typing import TypeAlias

import msgspec

from services.agent.core.forwarder.answers import (
    OTHER_ERROR,
    STALE,
    STALE_NXDOMAIN,
    TCP_BYTES,
    Answer,
    failure,
    sent,
)
from services.agent.core.forwarder.names import Names, labels
from services.agent.core.forwarder.questions import (
    ANY,
    IN,
    MOST_PASSED,
    NOERROR,
    NXDOMAIN,
    RD,
    REFUSED,
    TRANSFERS,
    Question,
    asked_upstream,
    lower_section,
    read,
)
from services.agent.core.forwarder.terms import NOTHING, Never, Terms

GRACE_S = 600.0
"""For how long after an answer's time its addresses stay permitted: programs use what they were told somewhat later,
and remember it for longer than they should."""
STALE_FOR_S = 86_400.0
"""How long a known answer may stand in for one that cannot be had (RFC 8767 §5: 1 to 3 days)."""
STALE_TTL_S = 30.0
"""And for how long it is good each time, while nobody is asked again (RFC 8767 §4, §5)."""
PATIENCE_S = 1.8
"""After so long a known answer is given while the nameservers are still being waited for (RFC 8767 §5)."""

MOST_BYTES = 32 << 20
"""What is remembered, all in all; the oldest goes first."""
ENTRY_BYTES = 600
"""Of an answer, besides its body and what follows."""
ADDRESS_BYTES = 80
TIME_BYTES = 130
LEFT_OUT_BYTES = 250
"""Of each address, time and left out address of an answer, as objects in memory."""
MOST_HOT_BYTES = 8 << 20
"""Of packets that are answered by their bytes, and of these answers; they are good for a second."""
HOT_BYTES = 300
"""Of each, besides them."""
LARGEST_HOT_BYTES = 512
"""A packet of more is no plain question."""
MOST_LOOKUPS = 4_096
MOST_OF_ONE = 512
"""Look-ups that one client has under way: whoever invents names below a wildcard leaves room for others."""
MOST_WAITING = 64
"""Who waits for one look-up, or for its addresses; others hear that it is too much."""
MOST_SHOWN = 32

REFUSAL = Answer(rcode=REFUSED, ttl_s=0.0)
OVERLOADED = failure(OTHER_ERROR)
NOT_EVERYTHING = Answer(
    rcode=NOERROR,
    ttl_s=300.0,
    body=b"\xc0\x0c\0\x0d\0\x01" + (300).to_bytes(4) + b"\0\x09\x07RFC8482\0",
    counts=(1, 0),
)
"""To who asks for records of any kind (RFC 8482 §4.2)."""

Key: TypeAlias = tuple[bytes, bool, int]


class Ask(msgspec.Struct, frozen=True):
    """Put a question to the nameservers: `answered` wants to hear what they say. packet: with id 0."""

    number: int
    question: Question
    packet: bytes


class Fill(msgspec.Struct, frozen=True):
    """Have the addresses permitted for these routes, for so long: `filled` wants to hear of it."""

    number: int
    routes: tuple[str, ...]
    name: str
    addresses: tuple[str, ...]
    for_s: float


class Send(msgspec.Struct, frozen=True):
    """client: as it was given with the question."""

    client: Hashable
    packet: bytes


class Told(msgspec.Struct, frozen=True):
    """What `resolve` asked for. ttl_s: for how long it is good from now on."""

    client: Hashable
    answer: Answer
    ttl_s: float


Command: TypeAlias = Ask | Fill | Send | Told


class _Entry(msgspec.Struct):
    """What is known of a question. filled: routes that its addresses are permitted for, until permitted_until at least.
    filling: number of the Fill that is under way. again_at: when nameservers that failed may be asked again."""

    answer: Answer
    came_at: float
    good_until: float
    filled: frozenset[str] = frozenset()
    permitted_until: float = 0.0
    filling: int = 0
    again_at: float = 0.0


class _Waiting(msgspec.Struct, frozen=True):
    """source: the client's address, "" for this host. limit: bytes of the largest answer, 0 for who wants to be told
    and not to be sent anything."""

    source: str
    client: Hashable
    question: Question
    limit: int


class _Lookup(msgspec.Struct):
    key: Key
    question: Question
    waiting: list[_Waiting]
    source: str


class _Filling(msgspec.Struct):
    entry: _Entry
    answer: Answer
    routes: frozenset[str]
    waiting: list[_Waiting]
    until: float


class Forwarder:
    """mark: bytes by which this forwarder knows questions that it has passed on itself.

    counts: what became of questions since the beginning. left_out: name → why an address of it is not given, the last
    few.
    """

    def __init__(self, mark: bytes) -> None:
        self._mark = mark
        self._terms = NOTHING
        self._names = Names({})
        self._audiences: tuple[frozenset[str], ...] = ()
        self._hot: list[dict[bytes, tuple[float, bytes]]] = []
        self._hot_bytes = 0
        self._cache: dict[Key, _Entry] = {}
        self._held = 0
        self._lookups: dict[int, _Lookup] = {}
        self._under_way: dict[Key, int] = {}
        self._of_one = Counter[str]()
        self._fillings: dict[int, _Filling] = {}
        self._patient = deque[tuple[float, int]]()
        self._number = 0
        self._commands: list[Command] = []
        self.never = Never((), ())
        self.counts = Counter[str]()
        self.left_out: dict[str, str] = {}

    @property
    def sizes(self) -> dict[str, int]:
        """How much of each thing is held, for who watches that nothing grows."""
        return {
            "answers": len(self._cache),
            "bytes": self._held,
            "hot": sum(map(len, self._hot)),
            "hot bytes": self._hot_bytes,
            "lookups": len(self._lookups),
            "fillings": len(self._fillings),
            "patient": len(self._patient),
        }

    def follow(self, terms: Terms) -> None:
        """Go by other terms from now on."""
        former, self._terms = self._terms, terms
        self._names = Names(terms.domains)
        self._audiences = tuple(map(frozenset, terms.audiences))
        self._forget_hot()
        if (former.overlay, former.own) != (terms.overlay, terms.own):
            self.never = Never(terms.overlay, terms.own)
            self._cache.clear()
            self._held = 0
        if former.domains.keys() - terms.domains.keys():
            for entry in self._cache.values():
                entry.filled &= terms.domains.keys()

    def hear(self, packet: bytes, source: str, client: Hashable, now: float, *, tcp: bool = False) -> bytes | None:
        """The answer to a packet; None when it comes later, with a command, or never. source: canonical address."""
        audience = self._terms.askers.get(source)
        if audience is not None and not tcp:
            found = self._hot[audience].get(packet[2:])
            if found is not None and now < found[0]:
                self.counts["hot"] += 1
                return packet[:2] + found[1]
        question = read(packet)
        if question is None:
            self.counts["silent"] += 1
            return None
        limit = TCP_BYTES if tcp else question.limit
        answer = self._at_once(question, audience)
        if answer is not None:
            return sent(question, answer, 0.0, limit)
        entry = self._looked_up(_Waiting(source, client, question, limit), now)
        if entry is None:
            return None
        said = sent(question, entry.answer, now - entry.came_at, limit)
        if audience is not None and not tcp and len(packet) <= LARGEST_HOT_BYTES:
            self._hot_bytes += len(packet) + len(said) + HOT_BYTES
            if self._hot_bytes > MOST_HOT_BYTES:
                self._forget_hot()
            until = min(entry.good_until, entry.came_at + int(now - entry.came_at) + 1)
            self._hot[audience][packet[2:]] = until, said[2:]
        return said

    def resolve(self, name: str, kind: int, client: Hashable, now: float) -> None:
        """Find out what the name is, as if a client had asked; Told says it, at once for one that nobody serves."""
        asked = labels(name)
        section = b"".join(bytes((len(label),)) + label for label in asked) + b"\0" + kind.to_bytes(2) + b"\0\x01"
        question = Question(0, section, asked, kind, IN, RD, edns=True)
        waiting = _Waiting("", client, question, 0)
        if not self._names.routes(asked):
            self._give([waiting], REFUSAL, 0.0, 0.0)
            return
        entry = self._looked_up(waiting, now)
        if entry is not None:
            self._give([waiting], entry.answer, now - entry.came_at, entry.good_until - now)

    def answered(self, number: int, answer: Answer, now: float) -> None:
        """What the nameservers said to an Ask, in the end."""
        lookup = self._lookups.pop(number, None)
        if lookup is None:
            return
        del self._under_way[lookup.key]
        self._of_one[lookup.source] -= 1
        if not self._of_one[lookup.source]:
            del self._of_one[lookup.source]
        known = self._cache.get(lookup.key)
        if answer.failed and known is not None and _may_stand_in(known, now):
            known.again_at = now + STALE_TTL_S
            self._stand_in(lookup, known, now)
            return
        if answer.left_out:
            self._show(lookup.question, answer)
        entry = _Entry(answer, now, now + answer.ttl_s)
        self._remember(lookup.key, entry)
        if lookup.waiting:
            self._settle(entry, answer, lookup.waiting, now)

    def filled(self, number: int, problem: str, now: float) -> None:
        """What became of a Fill; without it nobody hears of the addresses."""
        filling = self._fillings.pop(number, None)
        if filling is None:
            return
        if problem:
            self.counts["unfilled"] += len(filling.waiting)
            self._give(filling.waiting, OVERLOADED, 0.0, 0.0)
            return
        entry, answer = filling.entry, filling.answer
        entry.filled |= filling.routes & self._terms.domains.keys()
        entry.permitted_until = filling.until
        if answer is entry.answer:
            self._give(filling.waiting, answer, now - entry.came_at, entry.good_until - now)
        else:
            self._give(filling.waiting, answer, 0.0, answer.ttl_s)

    def advance(self, now: float) -> None:
        """Let known answers stand in for those that take too long."""
        while self._patient and self._patient[0][0] <= now:
            _, number = self._patient.popleft()
            lookup = self._lookups.get(number)
            known = self._cache.get(lookup.key) if lookup is not None else None
            if lookup is not None and lookup.waiting and known is not None and _may_stand_in(known, now):
                self._stand_in(lookup, known, now)

    def next_at(self) -> float | None:
        """When `advance` has something to do."""
        return self._patient[0][0] if self._patient else None

    def take(self) -> list[Command]:
        """The commands since the last time."""
        taken, self._commands = self._commands, []
        return taken

    def _at_once(self, question: Question, audience: int | None) -> Answer | None:
        """The answer to what needs no look-up."""
        if question.rcode != NOERROR:
            self.counts["faulty"] += 1
            return Answer(rcode=question.rcode, ttl_s=0.0)
        allowed = self._audiences[audience] if audience is not None else frozenset[str]()
        is_for_us = question.klass == IN and question.kind not in TRANSFERS
        if not is_for_us or allowed.isdisjoint(self._names.routes(question.name)):
            self.counts["refused"] += 1
            return REFUSAL
        if self._mark in question.passed or len(question.passed) >= MOST_PASSED:
            self.counts["loops"] += 1
            return OVERLOADED
        return NOT_EVERYTHING if question.kind == ANY else None

    def _looked_up(self, waiting: _Waiting, now: float) -> _Entry | None:
        """What is known and may be given now; else it is found out, and told later."""
        question = waiting.question
        key = lower_section(question), question.dnssec_ok, question.flags & 0x10
        entry = self._cache.get(key)
        if entry is not None:
            if now < entry.good_until:
                if self._unfilled(question, entry):
                    self._settle(entry, entry.answer, [waiting], now)
                    return None
                self.counts["known"] += 1
                return entry
            if now < entry.again_at and _may_stand_in(entry, now):
                self._settle(entry, _stale(entry.answer), [waiting], now)
                return None
        self._ask(key, waiting, now, is_known=entry is not None)
        return None

    def _ask(self, key: Key, waiting: _Waiting, now: float, *, is_known: bool) -> None:
        number = self._under_way.get(key)
        if number is not None:
            others = self._lookups[number].waiting
            if len(others) < MOST_WAITING:
                others.append(waiting)
            else:
                self._drop([waiting])
            return
        if len(self._lookups) >= MOST_LOOKUPS or self._of_one[waiting.source] >= MOST_OF_ONE:
            self._drop([waiting])
            return
        self.counts["asked"] += 1
        number = self._next()
        question = waiting.question
        self._lookups[number] = _Lookup(key, question, [waiting], waiting.source)
        self._of_one[waiting.source] += 1
        self._under_way[key] = number
        if is_known:
            self._patient.append((now + PATIENCE_S, number))
        passed = (*question.passed, self._mark)
        self._commands.append(Ask(number, question, asked_upstream(question, passed)))

    def _stand_in(self, lookup: _Lookup, known: _Entry, now: float) -> None:
        self.counts["stale"] += len(lookup.waiting)
        waiting, lookup.waiting = lookup.waiting, []
        if waiting:
            self._settle(known, _stale(known.answer), waiting, now)

    def _settle(self, entry: _Entry, answer: Answer, waiting: list[_Waiting], now: float) -> None:
        """Give an answer once its addresses are permitted; one that stands in extends that for who keeps using it."""
        routes = self._names.routes(waiting[0].question.name)
        if not routes:
            self._give(waiting, REFUSAL, 0.0, 0.0)
            return
        until = now + answer.ttl_s + GRACE_S
        if not answer.addresses or (entry.filled.issuperset(routes) and entry.permitted_until > until - GRACE_S / 2):
            age_s = now - entry.came_at if answer is entry.answer else 0.0
            self._give(waiting, answer, age_s, max(answer.ttl_s - age_s, 0.0))
            return
        under_way = self._fillings.get(entry.filling)
        if under_way is not None and under_way.answer == answer and under_way.routes.issuperset(routes):
            room = MOST_WAITING - len(under_way.waiting)
            under_way.waiting += waiting[:room]
            self._drop(waiting[room:])
            return
        number = entry.filling = self._next()
        self._fillings[number] = _Filling(entry, answer, frozenset(routes), waiting, until)
        name = b".".join(waiting[0].question.name).decode("ascii", "backslashreplace")
        self._commands.append(Fill(number, routes, name, answer.addresses, answer.ttl_s + GRACE_S))

    def _unfilled(self, question: Question, entry: _Entry) -> bool:
        return bool(entry.answer.addresses) and not entry.filled.issuperset(self._names.routes(question.name))

    def _drop(self, waiting: list[_Waiting]) -> None:
        """Tell those there is no room for: whoever asked by TCP, or waits for Told, does not ask again."""
        self.counts["dropped"] += len(waiting)
        self._give(waiting, OVERLOADED, 0.0, 0.0)

    def _give(self, waiting: Iterable[_Waiting], answer: Answer, age_s: float, ttl_s: float) -> None:
        for one in waiting:
            if one.limit:
                self._commands.append(Send(one.client, sent(one.question, answer, age_s, one.limit)))
            else:
                self._commands.append(Told(one.client, answer, max(ttl_s, 0.0)))

    def _remember(self, key: Key, entry: _Entry) -> None:
        former = self._cache.pop(key, None)
        if former is not None:
            self._held -= _bytes(former)
        self._cache[key] = entry
        self._held += _bytes(entry)
        while self._held > MOST_BYTES:
            oldest = next(iter(self._cache))
            self._held -= _bytes(self._cache.pop(oldest))

    def _show(self, question: Question, answer: Answer) -> None:
        self.counts["left out"] += len(answer.left_out)
        name = b".".join(question.name).decode("ascii", "backslashreplace")
        self.left_out.pop(name, None)
        self.left_out[name] = answer.left_out[0][1]
        if len(self.left_out) > MOST_SHOWN:
            del self.left_out[next(iter(self.left_out))]

    def _forget_hot(self) -> None:
        """Also what was counted twice: a packet that was answered anew takes the place of what it was before."""
        self._hot = [{} for _ in self._audiences]
        self._hot_bytes = 0

    def _next(self) -> int:
        self._number += 1
        return self._number


def _may_stand_in(known: _Entry, now: float) -> bool:
    return not known.answer.failed and now < known.good_until + STALE_FOR_S


def _stale(answer: Answer) -> Answer:
    """The answer for as long as nobody has a newer one."""
    return msgspec.structs.replace(
        answer,
        ttl_s=STALE_TTL_S,
        body=_with_ttl(answer, int(STALE_TTL_S)),
        times=tuple((position, int(STALE_TTL_S)) for position, _ in answer.times),
        why=(*answer.why, STALE_NXDOMAIN if answer.rcode == NXDOMAIN else STALE),
    )


def _with_ttl(answer: Answer, ttl_s: int) -> bytes:
    body = bytearray(answer.body)
    for position, _ in answer.times:
        body[position : position + 4] = ttl_s.to_bytes(4)
    return bytes(body)


def _bytes(entry: _Entry) -> int:
    answer = entry.answer
    return (
        len(answer.body)
        + ENTRY_BYTES
        + ADDRESS_BYTES * len(answer.addresses)
        + TIME_BYTES * len(answer.times)
        + LEFT_OUT_BYTES * len(answer.left_out)
    )
