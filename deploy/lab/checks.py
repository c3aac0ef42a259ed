"""What a step of the lab found."""

import msgspec


class Check(msgspec.Struct, frozen=True):
    """One thing that was looked at. after_ms: from the API's answer to the moment it was so, None if not timed.

    A negative time says that the kernel was there before the API's answer.
    """

    text: str
    after_ms: float | None = None
