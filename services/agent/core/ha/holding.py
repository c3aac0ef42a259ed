"""Who answers for a return address in the LAN: one routing peer's part in it, decided without a bus, a LAN or a clock.

The lease on the bus says who may hold the address; it has no end, so that a holder goes on while the bus is away.
Whether the holder is there is asked in the LAN, where its kernel answers. Whoever finds it silent contests the lease,
and takes it when the holder, which hears of that, does not object in time. So does who gets the packets of clients that
the holder gets no more: they cannot reach it, although it is there. Without a bus a holder that is silent for longer is
followed by whoever ranks first of those that see that. All times are seconds on one monotonic clock.
"""

from collections import deque
from collections.abc import Iterator
from typing import TypeAlias

import msgspec

from services.agent.core.ha.used import Used
from shared.events.signals import Lease, LeaseWish

ASK_EVERY_S = 0.1
"""How often a standby asks for the holder: the question goes to it alone, 420 bytes/s."""
SILENT = 3
"""Questions without an answer after which the holder is contested; one more for each candidate that ranks before."""
ALONE = 6
"""The same without a bus, where nobody can object: three lost packets in a row are too little for that."""
LATE_S = 0.5
"""Who comes this much too late to ask again was held up itself, and has heard no answer for that reason."""
SESSION_WITHIN_S = 2.0
"""A host that starts waits so long for a word of the bus."""
OBJECT_WITHIN_S = 0.2
"""A holder that is there objects to a contest within a round trip to management, and one of its event loop."""
CHECK_EVERY_S = 1.0
"""How often a holder asks whether anybody else answers for its address."""
LISTEN_S = 0.3
"""A holder that receives nothing for so long while it is contested is deaf, or unused: whoever contests asks three
times, and clients that leave it have sent in vain for longer."""
GOOD_FOR_S = 3.0
"""A candidate that ranks before the holder asks for the address after it was well for so long (G4), and for twice as
long after each time that it lost it within the last minute."""
DAMPED_S, MOST_FALLS = 60.0, 6
USED_FOR_S = 0.05
"""A standby through which clients send contests at once, and takes the address once they have done so for this long."""
USED_AGAIN_S = 0.5
"""It contests after twice that, and twice as long each time, if it lost the address within the last minute, or if the
holder had clients too when it did so before."""
OBJECT_USED_WITHIN_S = 0.1
"""So long a holder may take to object to that: clients go to who takes it wrongly, and come to no harm."""
MOST_DOUBLED = 6
FOLLOWED_S, FOLLOW_WITHIN_S = 2.0, 5.0
"""That is how long it takes until so long after the holder changed: a client may hear of it late."""
POLITE_S = 1.0
"""A contest of another candidate, or a lease that was given back to one, is left to it for so long."""
AGAIN_S = 1.0
MOST_AGAIN_S = 30.0
"""After a contest that was objected to, how long until the next one: twice as long each time."""
DEFEND_S = 10.0
"""Who is not sure of its lease defends the address once within so long, and then gives it up (RFC 5227, 2.4)."""
OFFERED_EVERY_S = 30.0
"""Who is to leave and is the only one offers the address to others that often, and is without it for a second then."""
SETTLES_S = 0.3
"""What the former holder answered before it dropped the address has arrived."""
ANNOUNCE_AFTER_S = (0.0, 0.1, 1.0)


MOMENT_S = 0.001
"""What `used_s` says of packets that have just come: 0.0 says that none have."""
ANEW = -1
"""`known` of a wish that is answered at once, however the lease stands."""


class Ask(msgspec.Struct, frozen=True):
    """Ask in the LAN who has the address. to: MAC of whoever answered last, "" for everybody."""

    to: str = ""


class Announce(msgspec.Struct, frozen=True):
    """Tell the LAN that this host has the address: gratuitous ARP, or an unsolicited neighbour advertisement."""


Action: TypeAlias = Ask | Announce


class Wish(msgspec.Struct, frozen=True):
    """What to ask management for now; a watch is open for as long as nothing else is wished. known: ANEW, or the number
    of the lease that it goes by."""

    wish: LeaseWish
    known: int
    preferred: bool = False
    hears: bool = False
    used_s: float = 0.0


class Holding:
    """One return address. me: this peer's id. adopted: the kernel has the address from a former run.

    holds: whether the address shall be on this host now. lease: as last told, None before that.
    """

    def __init__(self, me: str, now: float, *, adopted: bool = False) -> None:
        self._me = me
        self._now = now
        self.holds = adopted
        self.lease: Lease | None = None
        self._reached = self._doubted = False
        self._away_since = now + SESSION_WITHIN_S
        self._seen_at = now
        self._vacated_by = ""
        self._confirmed = False
        self._granted = False
        self._yielding = False
        self._leaving = False
        self._able = adopted
        self._able_since = now
        self._betters: frozenset[str] = frozenset()
        self._present = False
        self._since = now
        self._used = Used()
        self._holder, self._changed_at = "", float("-inf")
        self._received = 0
        self._received_when_answered = 0
        self._samples: deque[tuple[float, int]] = deque()
        self.answered_by = ""
        self._answered_at = float("-inf")
        self._asked = False
        self._silent = 0
        self._next_ask = now
        self._announcements: deque[float] = deque()
        self._objections = self._overruled = 0
        self._contest_after = now
        self._falls: deque[float] = deque(maxlen=MOST_FALLS)
        self._defended_at = float("-inf")
        self._actions: list[Action] = []

    def candidate(self, able: bool, betters: frozenset[str], now: float, *, leaving: bool = False) -> None:
        """able: whether this host may hold it. betters: the candidates that rank before it, as far as it sees them.

        leaving: it is drained, and holds the address only where nobody else wants it.
        """
        self._now = now
        self._betters = betters if self.lease is None else self._ranked_before(self.lease, betters)
        if leaving and not self._leaving and (self.holds or self._owns()):
            self._give_way()
        if self._leaving and not leaving:
            self._able_since = now
        self._leaving = leaving
        if able == self._able:
            return
        self._able, self._able_since = able, now
        self._asked, self._silent, self._next_ask = False, 0, now
        if not able and self.holds:
            self._falls.append(now)
            self._drop()

    def present(self, present: bool, now: float) -> None:
        """Whether the kernel has the address."""
        self._now = now
        if present and not self._present and self.holds:
            self._announcements.extend(now + after for after in ANNOUNCE_AFTER_S)
        self._present = present

    def received(self, packets: int, now: float) -> None:
        """How many packets the LAN's interface has received so far."""
        self._now, self._received = now, packets
        self._samples.append((now, packets))
        while len(self._samples) > 1 and self._samples[1][0] <= now - LISTEN_S:
            self._samples.popleft()

    def used(self, packets: int, now: float) -> None:
        """How many packets of clients for the LAN have come by this host so far."""
        self._now = now
        self._used.counted(packets, now)

    def answered(self, mac: str, now: float) -> None:
        """Another host of the LAN has the address, or says so. What was received until then was counted before."""
        self._now, self.answered_by, self._answered_at = now, mac, now
        self._asked, self._silent = False, 0
        self._received_when_answered = self._received
        self._objections = 0
        if self.holds and now - self._since >= SETTLES_S:
            self._conflict()

    def told(self, lease: Lease | None, now: float) -> None:
        """How the lease stands; None while nobody says so."""
        self._now, self._doubted = now, False
        if lease is None:
            self._away_since = now if self._reached else self._away_since
            self._reached = False
            return
        before, self.lease, self._reached = self.lease, lease, True
        if before is None or before.number != lease.number:
            self._seen_at = now
            if before and before.holder != lease.holder:
                self._silent = 0  # the new holder has not been asked yet
                self._used.forget()
            if lease.holder not in ("", self._holder):
                self._changed_at = now if self._holder else self._changed_at
                self._holder, self._overruled = lease.holder, 0
            self._vacated_by = before.holder if before and before.holder != self._me and not lease.holder else ""
        if before and before.contender == self._me != lease.contender and lease.holder not in ("", self._me):
            self._objected()
        if lease.holder == self._me:
            self._granted = self._granted or (before is not None and before.holder != self._me)
            self._yielding = self._yielding or (before is None and self._leaving and not self.holds)
            self._confirmed = self.holds
            self._answer_contest(lease)
        else:
            self._granted = self._yielding = False
            if self.holds and self._confirmed and lease.holder:
                self._falls.append(now)
                self._drop()
        self._decide()

    def advance(self, now: float) -> None:
        """Time has passed: answers that came until now were told before."""
        self._now = now
        if now > self._next_ask + LATE_S:
            self._asked, self._silent = False, 0
        if (self._able or self.holds) and self._next_ask <= now:
            self._silent += self._asked and not self.holds
            self._ask()
        if self._leaving and self.holds and self._reached and now >= self._since + OFFERED_EVERY_S:
            self._give_way()
        while self._announcements and self._announcements[0] <= now:
            self._announcements.popleft()
            self._actions.append(Announce())
        self._decide()

    def take(self) -> list[Action]:
        """What to do in the LAN, in order; each once."""
        actions, self._actions = self._actions, []
        return actions

    def next_deadline(self) -> float:
        """When to advance next, if nothing happens before."""
        return min(self._deadlines())

    @property
    def owes(self) -> bool:
        """Whether this host has the address, or a lease to give back."""
        return self.holds or self._present or (self._owns() and self._reached)

    @property
    def stranger(self) -> str:
        """The MAC of a host that answers for the address while no routing peer has its lease, "" for nobody."""
        is_free = self.lease is not None and self._reached and not self.lease.holder
        is_answered = not self._silent and self._answered_at > self._seen_at + POLITE_S
        return self.answered_by if self._able and is_free and is_answered else ""

    def wish(self) -> Wish:
        """What to ask management for."""
        lease = self.lease
        if lease is None or self._doubted:
            return Wish("watch", ANEW)
        wish: LeaseWish = "watch"
        preferred, used_s = False, 0.0
        if lease.holder == self._me:
            if not self.holds and not self._present and (not self._able or self._yielding or self._is_answered()):
                wish = "release"
            elif self.holds and lease.contender:
                wish = "keep"
        elif self._able and not lease.holder:
            wish = "claim" if self._may_claim(lease) else "watch"
        elif self._able and lease.contender == self._me:
            is_over = self._now >= self._seen_at + _object_within_s(lease)
            is_right = self.holds or self._silent >= SILENT or self._is_used()
            wish = "claim" if is_over and is_right else "watch"
        elif self._able and not (lease.contender and self._now < self._seen_at + POLITE_S):
            preferred, used_s = self._is_preferred(lease), self._used_instead_s()
            wish = "contest" if preferred or used_s or self._finds_silent(lease) else "watch"
        hears = wish == "contest" and self._received > self._received_when_answered
        return Wish(wish, lease.number, preferred, hears, used_s)

    def _owns(self) -> bool:
        """Whether the lease, as last told, is this peer's."""
        return self.lease is not None and self.lease.holder == self._me

    def _deadlines(self) -> Iterator[float]:
        yield self._next_ask if self._able or self.holds else self._now + CHECK_EVERY_S
        if self.holds:
            yield self._now + LISTEN_S
        if self._announcements:
            yield self._announcements[0]
        if self.lease and self.lease.contender == self._me:
            over_at = self._seen_at + _object_within_s(self.lease)
            if self._now < over_at:
                yield over_at

    def _decide(self) -> None:
        """Take the address where nothing has to be asked for it any more."""
        if self.holds or not self._able or (self._yielding and self._reached):
            return
        if self._reached:
            if self._owns() and (self._granted or self._silent >= SILENT):
                self._hold(confirmed=True)
            return
        holder = self.lease.holder if self.lease else ""
        turns = 2 * len(self._betters - {holder}) + self._last_s() / ASK_EVERY_S  # of those that go first
        if self._now >= self._away_since + turns * ASK_EVERY_S:
            is_mine = holder == self._me and self._silent >= SILENT
            if is_mine or self._silent >= ALONE + turns:
                self._hold(confirmed=holder == self._me)

    def _hold(self, *, confirmed: bool) -> None:
        self.holds, self._confirmed, self._since = True, confirmed, self._now
        self._next_ask = self._now + CHECK_EVERY_S
        self._asked = False

    def _ranked_before(self, lease: Lease, seen: frozenset[str]) -> frozenset[str]:
        """Management knows all candidates, also those that this host may not see."""
        known = self._me in lease.candidates
        return frozenset(lease.candidates[: lease.candidates.index(self._me)]) if known else seen

    def _give_way(self) -> None:
        """Drop the address, and give the lease back after that."""
        self._drop()
        self._yielding = True

    def _drop(self) -> None:
        self.holds = self._confirmed = False
        self._announcements.clear()
        self._doubted = False
        self._used.forget()
        self._asked, self._silent, self._next_ask = False, 0, self._now
        self._received_when_answered = self._received

    def _ask(self) -> None:
        self._asked = True
        self._next_ask = self._now + (CHECK_EVERY_S if self.holds else ASK_EVERY_S)
        self._actions.append(Ask("" if self.holds or self._silent else self.answered_by))

    def _conflict(self) -> None:
        """Two have the address. The lease's owner stays; without a word of the bus, whoever ranks first.

        Who believes that it is the owner asks management again, and is without its word until that answers: it may be
        cut off from it and not know yet.
        """
        if self._reached and self._confirmed and not self._doubted:
            self._doubted, self._defended_at = True, self._now
            self._announce()
        elif (self._confirmed or not self._betters) and self._now >= self._defended_at + DEFEND_S:
            self._defended_at = self._now
            self._announce()
        elif self._now >= self._defended_at + SETTLES_S:
            self._drop()

    def _announce(self) -> None:
        """Once within a second: the other one may say the same."""
        if not self._announcements:
            self._announcements.extend((self._now, self._now + CHECK_EVERY_S))

    def _answer_contest(self, lease: Lease) -> None:
        """Give way to a candidate that ranks before this one, to one that hears the LAN where this one is deaf, and to
        one that has had the packets of all clients since it has any."""
        if not self.holds or not lease.contender:
            return
        at, packets = self._samples[0] if self._samples else (self._now, 0)
        is_deaf = at <= self._now - LISTEN_S and packets == self._received
        is_better = lease.preferred and lease.contender in self._betters
        is_left = lease.used_s > 0.0 and self._now - self._used.last >= max(lease.used_s, LISTEN_S)
        if is_left:
            self._falls.append(self._now)
        if is_better or is_left or self._leaving or (lease.hears and is_deaf):
            self._give_way()

    def _objected(self) -> None:
        """The holder is there, on the bus at least: this one was wrong about it."""
        self._contest_after = self._now + min(MOST_AGAIN_S, AGAIN_S * 2**self._objections)
        self._objections += 1
        self._overruled += 1
        self._used.forget()
        if self.holds:
            self._drop()

    def _is_answered(self) -> bool:
        """Whether another host has the address now. A lease that was granted has just been another's."""
        return not self._granted and self._answered_at > self._able_since and not self._silent

    def _may_claim(self, lease: Lease) -> bool:
        """Of a free lease: to whoever asked for it first, then by rank; the first time only where nobody answers."""
        waited_s = self._now - self._seen_at
        if lease.contender not in ("", self._me) and waited_s < POLITE_S:
            return False
        if self.holds or lease.contender == self._me:
            return True
        is_silent = bool(self._vacated_by) or self._silent >= SILENT
        return is_silent and waited_s >= self._last_s() + ASK_EVERY_S * len(self._betters - {self._vacated_by})

    def _finds_silent(self, lease: Lease) -> bool:
        if self._now < self._contest_after:
            return False
        places = len(self._betters - {lease.holder}) + self._last_s() / ASK_EVERY_S
        return self.holds or self._silent >= SILENT + places

    def _used_instead_s(self) -> float:
        """For how long clients have sent through this host and not through the holder, 0.0 if that may pass."""
        since = self._used.since(self._now)
        if since is None or self._leaving or self._now < self._contest_after:
            return 0.0
        is_new = self._now < self._changed_at + FOLLOW_WITHIN_S
        doubled = min(MOST_DOUBLED, self._recent_falls() + self._overruled)
        wait_s = (FOLLOWED_S if is_new else USED_AGAIN_S) * (1 << doubled) if is_new or doubled else 0.0
        return max(MOMENT_S, self._now - since) if self._now - since >= wait_s else 0.0

    def _is_used(self) -> bool:
        """Whether clients have sent through this host more than once."""
        since = self._used.since(self._now)
        return since is not None and self._used.last >= since + USED_FOR_S

    def _recent_falls(self) -> int:
        return sum(fell > self._now - DAMPED_S for fell in self._falls)

    def _last_s(self) -> float:
        """How long one that is to leave lets all others go first."""
        return POLITE_S if self._leaving else 0.0

    def _is_preferred(self, lease: Lease) -> bool:
        """Whether this one ranks before the holder, which is well, and has been well itself for long enough."""
        if (
            self.holds
            or self._silent
            or self._leaving
            or lease.holder in self._betters
            or self._now < self._contest_after
        ):
            return False
        return self._now >= self._able_since + GOOD_FOR_S * (1 << max(0, self._recent_falls() - 1))


def _object_within_s(lease: Lease) -> float:
    return OBJECT_USED_WITHIN_S if lease.used_s else OBJECT_WITHIN_S
