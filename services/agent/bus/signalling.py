"""Introductions to other peers, sealed so that only they can read them, and heartbeats.

A signal is 24 nonce bytes and the NaCl box of the message, from the sender's to the receiver's WireGuard key. A box
opens with the same pair of keys in either direction, so the last 8 nonce bytes say who sent it to whom: a signal that
comes back to its sender opens, and is refused.
"""

import asyncio
import base64
import hashlib
import secrets
import time
from collections.abc import Callable

import msgspec
import structlog
from nacl.exceptions import CryptoError
from nacl.public import Box, PrivateKey, PublicKey

from services.agent.core.paths.pathbook import PathBook
from services.agent.ports import Publish
from shared.bus.codec import encode
from shared.events import subjects
from shared.events.signals import BEAT_INTERVAL_S, Beat, Candidates
from shared.tasks import end_if_cancelled

MAX_AGE_S = 300.0
"""Older signals are refused, and those from so far ahead: hosts agree on the time to within minutes."""

NONCE_BYTES, DIRECTION_BYTES = 24, 8

log = structlog.get_logger()

_decoder = msgspec.msgpack.Decoder(Candidates)


class Unusable(Exception):
    """Drop the signal: `problem` says why."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem


def seal(message: Candidates, own: PrivateKey, receiver_key: str, direction: tuple[str, str]) -> bytes:
    """The message for one receiver. receiver_key: base64. direction: sender's and receiver's peer id.

    Raises CryptoError or ValueError when the key is none.
    """
    nonce = secrets.token_bytes(NONCE_BYTES - DIRECTION_BYTES) + _direction(direction)
    return bytes(Box(own, _public(receiver_key)).encrypt(encode(message), nonce))


def unseal(sealed: bytes, own: PrivateKey, sender_key: str, direction: tuple[str, str], wall: float) -> Candidates:
    """What the sender says; raises Unusable. wall: unix seconds now."""
    if sealed[NONCE_BYTES - DIRECTION_BYTES : NONCE_BYTES] != _direction(direction):
        raise Unusable("it is not for this direction")
    try:
        message = _decoder.decode(Box(own, _public(sender_key)).decrypt(sealed))
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
    """Introduces this host to others as `book` has it, takes what they say of themselves, and sends heartbeats.

    key_of: the WireGuard key of a peer this host sees, None for any other. epoch: of this run, see `Beat`.
    session: names this run to other peers.
    """

    def __init__(
        self,
        account: str,
        peer_id: str,
        own: PrivateKey,
        book: PathBook,
        key_of: Callable[[str], str | None],
        publish: Publish,
        epoch: int,
    ) -> None:
        self._account = account
        self._peer_id = peer_id
        self._own = own
        self._book = book
        self._key_of = key_of
        self._publish = publish
        self._epoch = epoch
        self._now = asyncio.Event()
        self._complained: set[str] = set()
        self.session = secrets.token_hex(5)

    async def introduce(self, receiver: str, answer_wanted: bool) -> bool:
        """Tell one peer where this host may be reached; False when there is no bus to say it on."""
        key = self._key_of(receiver)
        if key is None:
            return True
        message = Candidates(
            session=self.session,
            generation=self._book.generation,
            endpoints=self._book.local_endpoints,
            answer_wanted=answer_wanted,
            sent_at=time.time(),
        )
        try:
            sealed = seal(message, self._own, key, (self._peer_id, receiver))
        except (CryptoError, ValueError):
            return True  # nobody holds what belongs to such a key
        return await self._publish(subjects.signal_from(self._account, self._peer_id, receiver), sealed)

    def hear(self, sender: str, sealed: bytes) -> bool:
        """Whether the signal was of use to the book."""
        key = self._key_of(sender)
        if key is None:
            return False
        try:
            heard = unseal(sealed, self._own, key, (sender, self._peer_id), time.time())
        except Unusable as problem:
            if sender not in self._complained:
                self._complained.add(sender)
                log.warning("a signal was dropped", sender=sender, problem=problem.problem)
            return False
        return self._book.receive(sender, heard, time.monotonic())

    def beat_now(self) -> None:
        self._now.set()

    async def beat(self) -> None:
        """Say every BEAT_INTERVAL_S that the host is there, until cancelled."""
        while True:
            end_if_cancelled()
            await self._send(leaving=False)
            try:
                async with asyncio.timeout(BEAT_INTERVAL_S):
                    await self._now.wait()
            except TimeoutError:
                continue
            self._now.clear()

    async def leave(self) -> None:
        """Say that the host stops now."""
        await self._send(leaving=True)

    async def _send(self, *, leaving: bool) -> None:
        beat = Beat(peer_id=self._peer_id, epoch=self._epoch, leaving=leaving)
        await self._publish(subjects.beat(self._account, self._peer_id), encode(beat))
