"""The audit trail: who did what, newest first."""

from collections.abc import Iterator
from datetime import datetime

import msgspec
from litestar import Response, Router, get
from litestar.di import NamedDependency

from services.management.api.call import Call, permitted
from services.management.api.wire import moment
from services.management.core.model.commit import Activity, Commit

MOST_COMMITS = 10_000
"""How far back a list goes, as in NetBird."""

TEXTS = {
    "peer.user.add": "Peer added by a user",
    "peer.setupkey.add": "Peer added with a setup key",
    "peer.rename": "Peer renamed",
    "peer.ip.update": "Peer address changed",
    "peer.ssh.enable": "Peer SSH server enabled",
    "peer.ssh.disable": "Peer SSH server disabled",
    "peer.login.expiration.enable": "Peer login expiration enabled",
    "peer.login.expiration.disable": "Peer login expiration disabled",
    "peer.inactivity.expiration.enable": "Peer inactivity expiration enabled",
    "peer.inactivity.expiration.disable": "Peer inactivity expiration disabled",
    "peer.group.add": "Group added to peer",
    "peer.group.delete": "Group removed from peer",
    "user.peer.delete": "Peer deleted",
    "account.create": "Account created",
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
    commits = await call.deps.events(call.account, MOST_COMMITS)
    return call.answer([event for sequence, commit in commits for event in _events(sequence, commit)])


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


router = Router("/events", route_handlers=[list_events], guards=[permitted("events")], tags=["Events"])
