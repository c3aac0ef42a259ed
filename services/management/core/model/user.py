"""People and programs that use the API, and their tokens."""

from collections.abc import Iterable
from typing import Literal, Self, TypeAlias

from services.management.core.model.entity import EntityBase, Key, References
from services.management.core.model.group import Group

Role: TypeAlias = Literal["owner", "admin", "user", "auditor", "network_admin", "billing_admin"]


class User(EntityBase, frozen=True, kw_only=True, gc=False, tag="user"):
    name: str
    email: str = ""
    role: Role = "user"
    is_service_user: bool = False
    is_blocked: bool = False
    auto_groups: tuple[str, ...] = ()
    created_at: float = 0.0

    @property
    def title(self) -> str:
        return f"user {self.name}"

    @classmethod
    def references(cls) -> References[Self]:
        return {Group: lambda user: user.auto_groups}


class AccessToken(EntityBase, frozen=True, kw_only=True, gc=False, tag="access-token"):
    """token_hash: SHA-256 of the token in hexadecimal; the token itself is kept nowhere. expires_at: 0.0 = never."""

    user_id: str
    name: str
    token_hash: str
    created_at: float
    expires_at: float = 0.0

    @property
    def title(self) -> str:
        return f"access token {self.name}"

    @property
    def keys(self) -> Iterable[Key]:
        return (("token", self.token_hash),)
