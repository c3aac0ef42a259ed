"""The resolver of this host: answers on port 53 of its overlay address, as long as its DNS is managed."""

import errno
import time
from ipaddress import ip_address
from operator import is_

import dns.exception
import structlog

from services.agent.cells import Watch
from services.agent.core.dns import messages
from services.agent.core.dns.askers import Askers
from services.agent.core.dns.learned import Address
from services.agent.core.dns.messages import Question
from services.agent.core.dns.names import text
from services.agent.core.dns.outcome import Outcome
from services.agent.core.dns.resolvconf import ResolvConf, upstream
from services.agent.core.dns.rules import Rules, Terms, used_groups
from services.agent.core.documents import Documents
from services.agent.core.routing.choices import Selection
from services.agent.core.routing.destinations import overlay_of
from services.agent.dns.learning import Learning
from services.agent.dns.listener import Listener
from services.agent.dns.racing import Racing, Servers
from services.agent.dns.resolver import Resolver
from services.agent.situation import Dns, Situation
from shared.metrics import REGISTRY, Counter, Histogram
from shared.tasks import end_if_cancelled

LOOPBACK = ("127.0.0.1", "127.0.0.153")
"""Where the resolver answers while another program has port 53 of the overlay address (reference agent §5.1)."""

AGAIN_S = 5.0
TCP_BYTES = 65535
SAY_EVERY_S = 60.0

TAKEN = "another program has port 53 of every address that this host's resolver could use: stop it, or move it"
BROKEN = "the resolver of this host failed at this question, its log says how"

FAULTS = (dns.exception.DNSException, LookupError, ValueError)
"""What bytes that nobody thought of, in questions and in answers, may provoke."""

log = structlog.get_logger()

_answers = Counter("whimbrel_agent_dns_answers", "Answers of this host's resolver", ["rule"], registry=REGISTRY)
_took = Histogram(
    "whimbrel_agent_dns_answer_seconds", "Time until the answer of this host's resolver", registry=REGISTRY
)


class LocalDns:
    """Keeps the cell `dns`, and answers. port: 53, save for tests."""

    def __init__(self, situation: Situation, servers: Servers, learning: Learning, port: int = 53) -> None:
        self._situation = situation
        self._port = port
        self._racing = Racing(servers, time.monotonic)
        self.resolver = Resolver(situation, lambda: situation.dns.value.rules, self._racing, learning)
        self._watch = Watch(
            situation.documents, situation.choices, situation.host_dns, situation.passed, situation.addresses
        )
        self._listener: Listener | None = None
        self._terms: Terms | None = None
        self._made_of: tuple[Documents, Selection, ResolvConf, str] | None = None
        self._askers: Askers | None = None
        self._askers_of: tuple[object, ...] = ()
        self._said_at = float("-inf")

    async def run(self) -> None:
        """Until cancelled."""
        try:
            while True:
                end_if_cancelled()
                self._make_rules()
                await self._listen()
                await self._watch.wait(AGAIN_S if self._situation.dns.value.problem else None)
        finally:
            self._hang_up()

    async def explain(self, asked: Question) -> tuple[Outcome, float]:
        """The answer that a program would get, and the seconds that it took."""
        began = time.monotonic()
        outcome = await self.resolver.resolve(asked)
        return outcome, time.monotonic() - began

    async def _answer(self, asked: Question, tcp: bool) -> bytes:
        began = time.monotonic()
        limit = TCP_BYTES if tcp else asked.limit
        try:
            outcome = await self.resolver.resolve(asked, tcp=tcp)
            wire = messages.wire(outcome.message, limit)
        except FAULTS:  # whoever asked would wait in vain, and the next question is another one
            if began - self._said_at >= SAY_EVERY_S:
                self._said_at = began
                log.exception("a question could not be answered", name=text(asked.name), type=asked.kind)
            _answers.labels("broken").inc()
            return messages.wire(messages.failed(asked, messages.OTHER_ERROR, BROKEN), limit)
        _answers.labels(type(outcome.rule).__name__.lower()).inc()
        _took.observe(time.monotonic() - began)
        return wire

    def _make_rules(self) -> None:
        documents, choices = self._situation.documents.value or Documents(), self._situation.choices.value
        host, address = self._situation.host_dns.value, self._situation.dns.value.address
        made_of = documents, choices, host, address
        if self._made_of is not None and all(map(is_, made_of, self._made_of)):
            return  # as after most passes of the kernel's loop
        self._made_of = made_of
        me, settings = documents.self_doc, documents.settings
        terms = Terms(
            me=me,
            settings=settings,
            peers=documents.peers,
            nameservers=documents.nameservers,
            zones=documents.zones,
            used=used_groups(me, settings, documents.routes.values(), documents.peers, choices),
            host=upstream(host, address),
            search=host.search,
        )
        if terms != self._terms:
            self._terms = terms
            self._tell(rules=Rules(terms))

    async def _listen(self) -> None:
        """Have the port open where it can be, and closed where it shall not."""
        documents = self._situation.documents.value or Documents()
        me, rules = documents.self_doc, self._situation.dns.value.rules
        wanted = me.address_v4 or me.address_v6 if me is not None and rules.managed else ""
        if not wanted:
            self._hang_up()
            self._tell(address="", problem="")
            return
        self._know_askers(documents, wanted)
        if self._listener is not None and self._listener.address in (wanted, *LOOPBACK):
            return
        self._hang_up()
        problem = TAKEN
        for address in (wanted, *LOOPBACK):
            listener = Listener(address, self._may_ask, self._answer)
            try:
                await listener.open(self._port)
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    problem = "" if error.errno == errno.EADDRNOTAVAIL else f"{address}: {error.strerror or error}"
                    break  # the overlay address is not there yet, or nothing can be had at all
                continue
            self._listener = listener
            self._tell(address=address, problem="")
            log.info("names are answered", address=address)
            return
        if problem and problem != self._situation.dns.value.problem:
            log.warning("names are not answered", problem=problem)
        self._tell(address="", problem=problem)

    def _know_askers(self, documents: Documents, wanted: str) -> None:
        made_of = documents, self._situation.addresses.value
        if self._askers is None or not all(map(is_, made_of, self._askers_of)):
            overlay = overlay_of(documents.settings, documents.self_doc, ipv6=True).networks
            self._askers, self._askers_of = Askers(ip_address(wanted), overlay, made_of[1].where), made_of

    def _may_ask(self, sender: Address) -> bool:
        return self._askers is not None and self._askers.may_ask(sender)

    def _hang_up(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def _tell(self, **fields: object) -> None:
        former = self._situation.dns.value
        told = Dns(
            address=str(fields.get("address", former.address)),
            problem=str(fields.get("problem", former.problem)),
            rules=fields["rules"] if isinstance(fields.get("rules"), Rules) else former.rules,  # type: ignore[arg-type]
        )
        if told != former:
            self._situation.dns.set(told)
