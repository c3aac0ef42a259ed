"""A host from its start to its end: answers on the socket, enrols if needed, and is a member from then on."""

import asyncio
from collections.abc import Mapping

import structlog
from msgspec.structs import replace

from services.agent.bus.enrolment import enrol
from services.agent.control import Control
from services.agent.lifetime import Lifetime
from services.agent.member import Base, Member
from services.agent.situation import Bus
from services.agent.state import identity, lastgood
from services.agent.state.identity import Identity
from shared.events.signals import EnrolRequest
from shared.tasks import end_if_cancelled

NOT_ENROLLED = "this host is not enrolled yet"

log = structlog.get_logger()


class Agent:
    """setup_key: "" on a host that is enrolled."""

    def __init__(self, base: Base, who: Identity, setup_key: str, control: Control, lifetime: Lifetime) -> None:
        self._base = base
        self._who = who
        self._setup_key = setup_key
        self._control = control
        self._lifetime = lifetime
        self._member: Member | None = None
        if not who.enrolled:
            self._tell("")

    async def run(self) -> int:
        """Work until told to stop, then remove everything from the kernel; gives the exit code."""
        try:
            return await self._lifetime.run(self._work, self._drain, self._leave, self._clean_up)
        finally:
            await self._base.host_dns.end()
            await self._control.stop()

    async def _work(self) -> None:
        await self._base.host_dns.begin()
        if not self._who.enrolled:
            await self._enrol()
        self._setup_key = ""
        self._member = Member(self._base, self._who)
        await self._member.run()

    async def _drain(self, within_s: float) -> None:
        """Have clients of this host go to other routing peers."""
        if self._member is not None:
            await self._member.draining.run(within_s)

    async def _leave(self) -> None:
        """Say goodbye while there is a bus, and have programs ask others while names are still answered here."""
        await self._base.host_dns.end()
        if self._member is not None:
            try:
                await self._member.holdings.leave()
            finally:
                await self._member.signalling.leave()

    async def _clean_up(self) -> Mapping[str, str]:
        left = await self._base.loop.stop()
        if self._member is not None:
            self._member.keep()
        return left

    async def _enrol(self) -> None:
        host, who = self._base.host, self._who
        request = EnrolRequest(wireguard_key=who.public_key, bus_key=who.bus_key, meta=host.meta)
        enrolled = await enrol(host.dial, self._setup_key, request, self._tell)
        self._who = replace(who, account=enrolled.account, peer_id=enrolled.peer_id)
        await self._keep_identity()
        log.info("enrolled", account=enrolled.account, peer=enrolled.peer_id)

    async def _keep_identity(self) -> None:
        """Try until it is on disk: the setup key may be used up."""
        while True:
            end_if_cancelled()
            try:
                identity.save(self._base.host.settings.state_dir, self._who)
                return
            except OSError as problem:
                line = f"the identity cannot be kept: {problem}: make room on its disk"
                self._tell(line)
                log.warning("enrolled, going on trying", problem=line)
                await asyncio.sleep(lastgood.TRY_AGAIN_S)

    def _tell(self, problem: str) -> None:
        """Say what is in the way."""
        said = f"{NOT_ENROLLED}: {problem}" if problem else NOT_ENROLLED
        self._base.situation.bus.set(Bus(problem=said))
