"""A bus of three servers on loopback, with a copy of every stream on each."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import nats.errors

from shared.bus.connection import connect
from shared.bus.embedded.config import Node, cluster_password
from shared.bus.embedded.server import NatsServer
from shared.bus.streams import FACTS, FEED, LOG, ensure_streams
from shared.net.listen import Listen
from tests.bus.management.plane import PlainBus
from tests.support.bus import eventually
from tests.support.ports import free_port

SERVERS = 3
LEADER_ANSWERS_WITHIN_S = 2.0
"""Who asks while there is no leader is not answered, and has to ask again."""

READY_WITHIN_S = 40.0
"""A new cluster elects its first leader after 4 to 9 s."""


class Cluster(PlainBus):
    """servers: by name. `management` is connected to whichever of them lives."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.servers: dict[str, NatsServer] = {}
        members = tuple(Listen("127.0.0.1", free_port()) for _ in range(SERVERS))
        password = cluster_password(self.seeds)
        for number, own in enumerate(members, 1):
            node = Node(name=f"bus-{number}", listen=own, members=members, password=password)
            self.servers[node.name] = self._new(node, free_port())

    def _new(self, node: Node, port: int) -> NatsServer:
        return NatsServer(self._directory / node.name, self.keys, port=port, node=node)

    @property
    def urls(self) -> list[str]:
        return [server.url for server in self.servers.values()]

    @property
    def url(self) -> str:
        return ",".join(self.urls)

    async def start(self) -> None:
        await asyncio.gather(*(server.start() for server in self.servers.values()))
        self.management = await connect(self.url, self.keys.management, "management")
        self._clients.append(self.management)
        await eventually(self._has_streams, within_s=READY_WITHIN_S)

    async def _has_streams(self) -> bool:
        try:
            await ensure_streams(self.management.jetstream(), SERVERS)
        except nats.errors.Error:
            return False
        return True

    async def leader(self, stream: str, consumer: str = "") -> str:
        """Name of the server that leads the stream, or a consumer of it; "" while nobody does."""
        try:
            jetstream = self.management.jetstream(timeout=LEADER_ANSWERS_WITHIN_S)
            cluster = (
                (await jetstream.consumer_info(stream, consumer)).cluster
                if consumer
                else (await jetstream.stream_info(stream)).cluster
            )
        except nats.errors.Error:
            return ""
        return (cluster and cluster.leader) or ""

    async def whole(self) -> bool:
        """Whether every stream has a leader and two copies that are up to date."""
        for stream in (LOG, FACTS, FEED):
            try:
                cluster = (await self.management.jetstream().stream_info(stream)).cluster
            except nats.errors.Error:
                return False
            if not cluster or not cluster.leader or not all(copy.current for copy in cluster.replicas or ()):
                return False
        return True

    @asynccontextmanager
    async def without(self, name: str) -> AsyncIterator[None]:
        """kill -9 of one server, which comes back after the block."""
        server = self.servers[name]
        server.kill()
        await server.wait()
        try:
            yield
        finally:
            await server.start()
            await eventually(self.whole, within_s=READY_WITHIN_S)

    async def stop(self) -> None:
        for client in self._clients:
            await client.close()
        await asyncio.gather(*(server.stop() for server in self.servers.values()))
