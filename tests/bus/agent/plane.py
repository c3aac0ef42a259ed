"""What management is to an agent, on a real bus: admission by nkey, enrolment, and documents written by hand."""

import base64
import shutil
import time
from typing import TypeVar

from nacl.public import PrivateKey
from nats.aio.client import Client
from nats.aio.msg import Msg

from services.management.admission.jwt import Grant, Request, admit, read_request, refuse, seal, signed_by
from shared.bus.codec import decode, encode
from shared.bus.embedded.server import NatsServer
from shared.bus.keys import curve_key
from shared.events import subjects
from shared.events.documents import (
    KINDS,
    SETTINGS_ID,
    Beacon,
    Document,
    FeedMessage,
    PeerDoc,
    RouteDoc,
    SelfDoc,
    SettingsDoc,
    Tombstone,
)
from shared.events.logins import ENROL_USER, HOST_ACCOUNT
from shared.events.signals import Enrolled, EnrolReason, EnrolRefused, EnrolRequest, PeerStanding
from shared.events.subjects import FeedKey
from tests.support.bus import Bus

T = TypeVar("T")

ACCOUNT = "acc1"
ALL = "g.all"


def peer_doc(peer: str, number: int, *, key: str = "", groups: tuple[str, ...] = ("all",)) -> PeerDoc:
    return PeerDoc(
        peer_id=peer,
        name=peer,
        fqdn=f"{peer}.wb.test",
        wireguard_key=key,
        address_v4=f"100.64.0.{number}",
        address_v6=f"fd00:64::{number:x}",
        groups=groups,
        version="1.0.0",
    )


def new_key() -> str:
    """A WireGuard public key."""
    return base64.b64encode(bytes(PrivateKey.generate().public_key)).decode()


def lan(routing_peer: str) -> RouteDoc:
    """A route to 10.9.0.0/16 that is kept while its routing peer does not answer (decision R2)."""
    return RouteDoc(
        route_id="r1",
        network_id="office",
        network="10.9.0.0/16",
        domains=(),
        metric=100,
        masquerade=True,
        keep_route=True,
        skip_auto_apply=False,
        routing_peers=(routing_peer,),
        distribution=("all",),
        permits=None,
    )


async def with_a_route(plane: "Plane") -> None:
    """A gateway that never answers, and a route that is kept all the same."""
    await plane.write(ALL, "gw", peer_doc("gw", 2, key=new_key()))
    await plane.write(ALL, "r1", lan("gw"))


class Plane(Bus):
    """peers: bus key → peer id. audiences: peer id → what it may read beside its own. setup_keys: hash → the answer.
    silent: when the bus asks about a peer nobody answers, as while one of several replicas hangs.
    """

    async def open(self) -> None:
        self.peers: dict[str, str] = {}
        self.audiences: dict[str, tuple[str, ...]] = {}
        self.setup_keys: dict[str, str | EnrolReason] = {}
        self.enrolments: list[EnrolRequest] = []
        self.admitted: list[str] = []
        self.silent = False
        self.revision = 0
        await super().open()
        await self.make_streams()
        await self.management.subscribe(subjects.ENROL_ALL, cb=self._enrol)

    def accept(self, setup_key: str, peer: str) -> None:
        self.setup_keys[subjects.setup_key_hash(setup_key)] = peer

    def refuse(self, setup_key: str, reason: EnrolReason) -> None:
        self.setup_keys[subjects.setup_key_hash(setup_key)] = f"!{reason}"

    async def place(self, peer: str, number: int, *groups: str, key: str = "") -> None:
        """Tell a peer what it is: address 100.64.0.<number>, member of the groups and of All."""
        ids = ("all", *groups)
        self.audiences[peer] = tuple(subjects.group_audience(group) for group in ids)
        audiences = tuple(sorted((*self.audiences[peer], subjects.peer_audience(peer))))
        await self.write(
            f"p.{peer}",
            peer,
            SelfDoc(
                peer_id=peer,
                name=peer,
                fqdn=f"{peer}.wb.test",
                wireguard_key=key,
                address_v4=f"100.64.0.{number}",
                address_v6=f"fd00:64::{number:x}",
                groups=ids,
                audiences=audiences,
            ),
        )

    async def settle(self) -> None:
        """Write the account's settings."""
        await self.write(
            ALL,
            SETTINGS_ID,
            SettingsDoc(
                overlay_v4="100.64.0.0/16",
                overlay_v6="fd00:64::/64",
                dns_domain="wb.test",
                forwarder_port=22054,
                routing_peer_dns_resolution=True,
            ),
        )

    async def write(self, audience: str, id: str, document: Document) -> int:
        """Write a document for an audience; gives its stream sequence."""
        return await self._publish(FeedKey(ACCOUNT, audience, KINDS[type(document)], id), document)

    async def delete(self, audience: str, kind: type[Document], id: str) -> int:
        return await self._publish(FeedKey(ACCOUNT, audience, KINDS[kind], id), Tombstone())

    async def _publish(self, key: FeedKey, document: Document | Tombstone) -> int:
        self.revision += 1
        message = encode(FeedMessage(self.revision, document))
        return (await self.management.jetstream().publish(subjects.feed(key), message)).seq

    async def tell(self, audience: str, beacon: Beacon | FeedMessage) -> None:
        """Send a beacon, or what is none where one is expected."""
        await self.management.publish(subjects.beacon(ACCOUNT, audience), encode(beacon))

    async def kill(self) -> None:
        """End the server as a power cut would."""
        self.server.kill()
        await self.server.wait()

    async def revive(self) -> None:
        """Start it again where it was."""
        port = int(self.url.rpartition(":")[2])
        self.server = NatsServer(self._directory, self.keys, port=port)
        await self.server.start()

    def wipe(self) -> None:
        """Lose everything the bus holds, as a restore from nothing would."""
        shutil.rmtree(self._directory / "store")
        self.revision = 0

    async def listen(self, client: Client, pattern: str, type_: type[T], heard: list[T]) -> None:
        """Collect what comes on a subject."""

        async def take(message: Msg) -> None:
            heard.append(decode(message.subject, message.data, type_))

        await client.subscribe(pattern, cb=take)
        await client.flush()

    async def forward_signals(self) -> None:
        """Do what the signal service does with introductions."""
        signal = await self.service("signal")

        async def forward(message: Msg) -> None:
            key = subjects.parse_signal(message.subject)
            await signal.publish(subjects.signal_to(key.account, key.receiver, key.sender), message.data)

        await signal.subscribe(subjects.SIGNAL_FROM_ALL, cb=forward)

    async def _admit(self, message: Msg) -> None:
        server_xkey = (message.headers or {})["Nats-Server-Xkey"]
        callout = curve_key(self.keys.callout)
        request = read_request(message.data, server_xkey, callout)
        if request.presented.nkey and self.silent:
            return
        grant = self._grant(request)
        now = time.time()
        answer = admit(request, grant, self.keys.issuer, now) if grant else refuse(request, "no", self.keys.issuer, now)
        await message.respond(seal(answer, server_xkey, callout))

    def _grant(self, request: Request) -> Grant | None:
        presented = request.presented
        if presented.user == ENROL_USER:
            key_hash = subjects.setup_key_hash(presented.password)
            return self._rights(ENROL_USER, (subjects.enrol(key_hash),), (f"{subjects.inbox(key_hash)}.>",))
        peer = self.peers.get(presented.nkey)
        if peer is None or not signed_by(presented.nkey, presented.sig, request.client.nonce):
            return None
        self.admitted.append(peer)
        audiences = (*self.audiences.get(peer, ()), subjects.peer_audience(peer))
        publish = [subjects.signals_from(ACCOUNT, peer), subjects.beat(ACCOUNT, peer)]
        publish.append(subjects.report_fact(ACCOUNT, peer))
        publish.append(subjects.candidacy_fact(ACCOUNT, peer))
        publish.append(subjects.resolved(ACCOUNT, peer))
        for audience in audiences:
            publish.append(subjects.create_catch_up(ACCOUNT, peer, audience))
            publish.append(subjects.pull_catch_up(peer, audience))
            publish.append(subjects.delete_catch_up(peer, audience))
        live = (subjects.live_feed_of(ACCOUNT, audience) for audience in audiences)
        own = (subjects.signals_to(ACCOUNT, peer), subjects.resolve(ACCOUNT, peer), f"{subjects.inbox(peer)}.>")
        subscribe = (*live, *own, subjects.FEED_LEADER)
        return self._rights(f"{ACCOUNT}.{peer}", tuple(publish), subscribe)

    def _rights(self, name: str, publish: tuple[str, ...], subscribe: tuple[str, ...]) -> Grant:
        return Grant(
            name=name,
            account=HOST_ACCOUNT,
            publish=publish,
            subscribe=subscribe,
        )

    async def _enrol(self, message: Msg) -> None:
        answer = self.setup_keys.get(subjects.parse_enrol(message.subject), "!unknown")
        asked = decode(message.subject, message.data, EnrolRequest)
        self.enrolments.append(asked)
        if answer.startswith("!"):
            standing: PeerStanding = "admitted" if asked.bus_key in self.peers else "unknown"
            refused = EnrolRefused(reason=answer[1:], message="no", peer=standing)  # type: ignore[arg-type]
            await message.respond(encode(refused))
            return
        self.peers[asked.bus_key] = answer
        await message.respond(encode(Enrolled(account=ACCOUNT, peer_id=answer)))
