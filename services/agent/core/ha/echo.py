"""ICMP echo of either family (RFC 792, RFC 4443): questions that only this run can have asked, and answers to them."""

import hashlib
import struct
from ipaddress import ip_address
from typing import Literal, NamedTuple, TypeAlias

from services.agent.core.intervals import Version
from services.agent.core.kernel import PROBE_REFUSED

Reason: TypeAlias = Literal["malformed", "foreign", "forged", "old", "doubled"]
"""Why an answer is ignored. malformed: it is no echo reply that we could have caused. foreign: to another program's
question. forged: to no question of this run, or not from whom was asked. old: that question is forgotten. doubled: it
was answered before."""

_REQUEST: dict[Version, int] = {4: 8, 6: 128}
_REPLY: dict[Version, int] = {4: 0, 6: 129}
_HEADER = struct.Struct("!BBHHH")
_NUMBER = struct.Struct("!Q")
_SEAL_BYTES = 16

MESSAGE_BYTES = _HEADER.size + _NUMBER.size + _SEAL_BYTES
"""Of each question and answer, without the IP header."""


class Refused(NamedTuple):
    """The answer to the question of that number says that who was asked carries nothing for this host."""

    number: int


class Echo:
    """Writes the questions of one run and recognises their answers.

    secret: of this run, 16 to 64 bytes. identifier: of the run, 16 bits, so that the kernel can tell its answers from
    those to other programs.
    """

    def __init__(self, secret: bytes, identifier: int) -> None:
        self._secret = secret
        self._identifier = identifier

    def question(self, address: str, number: int) -> bytes:
        """The ICMP message. number: 0 to 2^64 - 1, never used twice in a run."""
        version: Version = 6 if ":" in address else 4
        payload = _NUMBER.pack(number) + self._seal(address, number)
        words = _REQUEST[version], 0, self._identifier, _sequence(number)
        unchecked = _HEADER.pack(words[0], words[1], 0, *words[2:]) + payload
        if version == 6:  # the kernel knows the addresses that its checksum covers
            return unchecked
        return _HEADER.pack(words[0], words[1], checksum(unchecked), *words[2:]) + payload

    def answered(self, source: str, message: bytes) -> int | Refused | Reason:
        """The number of the question that the message answers or refuses. source: who sent it."""
        version: Version = 6 if ":" in source else 4
        if len(message) != MESSAGE_BYTES:
            return "malformed" if len(message) < _HEADER.size else "foreign"
        kind, code, _, identifier, sequence = _HEADER.unpack_from(message)
        if (kind, code) != (_REPLY[version], 0):
            return "malformed"
        if identifier != self._identifier:
            return "foreign"
        number = int.from_bytes(message[_HEADER.size : -_SEAL_BYTES], "big")
        if message[-_SEAL_BYTES:] != self._seal(source, number):
            return "forged"
        if sequence == PROBE_REFUSED:
            return Refused(number)
        return number if sequence == _sequence(number) else "forged"

    def _seal(self, address: str, number: int) -> bytes:
        said = _NUMBER.pack(number) + ip_address(address).packed
        return hashlib.blake2b(said, key=self._secret, digest_size=_SEAL_BYTES).digest()


def _sequence(number: int) -> int:
    return number % PROBE_REFUSED


def checksum(message: bytes) -> int:
    """The Internet checksum (RFC 1071) of a message of even length."""
    total = sum(int(word) for word in struct.unpack(f"!{len(message) // 2}H", message))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF
