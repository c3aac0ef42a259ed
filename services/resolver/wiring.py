"""Builds the resolver."""

import asyncio
import time

from nats.aio.client import Client

from services.resolver.accounts import Accounts
from services.resolver.asking import Asking
from services.resolver.bus import Bus
from services.resolver.core.answers import Answer, KeepLimits
from services.resolver.core.questions import Question
from services.resolver.core.resolutions import Resolutions
from services.resolver.core.schedule import Schedule
from services.resolver.facts import Facts
from services.resolver.feed import Feed
from services.resolver.routingpeers import RoutingPeers
from services.resolver.settings import Settings
from services.resolver.turn import Turn
from services.resolver.upstream import DnsServers
from shared import metrics
from shared.bus import lastvalues
from shared.bus.connection import connect, troubles
from shared.bus.keys import read_seed
from shared.bus.streams import FACTS, FEED
from shared.bus.undecodable import Undecodables
from shared.events.subjects import FACT_RESOLUTIONS, FEED_RESOLVING, FEED_ROUTES

ROLE = "resolver"


async def run(settings: Settings) -> None:
    """Resolve until cancelled. Raises BadSetting, CorruptFile or Taken before anything else."""
    servers = DnsServers(settings.dns_servers, settings.dns_ca)
    seed = read_seed(settings.credentials)
    connection: Client | None = None
    with metrics.page(settings.metrics_port, settings.metrics_host, lambda: troubles(connection)):
        connection = await connect(settings.bus, seed, ROLE, ca=settings.bus_ca, name=settings.bus_name)
        try:
            resolutions = Resolutions(KeepLimits(max_age_s=settings.keep_max_age))
            undecodables = Undecodables()

            def answered(question: Question, answer: Answer) -> None:
                resolutions.answer(question, answer, time.time())
                facts.changed()

            def turn_changed() -> None:
                resolutions.lead(turn.mine, time.time())
                peers.answered_before(resolutions.answering_peers())
                routes_changed()

            def accounts_changed() -> None:
                servers.of_accounts = accounts.chosen
                resolutions.chosen(accounts.chosen)
                routes_changed()

            def routes_changed() -> None:
                asking.want(resolutions.questions())
                facts.changed()

            peers = RoutingPeers(connection, servers, undecodables)
            await peers.listen()
            asking = Asking(Schedule(settings.dns_router_interval), peers, answered)
            feed = Feed(resolutions, undecodables, routes_changed)
            accounts = Accounts(undecodables, accounts_changed)
            turn = Turn(connection, turn_changed)
            facts = Facts(resolutions, Bus(connection), undecodables, lambda: feed.known)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(lastvalues.follow(connection, FEED, FEED_ROUTES, feed))
                tasks.create_task(lastvalues.follow(connection, FACTS, FACT_RESOLUTIONS, facts))
                tasks.create_task(lastvalues.follow(connection, FEED, FEED_RESOLVING, accounts))
                tasks.create_task(accounts.withdraw())
                tasks.create_task(turn.run())
                tasks.create_task(feed.withdraw())
                tasks.create_task(asking.run())
                tasks.create_task(facts.write())
        finally:
            await connection.close()
