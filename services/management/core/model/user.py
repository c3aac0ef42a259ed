"""People and programs that use the API, and their tokens."""

from typing import Literal, TypeAlias

import msgspec

Role: TypeAlias = Literal["owner", "admin", "user", "auditor", "network_admin", "billing_admin"]


class User(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag_field="kind", tag="user"):
    id: str
    name: str
    email: str = ""
    role: Role = "user"
    is_service_user: bool = False
    is_blocked: bool = False
    auto_groups: tuple[str, ...] = ()
    created_at: float = 0.0


class AccessToken(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag_field="kind", tag="access-token"):
    """token_hash: SHA-256 of the token in hexadecimal; the token itself is kept nowhere. expires_at: 0.0 = never."""

    id: str
    user_id: str
    name: str
    token_hash: str
    created_at: float
    expires_at: float = 0.0
