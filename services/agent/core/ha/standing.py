"""What is known of routing peers besides their documents, and what follows from it for each HA group: values alone."""

from typing import Literal, TypeAlias

import msgspec

Verdict: TypeAlias = Literal["unknown", "up", "down"]
"""unknown: nothing was asked, or nothing was ever answered in this session of WireGuard; never a reason to leave."""

Role: TypeAlias = Literal["in use", "standby"]


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
    loss: share of the last probes that nobody answered, 0.0 to 1.0.
    """

    verdict: Verdict = "unknown"
    since: float = 0.0
    rtt_s: float = 0.0
    loss: float = 0.0


class Carried(msgspec.Struct, frozen=True, kw_only=True):
    """Whether this host carries a route that it serves. reason: why not, "" when it does.

    probe: what its probe target says, "" for a route without one.
    """

    reason: str = ""
    probe: Verdict | Literal[""] = ""


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """Who carries an HA group for this host. peer_id: "" for nobody, see decision R2. reason: for people.

    at: unix seconds at which it became this peer.
    """

    peer_id: str
    reason: str
    at: float = 0.0
