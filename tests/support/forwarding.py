"""A forwarder between clients and nameservers that a test plays, in virtual time."""

from typing import Any

import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

from services.agent.core.forwarder.answers import Answer, Unusable, failure, read_answer
from services.agent.core.forwarder.forwarder import Ask, Fill, Forwarder, Send, Told
from services.agent.core.forwarder.terms import Terms

MARK = b"whimbrel"
ALICE, BOB, STRANGER = "100.64.0.7", "100.64.0.8", "100.64.0.9"
TERMS = Terms(
    domains={"lan": ("db.corp.example", "*.corp.example"), "web": ("www.example",), "mail": ("mx.example",)},
    audiences=(("lan", "web"), ("mail",)),
    askers={ALICE: 0, BOB: 1, "fd00:64::7": 0},
    overlay=("100.64.0.0/16", "fd00:64::/64"),
    own=("100.64.0.1", "192.168.77.1"),
)
SOA = "corp.example. 900 IN SOA ns.corp.example. root.corp.example. 1 2 3 4 60"


def query(name: str, kind: str = "A", **options: Any) -> bytes:
    """options: those of dnspython's make_query; edns=False for none."""
    edns = {"use_edns": 0, "payload": 1232} if options.pop("edns", True) else {}
    return dns.message.make_query(name, kind, **{**edns, **options}).to_wire()


def reply(packet: bytes, *records: str, rcode: str = "NOERROR", authority: tuple[str, ...] = ()) -> bytes:
    """What a nameserver says to the question in the packet; records: as "name ttl IN type data"."""
    message = dns.message.make_response(dns.message.from_wire(packet))
    message.set_rcode(dns.rcode.from_text(rcode))
    for section, lines in ((message.answer, records), (message.authority, authority)):
        for line in lines:
            name, ttl, klass, kind, data = line.split(" ", 4)
            one = dns.rrset.from_text(name, int(ttl), klass, kind, data)
            same = next((held for held in section if (held.name, held.rdtype) == (one.name, one.rdtype)), None)
            if same is None:
                section.append(one)
            else:
                for rdata in one:
                    same.add(rdata)
    return message.to_wire(max_size=65_535)


class Play:
    """zone: what nameservers answer, (name, type) → records as in `reply`, an rcode's name, or "silence" for nothing
    yet. holds_fills: fills wait for `fill`. asked, filled: what the forwarder asked for so far.
    """

    def __init__(self, terms: Terms = TERMS) -> None:
        self.now = 1000.0
        self.forwarder = Forwarder(MARK)
        self.forwarder.follow(terms)
        self.zone: dict[tuple[str, str], list[str] | str] = {}
        self.holds_fills = False
        self.fills_fail = ""
        self.asked: list[str] = []
        self.filled: list[Fill] = []
        self.sent: dict[object, bytes] = {}
        self.told: list[Told] = []
        self.open_asks: list[Ask] = []
        self.open_fills: list[Fill] = []
        self._clients = 0

    def ask(
        self, name: str, kind: str = "A", source: str = ALICE, *, tcp: bool = False, **options: Any
    ) -> dns.message.Message | None:
        """The answer that came at once, or as soon as nameservers and firewall had done their part."""
        packet = self.send(query(name, kind, **options), source, tcp=tcp)
        return dns.message.from_wire(packet) if packet else None

    def send(self, packet: bytes, source: str = ALICE, *, tcp: bool = False) -> bytes | None:
        self._clients += 1
        said = self.forwarder.hear(packet, source, self._clients, self.now, tcp=tcp)
        self.settle()
        return said or self.sent.get(self._clients)

    def settle(self) -> None:
        """Nameservers and firewall do what they are asked for."""
        while commands := self.forwarder.take():
            for command in commands:
                match command:
                    case Ask():
                        self.asked.append(b".".join(command.question.name).decode("latin-1"))
                        self.open_asks.append(command)
                        self._answer(command)
                    case Fill():
                        self.filled.append(command)
                        self.open_fills.append(command)
                        if not self.holds_fills:
                            self.fill(command)
                    case Send():
                        self.sent[command.client] = command.packet
                    case Told():
                        self.told.append(command)

    def fill(self, command: Fill) -> None:
        self.open_fills.remove(command)
        self.forwarder.filled(command.number, self.fills_fail, self.now)
        self.settle()

    def answer(self, ask: Ask, packet: bytes) -> None:
        """What a nameserver's packet comes to."""
        self.open_asks.remove(ask)
        self.forwarder.answered(ask.number, self.read(ask, packet), self.now)
        self.settle()

    def read(self, ask: Ask, packet: bytes) -> Answer:
        try:
            return read_answer(ask.question, packet, self.forwarder.never)
        except Unusable as problem:
            return failure(problem.why)

    def passes(self, seconds: float) -> None:
        self.now += seconds
        self.forwarder.advance(self.now)
        self.settle()

    def _answer(self, ask: Ask) -> None:
        name = b".".join(ask.question.name).decode("latin-1")
        held = self.zone.get((name, dns.rdatatype.to_text(dns.rdatatype.RdataType(ask.question.kind))), "NXDOMAIN")
        if held == "silence":
            return
        if isinstance(held, list):
            self.answer(ask, reply(ask.packet, *held, authority=() if held else (SOA,)))
        else:
            self.answer(ask, reply(ask.packet, rcode=held, authority=(SOA,) if held == "NXDOMAIN" else ()))
