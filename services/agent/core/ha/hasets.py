"""Who carries each HA group of this host, kept up to date group by group, and whom to ask over the tunnel for it.

Sans-IO: `update` takes what is known now, and only the groups that a change concerns are looked at.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec

from services.agent.core.changes import changed, patched
from services.agent.core.documents import Documents
from services.agent.core.ha.agents import Agents
from services.agent.core.ha.choice import Chosen, Memory, choose, is_nearer
from services.agent.core.ha.standing import Candidate, Decision, Health, Probed, Ranking, Role, Switch
from services.agent.core.parsed import Peer
from services.agent.core.routing.choices import Choice, Selection, choice
from services.agent.core.routing.hagroups import HaGroup, HaKey, where_of
from services.agent.core.routing.offers import Offers
from shared.events.documents import PresenceDoc, SelfDoc

NO_PRESENCE = PresenceDoc(peer_id="", agent=True)
UNASKED = Health()
BEFORE = "it carried the set when this agent began"
SILENT = "kept although it does not answer, for a while: no other is usable"


class Known(NamedTuple):
    """What there is to go by. skipped: ids of documents that make no sense. connected: public keys of the peers with a
    WireGuard session. health: peer id → what its answers say. is_open: whether there is a session with the bus.
    carried: route id → id of the routing peer that carries it now."""

    documents: Documents
    selection: Selection = Selection()
    skipped: Iterable[str] = ()
    connected: frozenset[str] = frozenset()
    health: Mapping[str, Health] = {}
    is_open: bool = False
    carried: Mapping[str, str] = {}


class _Member(msgspec.Struct, frozen=True, gc=False):
    """A routing peer of a group. routes: metric and id of its routes in the group, best first."""

    peer_id: str
    routes: tuple[tuple[int, str], ...]


class _Asked(NamedTuple):
    """Peers of a group to be asked."""

    in_use: tuple[str, ...] = ()
    others: tuple[str, ...] = ()


class HaSets:
    """decisions: who carries a group, of those that there is anything to decide about: with several candidates, or one
    that is not usable. rankings: how the candidates of each group stand that is used. probed: whom to ask over the
    tunnel.

    found: prefix → public key of the peer that the device led it to when this agent began. switches: the last ones of
    the runs before, oldest first.
    """

    def __init__(self, found: Mapping[str, str] = {}, switches: Iterable[Switch] = ()) -> None:
        self._found = found
        self._since = {(one.network_id, one.where, one.now): one for one in switches}
        self._known = Known(Documents())
        self._me: SelfDoc | None = None
        self._agents = Agents()
        self._choice: Choice | None = None
        self._offers = Offers(None)
        self._peers: Mapping[str, Peer] = {}
        self._by_key: dict[str, str] = {}
        self._members: dict[HaKey, tuple[_Member, ...]] = {}
        self._incumbents: dict[HaKey, str] = {}
        self._memories: dict[HaKey, Memory] = {}
        self._reasons: dict[HaKey, tuple[str, float]] = {}
        self._deadlines: dict[HaKey, float] = {}
        self._asked: dict[HaKey, _Asked] = {}
        self._in_use: Counter[str] = Counter()
        self._others: Counter[str] = Counter()
        self._carrying = frozenset[str]()
        self.decisions: Mapping[HaKey, Decision] = {}
        self.rankings: Mapping[HaKey, Ranking] = {}
        self.probed: Mapping[str, Probed] = {}
        self.ignored = 0
        """How often something was said of a candidate's former key, or of another one."""

    def update(self, known: Known, now: float, wall: float) -> tuple[Switch, ...]:
        """Take over what is known, and decide; gives what became otherwise. now: monotonic, wall: unix seconds."""
        before, self._known = self._known, known
        if known.carried:
            self._found = {}
        dirty = self._follow_documents(before, known)
        peers = self._agents.update(known.documents.presences, is_open=known.is_open, now=now)
        peers |= changed(before.documents.presences, known.documents.presences)
        peers |= {self._by_key[key] for key in before.connected ^ known.connected if key in self._by_key}
        others, drifted = _changes(before.health, known.health)
        dirty |= self._offers.routed_by(peers | others)
        dirty |= {key for key in self._offers.routed_by(drifted) if key not in dirty and self._matters(key)}
        dirty |= {key for key, at in self._deadlines.items() if at <= now}
        switches: list[Switch] = []
        decisions: dict[HaKey, Decision | None] = {}
        rankings: dict[HaKey, Ranking | None] = {}
        for key in sorted(dirty):
            decisions[key], rankings[key] = self._decide(key, now, wall, switches)
        self.decisions, self.rankings = patched(self.decisions, decisions), patched(self.rankings, rankings)
        self._ask()
        return tuple(switches)

    def carry_still(self, peer_ids: frozenset[str]) -> None:
        """These carry groups that are to go elsewhere: what they answer is what traffic depends on until then."""
        if peer_ids != self._carrying:
            self._carrying = peer_ids
            self._ask()

    def next_deadline(self) -> float | None:
        """When to look again although nothing changed. Monotonic seconds."""
        due = [*self._deadlines.values()]
        if (at := self._agents.next_deadline()) is not None:
            due.append(at)
        return min(due, default=None)

    def _follow_documents(self, before: Known, known: Known) -> set[HaKey]:
        """The groups that changed, or are used otherwise than before."""
        documents = known.documents
        dirty = set[HaKey]()
        if documents.self_doc != self._me:
            self._me = documents.self_doc
            dirty |= self._offers.groups.keys()
            self._offers, self._choice = Offers(self._me), None
        if documents.peers is not before.documents.peers or known.skipped is not before.skipped:
            skipped = frozenset(known.skipped)
            self._peers = {
                peer_id: peer for peer_id, peer in documents.peers.items() if peer.has_key and peer_id not in skipped
            }
            self._by_key = {peer.wireguard_key: peer_id for peer_id, peer in self._peers.items()}
            others = changed(before.documents.peers, documents.peers)
            dirty |= self._offers.routed_by(others)
        dirty |= self._offers.update(documents.routes, self._peers)
        for key in dirty:
            self._members.pop(key, None)
        made = choice(known.selection, self._offers.exits.values())
        if made != self._choice:
            self._choice = made
            dirty |= self._offers.groups.keys()
        return dirty

    def _matters(self, key: HaKey) -> bool:
        """Whether a path became shorter than the one in use by what is worth a move, or ceased to be."""
        health, memory = self._known.health, self._memories.get(key)
        if memory is None:
            return False
        in_use = health.get(memory.incumbent, UNASKED)
        return any(
            is_nearer(health.get(peer_id, UNASKED), in_use) != (memory.marks[peer_id].nearer_since is not None)
            for peer_id in self._asked.get(key, _Asked()).others
        )

    def _decide(
        self, key: HaKey, now: float, wall: float, switches: list[Switch]
    ) -> tuple[Decision | None, Ranking | None]:
        group = self._offers.groups.get(key)
        candidates = self._candidates(group) if group and self._choice and self._choice.uses(key[0]) else ()
        if group is None or not candidates:
            self._forget(key)
            return None, None
        incumbent = self._incumbents[key] if key in self._incumbents else self._found_at(group)
        chosen = choose(candidates, incumbent, self._memories.get(key, Memory()), now)
        if chosen.cause or key not in self._reasons:
            self._reasons[key] = self._note(group, incumbent, chosen, wall, switches)
        self._incumbents[key], self._memories[key] = chosen.peer_id, chosen.memory
        if chosen.next_deadline is None:
            self._deadlines.pop(key, None)
        else:
            self._deadlines[key] = chosen.next_deadline
        self._note_asked(key, _asked(candidates, chosen))
        reason, at = self._reasons[key]
        reason = SILENT if chosen.is_silent else reason
        decided = len(candidates) > 1 or not candidates[0].usable
        decision = Decision(peer_id=chosen.peer_id, reason=reason, at=at) if decided else None
        return decision, Ranking(reason, at, chosen.ranked)

    def _note(
        self, group: HaGroup, incumbent: str, chosen: Chosen, wall: float, switches: list[Switch]
    ) -> tuple[str, float]:
        """Why and when it became this one."""
        where = where_of(group.key)
        former = self._since.get((group.network_id, where, chosen.peer_id))
        if chosen.cause in ("", "first"):
            if former is not None and chosen.peer_id == incumbent:
                return former.reason, former.at
            return (chosen.reason or BEFORE), wall
        switches.append(
            Switch(
                at=wall,
                network_id=group.network_id,
                where=where,
                former=incumbent,
                former_name=self._name(incumbent),
                now=chosen.peer_id,
                now_name=self._name(chosen.peer_id),
                cause=chosen.cause,
                reason=chosen.reason,
            )
        )
        return chosen.reason, wall

    def _candidates(self, group: HaGroup) -> tuple[Candidate, ...]:
        members = self._members.get(group.key)
        if members is None:
            members = self._members[group.key] = self._members_of(group)
        fixed = group.return_address != ""
        return tuple(self._candidate(one, fixed) for one in members)

    def _members_of(self, group: HaGroup) -> tuple[_Member, ...]:
        over_v6 = ":" in group.network
        able = (id for id in sorted(group.routing_peers) if id in self._peers)
        return tuple(
            _Member(
                peer_id,
                tuple(sorted((one.metric, one.route_id) for one in group.routes if peer_id in one.routing_peers)),
            )
            for peer_id in able
            if self._peers[peer_id].address_v6 or not over_v6
        )

    def _candidate(self, member: _Member, is_returned: bool) -> Candidate:
        known, peer_id = self._known, member.peer_id
        peer, presence = self._peers[peer_id], known.documents.presences.get(peer_id, NO_PRESENCE)
        health = known.health.get(peer_id, UNASKED)
        if health.public_key != peer.wireguard_key:
            self.ignored += health is not UNASKED
            health = UNASKED
        metric, withdrawn = member.routes[0][0], ""
        if presence.withdrawn:
            reasons = {one.route_id: one.reason for one in presence.withdrawn}
            left = [metric for metric, route_id in member.routes if route_id not in reasons]
            metric = left[0] if left else metric
            withdrawn = "" if left else reasons[member.routes[0][1]] or "it says so"
        return Candidate(
            peer_id=peer_id,
            public_key=peer.wireguard_key,
            metric=metric,
            connected=peer.wireguard_key in known.connected,
            verdict=health.verdict,
            withdrawn=withdrawn,
            draining=presence.draining,
            agentless=peer_id in self._agents.agentless,
            holds=is_returned and any(route_id in presence.holds for _, route_id in member.routes),
            rtt_s=health.rtt_s,
            spread_s=health.spread_s,
        )

    def _found_at(self, group: HaGroup) -> str:
        """The peer that carries a group which was not decided about yet, "" for nobody."""
        for route in group.routes:
            if route.route_id in self._known.carried:
                return self._known.carried[route.route_id]
        for route in group.routes if self._found else ():
            found = self._known.documents.resolutions.get(route.route_id)
            networks = [network for name in found.names for network in name.networks] if found else []
            for prefix in (route.canonical, *map(str, networks)):
                if prefix in self._found and self._found[prefix] in self._by_key:
                    return self._by_key[self._found[prefix]]
        return ""

    def _forget(self, key: HaKey) -> None:
        self._note_asked(key, _Asked())
        for held in (self._incumbents, self._memories, self._reasons, self._deadlines):
            held.pop(key, None)

    def _note_asked(self, key: HaKey, asked: _Asked) -> None:
        former = self._asked.get(key, _Asked())
        if former == asked:
            return
        self._in_use.subtract(former.in_use)
        self._others.subtract(former.others)
        self._in_use.update(asked.in_use)
        self._others.update(asked.others)
        if asked == _Asked():
            del self._asked[key]
        else:
            self._asked[key] = asked

    def _ask(self) -> None:
        """Who is in use anywhere is asked as one in use."""
        probed: dict[str, Probed] = {}
        for counts in (self._others, self._in_use):
            for peer_id in [peer_id for peer_id, count in counts.items() if count <= 0]:
                del counts[peer_id]
        roles: tuple[tuple[Iterable[str], Role], ...] = (
            (self._others, "standby"),
            (self._in_use, "in use"),
            (sorted(self._carrying), "in use"),
        )
        for peer_ids, role in roles:
            for peer_id in peer_ids:
                if peer_id in self._peers:
                    peer = self._peers[peer_id]
                    probed[peer_id] = Probed(public_key=peer.wireguard_key, address=peer.v4 or peer.v6, role=role)
        if probed != self.probed:
            self.probed = probed

    def _name(self, peer_id: str) -> str:
        peer = self._peers.get(peer_id) or self._known.documents.peers.get(peer_id)
        return peer.fqdn if peer else peer_id


def _changes(before: Mapping[str, Health], now: Mapping[str, Health]) -> tuple[set[str], set[str]]:
    """The peers with another verdict or key, and those of which only the figures are others."""
    others, drifted = set[str](), set[str]()
    for peer_id in changed(before, now):
        one, former = now.get(peer_id, UNASKED), before.get(peer_id, UNASKED)
        is_other = (one.verdict, one.public_key) != (former.verdict, former.public_key)
        (others if is_other else drifted).add(peer_id)
    return others, drifted


def _asked(candidates: Iterable[Candidate], chosen: Chosen) -> _Asked:
    """The one in use, the one that would be next, and all that are down: they are back once they answer."""
    by_id = {one.peer_id: one for one in candidates}
    others = [by_id[one.peer_id] for one in chosen.ranked if one.peer_id != chosen.peer_id]
    standby = next((one.peer_id for one in others if one.usable), "")
    asked = tuple(one.peer_id for one in others if one.peer_id == standby or (one.connected and one.verdict == "down"))
    in_use = chosen.peer_id
    return _Asked((in_use,) if in_use and by_id[in_use].connected else (), asked)
