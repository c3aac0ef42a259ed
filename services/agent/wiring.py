"""Builds the agent and runs it: from settings to an exit code."""

import asyncio
import signal
from functools import partial

import structlog

from services.agent.agent import Agent
from services.agent.bus.dial import Dialer
from services.agent.bus.enrolment import read_setup_key
from services.agent.control import Control
from services.agent.core.dns.learned import LearnedBefore
from services.agent.core.documents import FeedView
from services.agent.core.kernel import NFT_TABLE
from services.agent.core.paths.pathbook import PathBook
from services.agent.core.reconcile.desired import Local
from services.agent.dns.exchange import Exchange
from services.agent.dns.hostdns import HostDns
from services.agent.dns.learning import Learning
from services.agent.dns.local import LocalDns
from services.agent.drivers import netlink
from services.agent.drivers.hostdns import choose
from services.agent.drivers.netlink import Netlink
from services.agent.drivers.nft import Nft
from services.agent.drivers.rtnl_floating import FloatingAddresses
from services.agent.drivers.rtnl_links import Links
from services.agent.drivers.rtnl_routes import Routes
from services.agent.drivers.rtnl_rules import Rules
from services.agent.drivers.sysctl import Sysctls
from services.agent.drivers.wireguard.mechanism import open_wireguard, probe, require_free
from services.agent.errors import AgentError
from services.agent.handlers import Handlers
from services.agent.host import life_of_settings, meta
from services.agent.lifetime import Lifetime
from services.agent.loop.kernel import Drivers
from services.agent.loop.loop import Loop
from services.agent.loop.tunnel import tunnel
from services.agent.member import Base, Host
from services.agent.settings import Settings
from services.agent.situation import Situation
from services.agent.state import identity, statefile
from services.agent.state.directory import StateDirectory
from services.agent.state.identity import Identity
from services.agent.state.statefile import Picture
from shared.disk import NO_ROOM

log = structlog.get_logger()


async def run(settings: Settings) -> int:
    """Run the agent until it is told to stop; gives the exit code. Raises AgentError or BadSetting before it runs."""
    lifetime = Lifetime()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, lifetime.signalled)
    dial, mechanism, nft = Dialer(settings.bus, settings.bus_ca), probe(), Nft()
    try:
        directory = StateDirectory(settings.state_dir, NFT_TABLE)
        who = identity.load(directory.path)
        setup_key = read_setup_key(settings, wanted=who is None or not who.enrolled)
        rtnl = Netlink(netlink.ROUTE)
        await require_free(mechanism, rtnl, settings.interface, settings.port, who.public_key if who else "")
        who = who or identity.create(directory.path)
        device = open_wireguard(mechanism, rtnl, settings.interface, who.wireguard_key)
        host = Host(settings, meta(settings.hostname), dial, rtnl, device, nft)
        agent, control = _built(host, who, setup_key, lifetime)
        await control.start()
    except OSError as problem:
        where = problem.filename or settings.control_socket
        remedy = "make room on its disk, or " if problem.errno in NO_ROOM else ""
        raise AgentError(
            f"{where}: {problem.strerror or problem}: {remedy}choose another with --state-dir or --socket"
        ) from None
    try:
        return await agent.run()
    except AgentError:
        raise
    except Exception:
        log.exception("the agent failed; the kernel stays as it is until it runs again")
        return 1


def _built(host: Host, who: Identity, setup_key: str, lifetime: Lifetime) -> tuple[Agent, Control]:
    settings, rules = host.settings, Rules(host.rtnl)
    choices, picture = statefile.selection(settings.state_dir), statefile.picture(settings.state_dir)
    if not who.enrolled:  # a former identity may have left it, whose audiences are not this one's
        picture.keep(Picture(bus=picture.value.bus))
    host.dial.known.update(picture.value.bus)
    local = Local(
        public_key=who.public_key,
        listen_port=settings.port,
        interface=settings.interface,
        ipv6="v6" in rules.families(),
        selection=choices.value,
    )
    drivers = Drivers(
        ruleset=host.nft,
        others={
            **tunnel(Links(host.rtnl, settings.interface), host.device),
            "sysctl": Sysctls(settings.interface),
            "rule": rules,
            "route": Routes(host.rtnl),
            "floating": FloatingAddresses(host.rtnl),
        },
    )
    view, book = FeedView(picture.value.feed), PathBook(who.public_key)
    situation = Situation(local, view.documents())
    loop = Loop(situation, drivers, statefile.Originals(settings.state_dir, life_of_settings()))
    kept = statefile.resolv_conf(settings.state_dir)
    host_dns = HostDns(situation, partial(choose, settings.interface, kept))
    learned = statefile.learned(settings.state_dir)
    if not who.enrolled:
        learned.keep(LearnedBefore())
    learning = Learning(situation, learned)
    names = LocalDns(situation, Exchange(), learning)
    handlers = Handlers(
        situation, book, host.device, settings.bus, choices, lifetime.down, names.explain, learning.seen
    )
    control = Control(settings.control_socket, handlers.table())
    return Agent(
        Base(host, situation, picture, view, book, loop, host_dns, learning, names), who, setup_key, control, lifetime
    ), control
