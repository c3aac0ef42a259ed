"""What a command is asked: one struct, from the JSON of the API to the command that judges it."""

from typing import Annotated, Any, TypeAlias

import msgspec

Integer: TypeAlias = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
"""What fits into the log; each field has narrower bounds of its own."""

_NEEDED = {"needed": True}


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """The body of a request. A member that is absent or null has the default, but null is none where that is UNSET.

    Every field has one: what is absent is for the command to judge, in NetBird's order and with its status.
    """


def about(text: str, *examples: Any, needed: bool = False) -> msgspec.Meta:
    """What the API's description says of a field. needed: without it the command always refuses."""
    return msgspec.Meta(description=text, examples=list(examples) or None, extra=_NEEDED if needed else None)


def told_by_null(request: type[Any]) -> list[str]:
    """The names of the fields whose null says something else than leaving them out."""
    return [field.encode_name for field in msgspec.structs.fields(request) if field.default is msgspec.UNSET]


def needed(request: type[Request]) -> list[str]:
    """The names, as JSON has them, of the fields without which the command always refuses."""
    fields = msgspec.inspect.type_info(request).fields  # type: ignore[attr-defined]
    return [field.encode_name for field in fields if getattr(field.type, "extra", None) == _NEEDED]
