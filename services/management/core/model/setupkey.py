"""A key that lets hosts enrol."""

from typing import Literal, TypeAlias

import msgspec

KeyState: TypeAlias = Literal["valid", "revoked", "expired", "overused"]


class SetupKey(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="setup-key"):
    """key_hash: SHA-256 in hexadecimal; the key itself is shown once and kept nowhere. hint: its first five characters.

    expires_at: unix seconds, 0.0 = never. usage_limit: 0 = unlimited.
    """

    id: str
    name: str
    key_hash: str
    hint: str
    type: Literal["reusable", "one-off"]
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

    def state(self, now: float) -> KeyState:
        """Which of the four, in NetBird's precedence: expired, revoked, overused, valid."""
        if self.expires_at and now >= self.expires_at:
            return "expired"
        if self.revoked:
            return "revoked"
        if self.usage_limit and self.used_times >= self.usage_limit:
            return "overused"
        return "valid"
