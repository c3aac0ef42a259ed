"""What the parts of the agent know of each other: each cell has one writer, and whoever needs it reads or watches it.

A part that finds out something new is a file that sets a cell here; whoever acts on it watches that cell. No part is
told anything by another.
"""

from collections.abc import Mapping
from typing import Literal, TypeAlias

import msgspec
from msgspec.structs import replace

from services.agent.cells import Cell
from services.agent.core.desired_state import Desired
from services.agent.core.dns.hostdns import Mechanism
from services.agent.core.dns.learned import Resolved
from services.agent.core.dns.resolvconf import ResolvConf
from services.agent.core.dns.rules import Rules, Terms
from services.agent.core.documents import Documents
from services.agent.core.forwarder.messages import State
from services.agent.core.ha.returns import Returning
from services.agent.core.ha.standing import Carried, Decision, Health, Probed, Ranking, Switch, Verdict
from services.agent.core.kernel import FloatingAddress, PeerStats
from services.agent.core.paths.whereabouts import Told, Whereabouts
from services.agent.core.reconcile.desired import Local
from services.agent.core.reconcile.steps import Entry, Kind
from services.agent.core.routing.following import with_reasons
from services.agent.core.routing.hagroups import HaKey
from services.agent.ports import HostChange

Standing: TypeAlias = Literal["connecting", "connected", "refused"]


class Bus(msgspec.Struct, frozen=True, kw_only=True):
    """How this host stands with the bus.

    standing: connected while a session is open; refused once management stands by its refusal (decision C5).
    sessions: how many were opened so far; each brought everything the bus holds for this host. problem: one line on
    why there is no session, "" otherwise.
    """

    standing: Standing = "connecting"
    sessions: int = 0
    problem: str = ""


class Addresses(msgspec.Struct, frozen=True, kw_only=True):
    """Where this host is, as last read, and which of its addresses other hosts are told."""

    where: Whereabouts = Whereabouts()
    told: Told = Told()


class Tunnels(msgspec.Struct, frozen=True, kw_only=True):
    """What the paths to other peers ask of the device. Peers are named by public key: another key is another path.

    endpoints: to program; those of absent peers are left to WireGuard. connected: peers with a WireGuard session.
    resets: peer → number of its last reset, never used twice: the peer is removed from the device and added anew.
    """

    endpoints: Mapping[str, str] = {}
    connected: frozenset[str] = frozenset()
    resets: Mapping[str, int] = {}


class Dns(msgspec.Struct, frozen=True, kw_only=True):
    """How the resolver of this host stands. address: where it answers on port 53, "" where it does not.

    problem: why it does not although it should, one line. rules: what it answers by.
    """

    address: str = ""
    problem: str = ""
    rules: Rules = Rules(Terms())


class Forwarding(msgspec.Struct, frozen=True, kw_only=True):
    """How this host's forwarder stands. names: those it answers for, sorted, () where there is no need of it.

    state: as it told last. learned: addresses that are permitted for now. problem: why it does not run, "" otherwise.
    """

    names: tuple[str, ...] = ()
    state: State = State()
    learned: int = 0
    problem: str = ""


class HostNames(msgspec.Struct, frozen=True, kw_only=True):
    """How programs of this host find DNS servers. mechanism: what tells them, "none" while that is not known.

    problem: why they do not ask us although they should, one line.
    """

    mechanism: Mechanism = "none"
    problem: str = ""


class PassResult(msgspec.Struct, frozen=True, kw_only=True):
    """What the last pass of the kernel loop left.

    errors: kind and key of what failed → why. pending: what differs after reading back, "kind key" → error or "".
    applied_revision: newest LOG sequence whose kernel state was read back without a difference. learned: what the
    documents have of resolutions that this host learned itself.
    """

    documents: Documents = Documents()
    learned: Resolved = {}
    local: Local
    desired: Desired = Desired()
    applied_revision: int = 0
    pending: Mapping[str, str] = {}
    errors: Mapping[Entry, str] = {}


class Situation:
    """The cells, each with its writer.

    local: of this host, and what of it changes is in cells. documents: as the last run kept them; without this host's
    own there is nothing to go by.
    """

    def __init__(self, local: Local, documents: Documents = Documents()) -> None:
        self.local = local
        self.documents: Cell[Documents | None] = Cell(documents if documents.self_doc else None)
        """bus/feed.py: what management tells this host; None until anything is known of it."""
        self.bus = Cell(Bus())
        """bus/feed.py, and bus/enrolment.py before there is a feed."""
        self.choices = Cell(local.selection)
        """handlers.py: which routes people chose."""
        self.addresses = Cell(Addresses())
        """paths.py, with each reading of them."""
        self.tunnels = Cell(Tunnels())
        """paths.py: the state of the paths, when it changed."""
        self.counters: Cell[Mapping[str, PeerStats]] = Cell({})
        """paths.py: public key → what the device counts, with each reading."""
        self.dirty: Cell[Mapping[Kind | HostChange, int]] = Cell({})
        """monitor.py: what others may have changed in the kernel → number of the last time (cells.since)."""
        self.unfollowed: Cell[Mapping[str, str]] = Cell({})
        """loop/following.py: prefixes of ours that the kernel sends elsewhere → why."""
        self.probed: Cell[Mapping[str, Probed]] = Cell({})
        """choosing.py: peer id → routing peer to ask over the tunnel."""
        self.health: Cell[Mapping[str, Health]] = Cell({})
        """probes.py: peer id → what its answers say, for those in `probed`."""
        self.unasked = Cell("")
        """probes.py: why nobody in `probed` is asked, "" when they are."""
        self.decisions: Cell[Mapping[HaKey, Decision]] = Cell({})
        """choosing.py: who carries each HA group that there is anything to decide about."""
        self.rankings: Cell[Mapping[HaKey, Ranking]] = Cell({})
        """choosing.py: how the candidates of each HA group stand that this host uses."""
        self.switches = Cell[tuple[Switch, ...]](())
        """choosing.py: the last switches, of the runs before as well, oldest first."""
        self.carriers: Cell[Mapping[HaKey, Decision]] = Cell({})
        """choosing.py: who carries each of them now: while a move waits, not yet the one that was decided for."""
        self.released: Cell[Mapping[HaKey, Decision]] = Cell({})
        """handover.py: the moves whose moment has come."""
        self.withdrawn: Cell[Mapping[str, str]] = Cell({})
        """candidacy.py: id of a route that this host serves and cannot carry now → why."""
        self.targets: Cell[Mapping[str, Verdict]] = Cell({})
        """targets.py: probe target of routes that this host serves (core/ha/targets.py) → whether it answers."""
        self.carried: Cell[Mapping[str, Carried]] = Cell({})
        """candidacy.py: id of each route that this host serves and that was looked at → whether it carries it."""
        self.held: Cell[frozenset[str]] = Cell(frozenset())
        """holding.py: ids of the routes whose return address this host holds."""
        self.floating: Cell[Mapping[str, FloatingAddress]] = Cell({})
        """holding.py: the addresses that this host has in LANs for that."""
        self.returning: Cell[Mapping[str, Returning]] = Cell({})
        """holding.py: return address → how it stands, of the routes that this host serves."""
        self.draining = Cell(False)
        """draining.py: this host is about to stop, and its clients shall leave."""
        self.learned: Cell[Resolved] = Cell({})
        """dns/learning.py: addresses that routing peers answered to questions of this host."""
        self.host_dns: Cell[ResolvConf] = Cell(ResolvConf())
        """dns/hostdns.py: whom this host asks by itself, and where it searches."""
        self.host_names = Cell(HostNames())
        """dns/hostdns.py: how its programs are told to ask us instead."""
        self.dns: Cell[Dns] = Cell(Dns())
        """dns/local.py: how the resolver of this host stands."""
        self.unended = Cell("")
        """connections.py: why connections that cannot go on are not ended here, "" when they are."""
        self.unforgotten = Cell("")
        """departures.py: why connections of clients that left are not forgotten here, "" when they are."""
        self.forwarder: Cell[Forwarding] = Cell(Forwarding())
        """forwarding.py: how answering for the names of served routes goes."""
        self.passed = Cell(PassResult(local=local))
        """loop/loop.py, after each pass."""

    @property
    def revision(self) -> int:
        """The newest LOG sequence among what management told this host."""
        documents = self.documents.value
        return documents.revision if documents else 0

    @property
    def shown(self) -> Desired:
        """The desired state of the last pass as people are told of it."""
        passed, withdrawn = self.passed.value, self.withdrawn.value
        shown = with_reasons(passed.documents, passed.desired, self.unfollowed.value, ipv6=passed.local.ipv6)
        return replace(shown, skipped={**withdrawn, **shown.skipped}) if withdrawn else shown
