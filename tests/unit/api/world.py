"""The API over the real core and a log in memory: one application, and an account of its own for every test."""

import hashlib
import itertools
from collections.abc import Mapping
from functools import cache
from typing import Any

import httpx
from litestar import Litestar
from msgspec.structs import replace

from services.management.api.app import create_app
from services.management.api.deps import Deps
from services.management.core.entities import Entity, Ref
from services.management.core.feed.unit import LastWord
from services.management.core.model.commit import Commit
from services.management.core.model.user import AccessToken, Role, User
from services.management.core.state import AccountState, Intent
from services.management.troubles import Troubles
from shared.events.documents import ResolvedName
from shared.events.facts import ReportFact, SessionFact
from tests import builders
from tests.builders import NOW, group, group_all, nameserver_group, peer, policy, route, setup_key, zone, zone_record
from tests.fakes.log import FakeLog

SETUP_KEY = "0F1E2D3C-4B5A-6978-8796-A5B4C3D2E1F0"
"""What every new setup key is in clear text."""

ACCOUNT = "{account}"

_numbers = itertools.count(1)


class Facts:
    """What was last observed of each peer, by account and peer. users: by account, route and routing peer.
    names: by account and route."""

    def __init__(self) -> None:
        self.sessions: dict[tuple[str, str], SessionFact] = {}
        self.reports: dict[tuple[str, str], ReportFact] = {}
        self.words: dict[tuple[str, str], LastWord] = {}
        self.users: dict[tuple[str, str, str], int] = {}
        self.names: dict[tuple[str, str], tuple[ResolvedName, ...]] = {}

    def session(self, account: str, peer: str, /) -> SessionFact | None:
        return self.sessions.get((account, peer))

    def report(self, account: str, peer: str, /) -> ReportFact | None:
        return self.reports.get((account, peer))

    def clients(self, account: str, route: str, routing_peer: str, /) -> int:
        return self.users.get((account, route, routing_peer), 0)

    def resolutions(self, account: str) -> dict[str, tuple[ResolvedName, ...]]:
        return {route: names for (of, route), names in self.names.items() if of == account}

    def last_words(self, account: str) -> dict[str, LastWord]:
        return {peer: word for (of, peer), word in self.words.items() if of == account}


class Server:
    """One replica."""

    def __init__(self) -> None:
        self.intent = Intent()
        self.log = FakeLog(self.intent)
        self.facts = Facts()
        self.troubles = Troubles()
        self.ids = itertools.count(1)
        deps = Deps(
            intent=self.intent,
            commit=self.log.commit,
            events=self.log.events,
            facts=self.facts,
            last_words=self.facts.last_words,
            resolutions=self.facts.resolutions,
            now=lambda: NOW,
            new_id=lambda: f"new-{next(self.ids)}",
            new_setup_key=lambda: SETUP_KEY,
            troubles=self.troubles,
        )
        self.app: Litestar = create_app(deps)


@cache
def server() -> Server:
    return Server()


def _user(id: str, role: Role, **fields: Any) -> User:
    plain = User(id=id, name=id.title(), email=f"{id}@example.com", role=role, created_at=NOW)
    return replace(plain, **fields)


USERS = {
    "owner": _user("owner", "owner"),
    "admin": _user("admin", "admin"),
    "network admin": _user("network-admin", "network_admin"),
    "auditor": _user("auditor", "auditor"),
    "user": _user("user", "user"),
    "billing admin": _user("billing-admin", "billing_admin"),
    "service user": _user("service", "user", is_service_user=True),
    "admin service user": _user("admin-service", "admin", is_service_user=True),
    "blocked admin": _user("blocked", "admin", is_blocked=True),
    "admin with an expired token": _user("expired", "admin"),
}
"""Who calls, by what it is called in tests; besides them "unknown token" and "nobody"."""


def estate() -> list[Entity]:
    """What every test's account has: two gateways and a laptop, two routes, the default policy, a nameserver group, two
    zones and three keys."""
    return [
        group_all(),
        group("gateways"),
        group("office"),
        group("unused"),
        peer("gw", "gateways"),
        peer("gw2", "gateways"),
        peer("laptop", "office", user_id="user", login_expiration_enabled=True),
        policy("Default"),
        route("lan", "10.0.0.0/24", peer="gw", groups=("office",), metric=100, masquerade=True),
        route("wiki", domains=("xn--bcher-kva.example",), peer_groups=("gateways",), keep_route=True),
        nameserver_group("corp", "xn--bcher-kva.example", groups=("office",)),
        zone("lab.example", distribution_groups=("gateways",)),
        zone_record("lab.example", "www.lab.example"),
        zone("empty.example"),
        setup_key("valid", "VALID-KEY", auto_groups=("office",)),
        setup_key("revoked", "REVOKED-KEY", revoked=True),
        setup_key("expired", "EXPIRED-KEY", expires_at=NOW - 1),
    ]


class World:
    """An account with the estate and every caller. `call` is a request as the network would bring it; ACCOUNT in its
    path is the account's id."""

    def __init__(self, *more: Entity) -> None:
        self.server = server()
        self.server.log.fail(None)
        self.server.ids = itertools.count(1)
        self.account = f"acc{next(_numbers)}"
        owner = replace(builders.account(self.account), created_at=NOW)
        users = [entity for caller, user in USERS.items() for entity in (user, self._token(caller, user))]
        first = builders.commit(owner, *users, *estate(), *more, account=self.account)
        self.server.intent.apply(self.server.intent.sequence + 1, first)

    def _token(self, caller: str, user: User) -> AccessToken:
        expired = caller == "admin with an expired token"
        return AccessToken(
            id=f"token-{user.id}",
            user_id=user.id,
            name="test",
            token_hash=hashlib.sha256(self.token(caller).encode()).hexdigest(),
            created_at=NOW - 10,
            expires_at=NOW if expired else 0.0,
        )

    def token(self, caller: str) -> str:
        return f"nbp_{self.account}-{caller.replace(' ', '-')}"

    @property
    def state(self) -> AccountState:
        return self.server.intent.accounts[self.account]

    @property
    def revision(self) -> int:
        return self.state.revision

    @property
    def commits(self) -> list[Commit]:
        """What the API committed, in order."""
        return [commit for _, commit in self.server.log.history if commit.account == self.account]

    def change(self, *entities: Entity, deletes: tuple[Ref, ...] = ()) -> None:
        """Somebody else commits this now."""
        commit = builders.commit(*entities, deletes=deletes, account=self.account)
        self.server.intent.apply(self.server.intent.sequence + 1, commit)

    def race(self, *entities: Entity, deletes: tuple[Ref, ...] = ()) -> None:
        """Somebody else commits this between the next decision and its commit."""
        self.server.log.race(builders.commit(*entities, deletes=deletes, account=self.account))

    def follow(self, *entities: Entity, deletes: tuple[Ref, ...] = ()) -> None:
        """Somebody else commits this after the next commit, before it is answered."""
        self.server.log.follow(builders.commit(*entities, deletes=deletes, account=self.account))

    async def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        caller: str = "owner",
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
    ) -> httpx.Response:
        sent = {"Authorization": f"Token {self.token(caller)}"} if caller != "nobody" else {}
        transport = httpx.ASGITransport(self.server.app)  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://whimbrel.test") as client:
            url = path if path.startswith("/") else f"/api/{path.replace(ACCOUNT, self.account)}"
            sent_headers = httpx.Headers({**sent, **(headers or {})}, encoding="latin-1")
            return await client.request(method, url, json=body, content=content, headers=sent_headers)

    async def get(self, path: str, caller: str = "owner") -> Any:
        """The body of an answer that must be 200."""
        answer = await self.call("GET", path, caller=caller)
        assert answer.status_code == 200, answer.text
        return answer.json()


def problem(answer: httpx.Response) -> tuple[int, str]:
    """Status and message of a refusal; its body must be NetBird's."""
    body = answer.json()
    assert set(body) == {"message", "code"}
    assert body["code"] == answer.status_code
    assert body["message"] == body["message"].lower()
    assert "\n" not in body["message"]
    return answer.status_code, body["message"]
