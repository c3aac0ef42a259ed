"""A key that lets hosts enrol."""

from collections.abc import Iterable
from typing import Literal, Self, TypeAlias

from services.management.core.model.entity import EntityBase, Key, References
from services.management.core.model.group import Group
from services.management.errors import Invalid

KeyState: TypeAlias = Literal["valid", "revoked", "expired", "overused"]
KeyType: TypeAlias = Literal["reusable", "one-off"]

MAX_EXPIRY_S = 100 * 365 * 86_400
"""NetBird has no limit; a century keeps every date within what the API can write."""

_MASK = "*" * 31


class SetupKey(EntityBase, frozen=True, kw_only=True, gc=False, tag="setup-key"):
    """key_hash: SHA-256 in hexadecimal; the key itself is shown once and kept nowhere. hint: its first five characters.

    expires_at: unix seconds, 0.0 = never. usage_limit: 0 = unlimited.
    """

    name: str
    key_hash: str
    hint: str
    type: KeyType
    created_at: float
    updated_at: float
    expires_at: float = 0.0
    revoked: bool = False
    used_times: int = 0
    last_used: float = 0.0
    usage_limit: int = 0
    auto_groups: tuple[str, ...] = ()
    ephemeral: bool = False
    allow_extra_dns_labels: bool = False

    @property
    def title(self) -> str:
        return f"setup key {self.name}"

    @property
    def keys(self) -> Iterable[Key]:
        return (("setup", self.key_hash),)

    @classmethod
    def references(cls) -> References[Self]:
        return {Group: lambda key: key.auto_groups}

    def state(self, now: float) -> KeyState:
        """Which of the four, in NetBird's precedence: expired, revoked, overused, valid."""
        if self.expires_at and now >= self.expires_at:
            return "expired"
        if self.revoked:
            return "revoked"
        if self.usage_limit and self.used_times >= self.usage_limit:
            return "overused"
        return "valid"

    @property
    def masked(self) -> str:
        """How it is shown once it was created."""
        return self.hint + _MASK


def type_of(text: str) -> KeyType:
    """Raises Invalid."""
    match text:
        case "reusable" | "one-off":
            return text
    raise Invalid("type must be reusable or one-off")


def check_expiry(expires_in_s: int) -> None:
    """0 means never."""
    if not 0 <= expires_in_s <= MAX_EXPIRY_S:
        raise Invalid(f"expires_in must be between 0 and {MAX_EXPIRY_S} seconds, it is {expires_in_s}")


def check_usage_limit(kind: KeyType, usage_limit: int) -> None:
    """0 means unlimited; a one-off key is used once whatever is said."""
    if usage_limit < 0:
        raise Invalid(f"usage_limit must not be negative, it is {usage_limit}")
    if kind == "one-off" and usage_limit > 1:
        raise Invalid(f"usage_limit of a one-off key must be 1, it is {usage_limit}")
