"""What is known of routing peers besides their documents, and what follows from it for each HA group: values alone."""

from typing import Literal, TypeAlias, get_args

import msgspec

Verdict: TypeAlias = Literal["unknown", "up", "down"]
"""unknown: nothing was asked, or nothing was ever answered in this session of WireGuard; never a reason to leave."""

Role: TypeAlias = Literal["in use", "standby"]


class Candidate(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A routing peer that could carry an HA group, and all that is known of it.

    connected: by a WireGuard session. withdrawn: why it does not carry the group by its own word, "" if it does.
    agentless: nobody has heard its agent for a minute. holds: the return address of the group. relayed: not direct.
    rtt_s: smoothed, 0.0 = not measured. spread_s: how far single round trips are from it, on average.
    """

    peer_id: str
    public_key: str
    metric: int
    connected: bool
    verdict: Verdict = "unknown"
    withdrawn: str = ""
    draining: bool = False
    agentless: bool = False
    holds: bool = False
    relayed: bool = False
    rtt_s: float = 0.0
    spread_s: float = 0.0

    @property
    def usable(self) -> bool:
        return self.connected and self.verdict != "down" and not self.withdrawn


class Probed(msgspec.Struct, frozen=True, kw_only=True):
    """A routing peer to be asked over the tunnel. address: its overlay address, IPv4 where it has one.

    role: in use where it carries any HA group of this host, else it is the next choice of one.
    """

    public_key: str
    address: str
    role: Role


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """What probes say of a routing peer.

    since: monotonic seconds at which the verdict became what it is. rtt_s: smoothed, 0.0 = not measured.
    loss: share of the last probes that nobody answered, 0.0 to 1.0. public_key: of the one that was asked; what is said
    of another key is not said of the peer. spread_s: how far single round trips are from the smoothed one, on average.
    """

    verdict: Verdict = "unknown"
    since: float = 0.0
    rtt_s: float = 0.0
    loss: float = 0.0
    public_key: str = ""
    spread_s: float = 0.0


class Carried(msgspec.Struct, frozen=True, kw_only=True):
    """Whether this host carries a route that it serves. reason: why not, "" when it does.

    probe: what its probe target says, "" for a route without one. fault: why the one it was given is not asked.
    """

    reason: str = ""
    probe: Verdict | Literal[""] = ""
    fault: str = ""


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """Who carries an HA group for this host. peer_id: "" for nobody, see decision R2. reason: for people.

    at: unix seconds at which it became this peer.
    """

    peer_id: str
    reason: str
    at: float = 0.0


State: TypeAlias = Literal[
    "in use", "standby", "ready", "no session", "down", "withdrawn", "draining", "no agent", "damped"
]
STATES = get_args(State)
"""How a candidate of an HA group stands. standby: it would be next, and is asked as well. ready: it would come
later."""


class Ranked(msgspec.Struct, frozen=True, gc=False):
    """A candidate in its place. why: for people, "" where the state says it all."""

    peer_id: str
    state: State
    why: str = ""


class Ranking(msgspec.Struct, frozen=True, gc=False):
    """The candidates of an HA group, the one in use first, and why and when (unix seconds) it became that one."""

    reason: str
    at: float
    candidates: tuple[Ranked, ...]


class Switch(msgspec.Struct, frozen=True, kw_only=True, array_like=True, gc=False):
    """Another routing peer carries an HA group, or nobody does. at: unix seconds. where: its prefix or domains.

    former, now: peer ids, "" for nobody; the names are theirs at that time. cause: one of choice.Cause.
    """

    at: float
    network_id: str
    where: str
    former: str
    former_name: str
    now: str
    now_name: str
    cause: str
    reason: str
