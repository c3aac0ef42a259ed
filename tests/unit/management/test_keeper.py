"""The thread that keeps the projector's pin."""

import asyncio
import errno
from collections.abc import Coroutine
from typing import Any, Never

import pytest
from nats.aio.client import Client

from services.management.projector.keeper import PinKeeper
from shared.bus.streams import LOG


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_a_thread_that_cannot_begin_is_an_error_and_not_a_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process has no descriptor left for a loop: nobody would write the feed, and nobody would say so."""

    def run(main: Coroutine[Any, Any, None]) -> Never:
        main.close()
        raise OSError(errno.EMFILE, "Too many open files")

    async def dial() -> Client:
        return Client()

    keeper = PinKeeper(dial, LOG, "projector", "log.*", on_message=lambda _: None, on_lost=lambda: None)
    monkeypatch.setattr(asyncio, "run", run)
    async with asyncio.timeout(20):
        with pytest.raises(RuntimeError, match="the thread that keeps the pin has ended"):
            await keeper.run()
