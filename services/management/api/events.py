"""The audit trail: who did what, newest first."""

import asyncio
from collections.abc import Iterable, Iterator
from datetime import datetime

import msgspec
from litestar import Response, get
from litestar.di import NamedDependency

from services.management.api.call import Call, resource
from services.management.api.wire import moment
from services.management.core.model.commit import Activity, Commit
from services.management.ports import NEWEST

MOST = 10_000
"""How far back a list goes, as in NetBird; what was changed at once stays together."""

PAGE = 250
"""Commits read and encoded at a time: about 4 ms of work."""

TEXTS = {
    "peer.user.add": "Peer added by a user",
    "peer.setupkey.add": "Peer added with a setup key",
    "peer.rename": "Peer renamed",
    "peer.ip.update": "Peer address changed",
    "peer.ssh.enable": "Peer SSH server enabled",
    "peer.ssh.disable": "Peer SSH server disabled",
    "peer.drain.enable": "Routing peer drained",
    "peer.drain.disable": "Routing peer no longer drained",
    "peer.login.expiration.enable": "Peer login expiration enabled",
    "peer.login.expiration.disable": "Peer login expiration disabled",
    "peer.inactivity.expiration.enable": "Peer inactivity expiration enabled",
    "peer.inactivity.expiration.disable": "Peer inactivity expiration disabled",
    "peer.group.add": "Group added to peer",
    "peer.group.delete": "Group removed from peer",
    "routing.peer.gone": "Routing peer gone",
    "routing.peer.return": "Routing peer back",
    "user.peer.delete": "Peer deleted",
    "account.create": "Account created",
    "account.setting.routing.peer.dns.resolution.enable": "DNS resolution by routing peers enabled",
    "account.setting.routing.peer.dns.resolution.disable": "DNS resolution by routing peers disabled",
    "account.setting.resolver.nameservers.update": "DNS servers of the resolver changed",
    "account.dns.domain.update": "DNS domain of the peers changed",
    "account.loss.accept": "Loss of the newest changes accepted",
    "group.add": "Group created",
    "group.update": "Group updated",
    "group.delete": "Group deleted",
    "policy.add": "Policy created",
    "policy.update": "Policy updated",
    "policy.delete": "Policy deleted",
    "route.add": "Route created",
    "route.update": "Route updated",
    "route.delete": "Route deleted",
    "nameserver.group.add": "Nameserver group created",
    "nameserver.group.update": "Nameserver group updated",
    "nameserver.group.delete": "Nameserver group deleted",
    "dns.setting.disabled.management.group.add": "Group added to those without DNS management",
    "dns.setting.disabled.management.group.delete": "Group removed from those without DNS management",
    "dns.zone.create": "DNS zone created",
    "dns.zone.update": "DNS zone updated",
    "dns.zone.delete": "DNS zone deleted",
    "dns.zone.record.create": "DNS record created",
    "dns.zone.record.update": "DNS record updated",
    "dns.zone.record.delete": "DNS record deleted",
    "setupkey.add": "Setup key created",
    "setupkey.update": "Setup key updated",
    "setupkey.revoke": "Setup key revoked",
    "setupkey.overuse": "Setup key used up",
    "setupkey.delete": "Setup key deleted",
    "setupkey.group.add": "Group added to setup key",
    "setupkey.group.delete": "Group removed from setup key",
    "personal.access.token.create": "Access token created",
    "personal.access.token.delete": "Access token deleted",
    "service.user.create": "Service user created",
    "service.user.delete": "Service user deleted",
    "user.join": "User joined",
}
"""Activity code → what it says to people. A code that is not here speaks for itself."""


class EventResponse(msgspec.Struct, frozen=True, kw_only=True):
    """id: "<revision>.<number>"; what was changed at once has one revision. meta: names of what it was about."""

    id: str
    timestamp: datetime
    activity: str
    activity_code: str
    initiator_id: str
    initiator_name: str
    initiator_email: str
    target_id: str
    meta: dict[str, str]


@get(["/", "/audit"])
async def list_events(call: NamedDependency[Call]) -> Response[list[EventResponse]]:
    """What was done in the account, newest first."""
    return call.listing(*await call.kept(Trail).read(call))


class _Kept(msgspec.Struct, frozen=True, gc=False):
    """The activities of one commit, encoded."""

    sequence: int
    activities: tuple[bytes, ...]


class Trail:
    """The newest events of one account. What was committed does not change: it is read and encoded once."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._commits: list[_Kept] = []

    async def read(self, call: Call) -> tuple[int, list[bytes]]:
        """The account's revision, and its events, newest first."""
        async with self._lock:
            known = self._commits[0].sequence if self._commits else 0
            newer = await _since(known, call)
            self._commits = list(_newest([*newer, *self._commits]))
            return call.state.revision, [event for commit in self._commits for event in commit.activities]


async def _since(known: int, call: Call) -> list[_Kept]:
    """The commits after sequence `known`, page by page, newest first; not more than are shown."""
    found: list[_Kept] = []
    before, events = NEWEST, 0
    while events < MOST:
        page = await call.deps.events(call.account, PAGE, after=known, before=before)
        found += [_Kept(at, tuple(map(msgspec.json.encode, _events(at, commit)))) for at, commit in page]
        if len(page) < PAGE:
            break
        before = found[-1].sequence
        events += sum(len(commit.activities) for commit in found[-PAGE:])
    return found


def _newest(commits: Iterable[_Kept]) -> Iterator[_Kept]:
    """The first commits, until they have MOST events."""
    shown = 0
    for commit in commits:
        if shown >= MOST:
            return
        yield commit
        shown += len(commit.activities)


def _events(sequence: int, commit: Commit) -> Iterator[EventResponse]:
    """The activities of one commit, the last one first."""
    for number, activity in reversed(list(enumerate(commit.activities))):
        yield EventResponse(
            id=f"{sequence}.{number}",
            timestamp=moment(commit.at),
            activity=TEXTS.get(activity.code, activity.code),
            activity_code=activity.code,
            initiator_id=commit.actor.id,
            initiator_name=commit.actor.name,
            initiator_email=commit.actor.email,
            target_id=activity.target_id,
            meta=_as_text(activity),
        )


def _as_text(activity: Activity) -> dict[str, str]:
    """NetBird's clients expect every value as text."""
    return {name: _text(value) for name, value in activity.meta.items()}


def _text(value: str | int | bool | list[str]) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return ", ".join(value) if isinstance(value, list) else str(value)


router = resource("events", list_events)
