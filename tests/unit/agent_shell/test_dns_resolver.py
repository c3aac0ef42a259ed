"""The resolver of a host with real sockets on loopback, and a kernel in memory behind the real loop."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import dns.asyncquery
import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.rcode
import pytest
from msgspec.structs import replace

from services.agent.core.dns.learned import PER_NAME, LearnedBefore
from services.agent.core.documents import Documents
from services.agent.core.ha.standing import Decision, Ranked, Ranking
from services.agent.core.reconcile.desired import Local
from services.agent.core.routing.choices import DESELECT_ALL
from services.agent.core.routing.hagroups import HaKey
from services.agent.dns.exchange import Exchange
from services.agent.dns.learning import Learning
from services.agent.dns.local import BROKEN, LOOPBACK, LocalDns
from services.agent.loop.loop import Loop
from services.agent.situation import Situation, Tunnels
from shared.events.documents import DnsRecord
from shared.events.documents import DnsServer as Server
from tests.support.bus import eventually
from tests.support.dns import SERVFAIL, DnsServer
from tests.support.ports import free_port
from tests.unit.agent.make import documents, key, me, nameservers, peer, route, settings, zone
from tests.unit.agent_shell.drivers import Memory

OWN, GW1, GW2, STRANGER = "127.0.0.11", "127.0.0.21", "127.0.0.22", "127.0.0.31"
CORP: HaKey = ("corp", "", ("*.corp.test",))


class Kept:
    """What is kept on disk."""

    def __init__(self, value: LearnedBefore = LearnedBefore()) -> None:
        self.value = value
        self.times = 0

    def keep(self, value: LearnedBefore) -> None:
        self.value = value
        self.times += 1


class Originals:
    def __init__(self) -> None:
        self.value: dict[str, str] = {}

    def keep(self, value: dict[str, str]) -> None:
        self.value = value


class Site:
    """A host that uses the wildcard of network corp by gw1 and gw2, each with a forwarder."""

    def __init__(self, kept: LearnedBefore = LearnedBefore()) -> None:
        self.kernel = Memory({"net/ipv4/conf/all/src_valid_mark": "0"})
        self.situation = Situation(Local(public_key=key("me"), listen_port=51820, ipv6=False))
        self.kept = Kept(kept)
        self.gw1, self.gw2 = DnsServer(), DnsServer()
        self.port = free_port()
        self.now = 1000.0
        self.learning = Learning(self.situation, self.kept, clock=lambda: self.now)
        self.local = LocalDns(self.situation, Exchange(), self.learning, self.port)
        self._running: list[asyncio.Task[None]] = []

    def picture(self, **fields: Any) -> Documents:
        forwarder_port = fields.pop("forwarder_port", self.port)
        nameserver_groups = fields.pop("groups", ())
        found = documents(
            me(v4=OWN, v6=""),
            [peer("gw1", v4=GW1), peer("gw2", v4=GW2)],
            routes=[route("r1", domains=CORP[2], network_id="corp", by=("gw1", "gw2"), **fields)],
            settings_doc=settings(forwarder_port=forwarder_port, overlay_v4="127.0.0.0/24"),
        )
        return replace(found, nameservers={one.group_id: one for one in nameserver_groups})

    async def start(self) -> None:
        await self.gw1.start(GW1, self.port, tcp=True)
        await self.gw2.start(GW2, self.port)
        self.situation.tunnels.set(Tunnels(connected=frozenset(map(key, ("gw1", "gw2")))))
        self.situation.documents.set(self.picture())
        self.carried_by("gw1")
        loop = Loop(self.situation, self.kernel.drivers(), Originals())
        self._running = [asyncio.create_task(part()) for part in (loop.run, self.learning.run, self.local.run)]
        await eventually(
            lambda: self.situation.dns.value.address != "" and self.situation.passed.value.applied_revision
        )

    async def stop(self) -> None:
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        self.gw1.stop()
        self.gw2.stop()

    def carried_by(self, name: str) -> None:
        """ "" for nobody; the other one stands by."""
        other = {"gw1": "gw2", "gw2": "gw1"}.get(name, "gw1")
        self.situation.rankings.set(
            {CORP: Ranking("", 0.0, (Ranked(name, "in use"), Ranked(other, "standby")))} if name else {}
        )
        self.situation.carriers.set({CORP: Decision(peer_id=name, reason="")})

    async def ask(self, name: str, kind: str = "A", *, tcp: bool = False, source: str = OWN) -> dns.message.Message:
        query = dns.message.make_query(name, kind, use_edns=0)
        ask = dns.asyncquery.tcp if tcp else dns.asyncquery.udp
        where = self.situation.dns.value.address
        return await ask(query, where, timeout=10.0, port=self.port, source=source)

    @property
    def routes(self) -> set[str]:
        return set(self.kernel.routes.entries)


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    found = Site()
    try:
        await found.start()
        yield found
    finally:
        await found.stop()


def parsed_address(text: str) -> Server:
    address, _, port = text.rpartition(":")
    return Server(address, int(port))


def contents(message: dns.message.Message) -> list[str]:
    return [record.to_text() for rrset in message.answer for record in rrset]


def why(message: dns.message.Message) -> list[str]:
    return [str(option.text) for option in message.options if isinstance(option, dns.edns.EDEOption)]


async def test_d4_a_fresh_names_route_and_allowed_ip_are_in_the_kernel_before_its_answer(site: Site) -> None:
    site.gw1.zone = {f"n{number}.corp.test": [f"A 10.7.{number // 250}.{number % 250}"] for number in range(200)}

    async def ask(number: int) -> bool:
        (address,) = contents(await site.ask(f"n{number}.corp.test"))
        allowed = site.kernel.device.peers.entries[key("gw1")].allowed_ips
        return f"{address}/32" in site.routes and f"{address}/32" in allowed

    assert all(await asyncio.gather(*map(ask, range(200))))
    assert len(site.routes) == 200


async def test_an_answer_has_its_chain_and_the_bounded_ttl_and_the_question_as_it_was_asked(site: Site) -> None:
    site.gw1.zone = {"Db.corp.test": ["CNAME x.else.test."], "x.else.test": ["A 10.7.0.1"]}
    answer = await site.ask("Db.corp.test")
    assert contents(answer) == ["x.else.test.", "10.7.0.1"]
    assert answer.question[0].name.to_text() == "Db.corp.test."
    assert site.routes == {"10.7.0.1/32"}


async def test_every_type_of_a_routed_name_is_asked_of_the_routing_peer(site: Site) -> None:
    site.gw1.zone = {"db.corp.test": ["TXT hello", "MX 10 mail.corp.test."]}
    assert contents(await site.ask("db.corp.test", "TXT")) == ['"hello"']
    assert contents(await site.ask("db.corp.test", "MX")) == ["10 mail.corp.test."]
    assert (await site.ask("no.corp.test", "MX")).rcode() == dns.rcode.NXDOMAIN
    assert site.routes == set()


async def test_when_the_forwarder_of_the_carrier_cannot_the_next_of_the_ha_set_is_asked(site: Site) -> None:
    site.gw1.zone, site.gw2.zone = {"db.corp.test": SERVFAIL}, {"db.corp.test": ["A 10.7.0.2"]}
    assert contents(await site.ask("db.corp.test")) == ["10.7.0.2"]
    assert site.kernel.device.peers.entries[key("gw1")].allowed_ips >= {"10.7.0.2/32"}


async def test_a_forwarder_that_is_gone_is_found_out_at_once(site: Site) -> None:
    site.gw1.stop()
    site.gw2.zone = {"db.corp.test": ["A 10.7.0.2"]}
    async with asyncio.timeout(1.0):
        assert contents(await site.ask("db.corp.test")) == ["10.7.0.2"]


async def test_questions_and_what_was_learned_move_with_the_choice(site: Site) -> None:
    site.gw1.zone, site.gw2.zone = {"db.corp.test": ["A 10.7.0.1"]}, {"new.corp.test": ["A 10.7.0.2"]}
    await site.ask("db.corp.test")
    site.carried_by("gw2")
    assert contents(await site.ask("new.corp.test")) == ["10.7.0.2"]
    assert ("new.corp.test", "A") not in site.gw1.asked
    assert site.kernel.device.peers.entries[key("gw2")].allowed_ips >= {"10.7.0.1/32", "10.7.0.2/32"}


async def test_with_nobody_to_carry_the_route_the_answer_is_a_whole_failure_with_the_reason(site: Site) -> None:
    site.carried_by("")
    answer = await site.ask("db.corp.test")
    assert (answer.rcode(), answer.question[0].name.to_text()) == (dns.rcode.SERVFAIL, "db.corp.test.")
    assert why(answer) == ["no routing peer carries the route of this name now"]


async def test_d4_a_route_that_the_kernel_refuses_is_no_answer(site: Site) -> None:
    site.gw1.zone = {"db.corp.test": ["A 10.7.0.1"]}
    site.kernel.routes.refused = {"10.7.0.1/32": "no buffer space"}
    answer = await site.ask("db.corp.test")
    assert (answer.rcode(), why(answer)) == (dns.rcode.SERVFAIL, ["the kernel has not taken its route yet"])


async def test_d4_an_allowed_ip_that_the_kernel_refuses_is_no_answer(site: Site) -> None:
    site.gw1.zone = {"db.corp.test": ["A 10.7.0.1"], "www.corp.test": ["A 10.7.0.2"]}
    site.kernel.device.peers.refused = {key("gw1"): "no buffer space"}
    for _ in range(2):
        answer = await site.ask("db.corp.test")
        assert (answer.rcode(), why(answer)) == (dns.rcode.SERVFAIL, ["the kernel has not taken its route yet"])


class Lossy(DnsServer):
    """Loses the first datagrams that it gets."""

    def __init__(self, lost: int) -> None:
        super().__init__()
        self.left = lost

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.left -= 1
        if self.left < 0:
            super().datagram_received(data, addr)


async def test_a_question_is_sent_again_where_a_datagram_is_lost(site: Site) -> None:
    lossy = Lossy(2)
    await lossy.start(STRANGER)
    lossy.zone = {"www.example": ["A 192.0.2.2"]}
    try:
        site.situation.documents.set(
            site.picture(groups=[nameservers("all", nameservers=(parsed_address(lossy.address),))])
        )
        await eventually(lambda: site.situation.dns.value.rules.default)
        assert contents(await site.ask("www.example")) == ["192.0.2.2"]
        assert lossy.asked["www.example", "A"] == 1
    finally:
        lossy.stop()


async def test_an_address_that_may_not_be_routed_is_told_and_not_routed(site: Site) -> None:
    site.gw1.zone = {"db.corp.test": ["A 169.254.1.1"]}
    assert contents(await site.ask("db.corp.test")) == ["169.254.1.1"]
    assert site.routes == set()


async def test_a_host_without_ipv6_in_the_overlay_is_told_of_no_ipv6_behind_it(site: Site) -> None:
    site.gw1.zone = {"db.corp.test": ["AAAA fd07::1", "A 10.7.0.1"]}
    answer = await site.ask("db.corp.test", "AAAA")
    assert (answer.rcode(), contents(answer)) == (dns.rcode.NOERROR, [])


@pytest.mark.parametrize(("keep", "left"), [(False, {"10.7.0.2/32"}), (True, {"10.7.0.1/32", "10.7.0.2/32"})])
async def test_r1_another_answer_replaces_the_routes_or_adds_to_them(site: Site, keep: bool, left: set[str]) -> None:
    site.situation.documents.set(site.picture(keep_route=keep))
    for address in ("10.7.0.1", "10.7.0.2"):
        site.gw1.zone = {"db.corp.test": [f"A {address}"]}
        assert contents(await site.ask("db.corp.test")) == [address]
    assert site.routes == left


async def test_what_was_learned_is_there_after_a_restart_and_goes_with_the_route(site: Site) -> None:
    site.gw1.zone = {"db.corp.test": ["A 10.7.0.1"]}
    await site.ask("db.corp.test")
    site.learning.keep()
    again = Site(site.kept.value)
    again.gw1, again.gw2 = site.gw1, site.gw2
    assert again.situation.learned.value == site.situation.learned.value
    site.situation.choices.set(DESELECT_ALL)
    await eventually(lambda: site.routes == set())
    assert site.situation.learned.value == {}


async def test_r1_addresses_that_stay_in_use_are_known_on_disk_as_seen_within_the_hour(site: Site) -> None:
    def last_seen() -> float:
        ((_, (seen,)),) = site.kept.value.groups
        return seen.addresses["10.7.0.1"]

    def look() -> None:
        site.situation.passed.set(replace(site.situation.passed.value))

    site.gw1.zone = {"db.corp.test": ["A 10.7.0.1"]}
    await site.ask("db.corp.test")
    site.now += 5.0
    look()
    await eventually(lambda: site.kept.times == 1)
    former = last_seen()
    await site.ask("db.corp.test")
    site.now += 3600.0
    look()
    await eventually(lambda: site.kept.times == 2)
    assert last_seen() > former


async def test_other_names_are_asked_of_the_accounts_servers(site: Site) -> None:
    given = DnsServer()
    await given.start(STRANGER)
    given.zone = {"www.example": ["A 192.0.2.2"]}
    try:
        assert why(await site.ask("www.example")) == ["no server has this name, and the host names none of its own"]
        servers = (parsed_address(given.address),)
        site.situation.documents.set(site.picture(groups=[nameservers("all", nameservers=servers)]))
        await eventually(lambda: site.situation.dns.value.rules.default)
        assert contents(await site.ask("www.example")) == ["192.0.2.2"]
        assert site.routes == set()
    finally:
        given.stop()


async def test_a_long_answer_is_cut_off_by_udp_and_whole_by_tcp_and_routed_either_way(site: Site) -> None:
    site.gw1.zone = {"db.corp.test": [f"A 10.7.0.{number}" for number in range(1, 120)]}
    assert (await site.ask("db.corp.test")).flags & dns.flags.TC
    assert len(site.routes) == 119
    assert len(contents(await site.ask("db.corp.test", tcp=True))) == 119


async def test_r1_an_answer_with_more_addresses_than_are_kept_is_given(site: Site) -> None:
    site.gw1.zone = {"db.corp.test": [f"A 10.7.{number // 250}.{number % 250}" for number in range(PER_NAME + 9)]}
    answer = await site.ask("db.corp.test", tcp=True)
    assert len(contents(answer)) == PER_NAME + 9
    assert len(site.routes) == PER_NAME


async def test_groups_that_share_a_server_of_which_each_refuses_are_a_whole_failure(site: Site) -> None:
    one, two = DnsServer(), DnsServer()
    await one.start(STRANGER)
    await two.start(STRANGER)
    one.zone = two.zone = {"www.example": SERVFAIL}
    first, second = parsed_address(one.address), parsed_address(two.address)
    try:
        groups = [nameservers("a", nameservers=(first, second)), nameservers("b", nameservers=(second,))]
        site.situation.documents.set(site.picture(groups=groups))
        await eventually(lambda: site.situation.dns.value.rules.default)
        answer = await site.ask("www.example")
        assert (answer.rcode(), why(answer)) == (
            dns.rcode.SERVFAIL,
            ["none of the servers that have this name answers"],
        )
    finally:
        one.stop()
        two.stop()


@pytest.mark.parametrize("name", [r"\.x.z.test.", r"a\.b.z.test.", r"\200\@.z.test."])
async def test_a_name_with_a_dot_inside_a_label_is_answered_by_a_wildcard_as_it_was_asked(
    site: Site, name: str
) -> None:
    own = zone("own", DnsRecord("*.z.test", "A", "10.3.0.9", 60), domain="z.test")
    site.situation.documents.set(replace(site.picture(), zones={own.zone_id: own}))
    await eventually(lambda: "z.test" in site.situation.dns.value.rules.domains)
    answer = await site.ask(name)
    assert contents(answer) == ["10.3.0.9"]
    assert answer.answer[0].name == answer.question[0].name


async def test_a_question_that_breaks_the_resolver_is_a_whole_failure_and_ends_nothing() -> None:
    class Broken:
        async def ask(self, *_: object, **__: object) -> dns.message.Message | None:
            raise ValueError("a fault of ours")

    site = Site()
    site.local = LocalDns(site.situation, Broken(), site.learning, site.port)
    try:
        await site.start()
        for tcp in (False, True):
            answer = await site.ask("db.corp.test", tcp=tcp)
            assert (answer.rcode(), why(answer)) == (dns.rcode.SERVFAIL, [BROKEN])
    finally:
        await site.stop()


async def test_only_this_host_may_ask_and_no_other_peer(site: Site) -> None:
    site.gw1.zone = {"db.corp.test": ["A 10.7.0.1"]}
    query = dns.message.make_query("db.corp.test", "A")
    with pytest.raises(dns.exception.Timeout):
        await dns.asyncquery.udp(query, OWN, timeout=0.3, port=site.port, source=STRANGER)
    with pytest.raises((EOFError, ConnectionError)):
        await dns.asyncquery.tcp(query, OWN, timeout=1.0, port=site.port, source=STRANGER)
    assert not site.gw1.asked


async def test_bytes_that_are_no_question_end_nothing(site: Site) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.bind((OWN, 0))
        for wire in (b"", b"\x00", b"\xff" * 40, b"\x12\x34\x01\x00\x00\x01" + b"\x00" * 6 + b"\xc0\x0c" * 20):
            sender.sendto(wire, (OWN, site.port))
    site.gw1.zone = {"db.corp.test": ["A 10.7.0.1"]}
    assert contents(await site.ask("db.corp.test")) == ["10.7.0.1"]


@pytest.fixture
def taken() -> Iterator[list[socket.socket]]:
    held: list[socket.socket] = []
    yield held
    for one in held:
        one.close()


def take(held: list[socket.socket], address: str, port: int) -> None:
    one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    held.append(one)
    one.bind((address, port))


@pytest.mark.parametrize(("addresses", "answers"), [((OWN,), LOOPBACK[0]), ((OWN, LOOPBACK[0]), LOOPBACK[1])])
async def test_where_the_port_is_taken_the_next_address_answers(
    taken: list[socket.socket], addresses: tuple[str, ...], answers: str
) -> None:
    site = Site()
    for address in addresses:
        take(taken, address, site.port)
    try:
        await site.start()
        assert site.situation.dns.value.address == answers
    finally:
        await site.stop()


async def test_where_the_port_is_taken_everywhere_it_is_said_with_the_remedy(taken: list[socket.socket]) -> None:
    site = Site()
    for address in (OWN, *LOOPBACK):
        take(taken, address, site.port)
    starting = asyncio.create_task(site.start())
    try:
        await eventually(lambda: "stop it, or move it" in site.situation.dns.value.problem)
        for one in taken:
            one.close()
        await starting
        assert site.situation.dns.value.problem == ""
    finally:
        starting.cancel()
        await site.stop()


async def test_a_host_whose_dns_is_not_managed_answers_nothing(site: Site) -> None:
    there = site.picture()
    assert there.settings is not None
    site.situation.documents.set(replace(there, settings=replace(there.settings, unmanaged_dns=("all",))))
    await eventually(lambda: site.situation.dns.value.address == "")
    site.situation.documents.set(there)
    await eventually(lambda: site.situation.dns.value.address == OWN)
