"""From a question to an answer: by the rules, from documents or from others, and routed before it is given."""

import secrets
from collections.abc import Callable, Iterable

import dns.exception
import dns.message

from services.agent.core.dns import messages
from services.agent.core.dns.decide import Ask, Failed, Known, decide
from services.agent.core.dns.forwarders import Groups, carrier, forwarders
from services.agent.core.dns.messages import Question
from services.agent.core.dns.names import text
from services.agent.core.dns.outcome import Outcome
from services.agent.core.dns.rules import HostServers, Routed, Rules, Served
from services.agent.core.dns.zones import Presence
from services.agent.core.documents import Documents
from services.agent.core.parsed import Route
from services.agent.core.reconcile.sysctls import has_v6
from services.agent.core.routing.hagroups import HaKey
from services.agent.dns.learning import NOT_ROUTED, Learning
from services.agent.dns.racing import Racing
from services.agent.situation import Situation

NOBODY_CARRIES = "no routing peer carries the route of this name now"
NOBODY_ANSWERS = "none of the servers that have this name answers"
NO_SERVERS = "no server has this name, and the host names none of its own"
CHAIN_TOO_LONG = "the CNAMEs in the answer lead on for too long"


class Resolver:
    """rules: those of the moment. There may be many questions at once."""

    def __init__(self, situation: Situation, rules: Callable[[], Rules], racing: Racing, learning: Learning) -> None:
        self._situation = situation
        self._rules = rules
        self._racing = racing
        self._learning = learning
        self._groups = Groups()
        self._turn = 0

    async def resolve(self, asked: Question, *, tcp: bool = False) -> Outcome:
        """The answer; tcp: whether the question came that way, and goes on like that."""
        self._turn += 1
        decided = decide(self._rules(), asked.name, asked.kind, self._presence())
        match decided:
            case Known(records=records, exists=exists, rule=zone):
                message = messages.own(asked, records, exists=exists, zone=zone.domain)
                return Outcome(message, zone, decided.passed)
            case Failed(why=why):
                message = messages.failed(asked, messages.OTHER_ERROR, why)
                return Outcome(message, None, decided.passed, why=why)
            case Ask():
                return await self._ask(asked, decided, tcp)

    async def _ask(self, asked: Question, ask: Ask, tcp: bool) -> Outcome:
        match ask.rule:
            case Routed(keys=keys):
                return await self._ask_routing_peers(asked, ask, keys, tcp)
            case Served(groups=groups):
                none = NOBODY_ANSWERS
            case HostServers(servers=servers):
                groups, none = ((servers,) if servers else ()), NOBODY_ANSWERS if servers else NO_SERVERS
        won = await self._racing.ask(groups, self._sent(asked, ask), tcp=tcp)
        if won is None:
            return _failed(asked, ask, messages.NO_REACHABLE, none)
        return Outcome(messages.replied(asked, won.message, ask.records), ask.rule, ask.passed, won.server)

    async def _ask_routing_peers(self, asked: Question, ask: Ask, keys: tuple[HaKey, ...], tcp: bool) -> Outcome:
        """Those of the first HA group that somebody carries; the answer waits until the kernel routes it (D4)."""
        carriers = {key: self._carrier(key) for key in keys}
        key = next((key for key in keys if carriers[key]), None)
        peers, settings = self._documents.peers, self._documents.settings
        if key is None or settings is None:
            return _failed(asked, ask, messages.NO_REACHABLE, NOBODY_CARRIES)
        servers = forwarders(carriers[key], self._situation.rankings.value.get(key), peers, settings.forwarder_port)
        won = await self._racing.ask((servers,) if servers else (), self._sent(asked, ask), tcp=tcp)
        if won is None:
            return _failed(asked, ask, messages.NO_REACHABLE, NOBODY_ANSWERS)._replace(key=key)
        try:
            addresses = messages.addresses(won.message)
        except dns.exception.DNSException:
            return _failed(asked, ask, messages.OTHER_ERROR, CHAIN_TOO_LONG)._replace(key=key)
        peer = peers.get(carriers[key])
        without = asked.family == 6 and not (self._presence().ipv6 and peer is not None and peer.v6)
        if asked.family is not None and addresses and not without:
            keep = any(route.keep_route for route in self._group(key))
            if not await self._learning.learn(key, text(ask.name), asked.family, addresses, keep=keep):
                return _failed(asked, ask, messages.NOT_READY, NOT_ROUTED)._replace(key=key, server=won.server)
        message = messages.replied(asked, won.message, ask.records, bounded=True, without_addresses=without)
        return Outcome(message, ask.rule, ask.passed, won.server, key)

    def _sent(self, asked: Question, ask: Ask) -> dns.message.Message:
        return messages.passed_on(asked, ask.name, secrets.randbits(16))

    def _group(self, key: HaKey) -> Iterable[Route]:
        return self._groups.of(self._documents.routes, key)

    def _carrier(self, key: HaKey) -> str:
        carried = self._situation.passed.value.desired.routing_peers
        return carrier(key, self._group(key), self._situation.carriers.value, carried)

    @property
    def _documents(self) -> Documents:
        return self._situation.documents.value or Documents()

    def _presence(self) -> Presence:
        me, local = self._documents.self_doc, self._situation.passed.value.local
        ipv6 = me is not None and me.address_v6 != "" and local.ipv6 and has_v6(local.sysctls)
        return Presence(self._situation.tunnels.value.connected, ipv6, self._turn)


def _failed(asked: Question, ask: Ask, code: int, why: str) -> Outcome:
    return Outcome(messages.failed(asked, code, why), ask.rule, ask.passed, why=why)
