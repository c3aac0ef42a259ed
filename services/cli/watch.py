"""What keeps the control plane from serving or from taking changes, told on the console: management's log is a file."""

import asyncio
import contextlib

import httpx
import msgspec
import structlog

from shared.net.listen import Listen
from shared.tasks import end_if_cancelled

LOOK_EVERY_S = 1.0
STARTING_EVERY_S = 0.05
TOLD_AFTER_S = 3.0
"""What is over sooner is part of any start."""

log = structlog.get_logger()


class _Health(msgspec.Struct):
    """The part of /healthz that matters here."""

    status: str = ""
    troubles: list[str] = []


class Watch:
    """answers: set once the API answers at all; serving: set once it reads, whether it takes changes or not."""

    def __init__(self, api: Listen) -> None:
        self._api = api
        self._since: dict[str, float] = {}
        self._told: set[str] = set()
        self.answers = asyncio.Event()
        self.serving = asyncio.Event()

    async def run(self) -> None:
        """Look for ever."""
        async with httpx.AsyncClient(base_url=f"http://{self._api}", trust_env=False, timeout=2.0) as client:
            while True:
                end_if_cancelled()
                with contextlib.suppress(httpx.TransportError, msgspec.DecodeError):
                    answer = await client.get("/healthz")
                    self.answers.set()
                    health = msgspec.json.decode(answer.content, type=_Health)
                    self._tell(health.troubles)
                    if health.status in ("ok", "read-only"):
                        self.serving.set()
                await asyncio.sleep(LOOK_EVERY_S if self.serving.is_set() else STARTING_EVERY_S)

    def _tell(self, troubles: list[str]) -> None:
        now = asyncio.get_running_loop().time()
        self._since = {line: self._since.get(line, now) for line in troubles}
        for line, since in self._since.items():
            if now - since >= TOLD_AFTER_S and line not in self._told:
                self._told.add(line)
                log.error("trouble", problem=line)
        over, self._told = self._told - self._since.keys(), self._told & self._since.keys()
        for line in over:
            log.info("trouble over", problem=line)
