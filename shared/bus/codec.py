"""MessagePack on the bus: structs in, structs out, and what happens to anything else."""

from typing import Any, TypeVar

import msgspec

from shared.errors import Undecodable

T = TypeVar("T")

_encoder = msgspec.msgpack.Encoder()
_decoders: dict[Any, msgspec.msgpack.Decoder[Any]] = {}


def encode(message: msgspec.Struct) -> bytes:
    return _encoder.encode(message)


def decode(subject: str, data: bytes, type_: type[T]) -> T:
    """The message as `type_` (a struct or a union of tagged structs); raises Undecodable for anything else."""
    decoder = _decoders.get(type_)
    if decoder is None:
        decoder = _decoders[type_] = msgspec.msgpack.Decoder(type_)
    try:
        return decoder.decode(data)  # type: ignore[no-any-return]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:  # nested without end
        raise Undecodable(subject, str(problem)) from None
