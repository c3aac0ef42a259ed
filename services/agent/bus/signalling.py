"""What this host tells other peers, sealed so that only they can read it, and heartbeats.

A signal is 24 nonce bytes and the NaCl box of the message, from the sender's to the receiver's WireGuard key. A box
opens with the same pair of keys in either direction, so the last 8 nonce bytes say who sent it to whom: a signal that
comes back to its sender opens, and is refused.
"""

import base64
import hashlib
import math
import secrets
import time
from collections.abc import Collection

import msgspec
import structlog
from nacl.exceptions import CryptoError
from nacl.public import Box, PrivateKey, PublicKey

from services.agent.cells import Watch
from services.agent.ports import Publish
from services.agent.situation import Situation
from shared.bus.codec import encode
from shared.events import subjects
from shared.events.signals import BEAT_INTERVAL_S, Beat, Candidates, Departed, Signal
from shared.tasks import end_if_cancelled

MAX_AGE_S = 300.0
"""Older signals are refused, and those from so far ahead: hosts agree on the time to within minutes."""

NONCE_BYTES, DIRECTION_BYTES = 24, 8

log = structlog.get_logger()

MOST_ROUTES = 400
"""In one word of departure: 9 KB with ids of 20 characters, and services/signal takes 16."""

_decoder = msgspec.msgpack.Decoder(Signal)


class Unusable(Exception):
    """Drop the signal: `problem` says why."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem


def seal(message: Signal, own: PrivateKey, receiver_key: str, direction: tuple[str, str]) -> bytes:
    """The message for one receiver. receiver_key: base64. direction: sender's and receiver's peer id.

    Raises CryptoError or ValueError when the key is none.
    """
    nonce = secrets.token_bytes(NONCE_BYTES - DIRECTION_BYTES) + _direction(direction)
    return bytes(Box(own, _public(receiver_key)).encrypt(encode(message), nonce))


def unseal(sealed: bytes, own: PrivateKey, sender_key: str, direction: tuple[str, str], wall: float) -> Signal:
    """What the sender says; raises Unusable. wall: unix seconds now."""
    if sealed[NONCE_BYTES - DIRECTION_BYTES : NONCE_BYTES] != _direction(direction):
        raise Unusable("it is not for this direction")
    try:
        message: Signal = _decoder.decode(Box(own, _public(sender_key)).decrypt(sealed))
    except (CryptoError, ValueError, msgspec.DecodeError, RecursionError) as problem:
        raise Unusable(f"it does not open: {type(problem).__name__}") from None
    if not abs(wall - message.sent_at) <= MAX_AGE_S:  # also for what is no number
        raise Unusable("it is older than five minutes, or the clocks differ by more than that")
    return message


def _direction(direction: tuple[str, str]) -> bytes:
    return hashlib.blake2b("\0".join(direction).encode(), digest_size=DIRECTION_BYTES).digest()


def _public(key: str) -> PublicKey:
    return PublicKey(base64.b64decode(key, validate=True))


class Signalling:
    """Introduces this host to others, says when it leaves their routes, opens what they say, and sends heartbeats.

    Only peers that the documents name are spoken to and heard. epoch: of this run, see `Beat`.
    session: names this run to other peers.
    """

    def __init__(
        self, situation: Situation, publish: Publish, account: str, peer_id: str, own: PrivateKey, epoch: int
    ) -> None:
        self._situation = situation
        self._publish = publish
        self._account = account
        self._peer_id = peer_id
        self._own = own
        self._epoch = epoch
        self._watch = Watch(situation.bus)
        self._complained: set[str] = set()
        self._moment = 0.0
        self.session = secrets.token_hex(5)

    async def introduce(
        self, receiver: str, endpoints: tuple[str, ...], *, generation: int, answer_wanted: bool
    ) -> bool:
        """Tell one peer where this host may be reached; False when there is no bus to say it on."""
        message = Candidates(
            session=self.session,
            generation=generation,
            endpoints=endpoints,
            answer_wanted=answer_wanted,
            sent_at=time.time(),
        )
        return await self._tell(receiver, message)

    async def depart(self, receiver: str, routes: Collection[str]) -> None:
        """Tell a routing peer that this host uses these routes through it no more: once, since it costs time only."""
        ids = sorted(routes)
        for at in range(0, len(ids), MOST_ROUTES):
            said = Departed(routes=tuple(ids[at : at + MOST_ROUTES]), sent_at=self._next_moment())
            await self._tell(receiver, said)

    def opened(self, sender: str, sealed: bytes) -> Signal | None:
        """What the sender says; None for a stranger, and for what is not to be used."""
        key = self._key_of(sender)
        if key is None:
            return None
        try:
            return unseal(sealed, self._own, key, (sender, self._peer_id), time.time())
        except Unusable as problem:
            if sender not in self._complained:
                self._complained.add(sender)
                log.warning("a signal was dropped", sender=sender, problem=problem.problem)
            return None

    async def _tell(self, receiver: str, message: Signal) -> bool:
        """False when there is no bus to say it on."""
        key = self._key_of(receiver)
        if key is None:
            return True
        try:
            sealed = seal(message, self._own, key, (self._peer_id, receiver))
        except (CryptoError, ValueError):
            return True  # nobody holds what belongs to such a key
        return await self._publish(subjects.signal_from(self._account, self._peer_id, receiver), sealed)

    def _next_moment(self) -> float:
        """Unix seconds now, and later than the last time, unless the clock was set back by more than others forgive."""
        now = time.time()
        self._moment = now if self._moment > now + MAX_AGE_S else max(now, math.nextafter(self._moment, math.inf))
        return self._moment

    def _key_of(self, peer_id: str) -> str | None:
        documents = self._situation.documents.value
        peer = documents.peers.get(peer_id) if documents else None
        return peer.wireguard_key if peer else None

    async def beat(self) -> None:
        """Say every BEAT_INTERVAL_S that the host is there, and whenever a session begins, until cancelled."""
        while True:
            end_if_cancelled()
            await self._send(leaving=False)
            await self._watch.wait(BEAT_INTERVAL_S)

    async def leave(self) -> None:
        """Say that the host stops now."""
        await self._send(leaving=True)

    async def _send(self, *, leaving: bool) -> None:
        beat = Beat(peer_id=self._peer_id, epoch=self._epoch, leaving=leaving)
        await self._publish(subjects.beat(self._account, self._peer_id), encode(beat))
