"""Asks what a prober wants to know: over sockets, with a clock, and with a secret that nobody else has."""

import asyncio
import secrets
import time
from collections.abc import Callable, Iterable, Mapping

from services.agent.core.ha.echo import Echo, Reason, Refused
from services.agent.core.ha.probing import Prober, Question, Targets
from services.agent.core.ha.standing import Health
from services.agent.ports import ConnectDriver, EchoDriver
from shared.metrics import REGISTRY, Counter, Gauge, Histogram

SECRET_BYTES = 32

_sent = Counter("whimbrel_agent_probes_sent", "Probes that left this host", ["purpose"], registry=REGISTRY)
_unsent = Counter("whimbrel_agent_probes_unsent", "Probes the kernel would not send", ["purpose"], registry=REGISTRY)
_answered = Counter("whimbrel_agent_probes_answered", "Probes that were answered", ["purpose"], registry=REGISTRY)
_refused = Counter(
    "whimbrel_agent_probes_refused", "Answers of who is there and carries nothing", ["purpose"], registry=REGISTRY
)
_ignored = Counter(
    "whimbrel_agent_probe_answers_ignored", "Answers that count for nothing", ["purpose", "reason"], registry=REGISTRY
)
_missed = Gauge(
    "whimbrel_agent_probe_missed_seconds",
    "Time in which this host did not listen to answers, or that its clock jumped: nobody is down for it",
    ["purpose"],
    registry=REGISTRY,
)
_took = Histogram(
    "whimbrel_agent_probe_rtt_seconds",
    "How long answers to probes took",
    ["purpose"],
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0),
    registry=REGISTRY,
)


def new_identifier() -> int:
    """Of a run's ICMP questions."""
    return secrets.randbelow(1 << 16)


class Asking:
    """See ports.Asking. purpose: label of the metrics. connects: None where no target has a port."""

    def __init__(
        self, purpose: str, identifier: int, echoes: EchoDriver, connects: ConnectDriver | None = None
    ) -> None:
        self._prober = Prober(time.monotonic())
        self._echo = Echo(secrets.token_bytes(SECRET_BYTES), identifier)
        self._echoes = echoes
        self._connects = connects
        self._heard: Callable[[], None] | None = None
        self._ignored: Callable[[Reason], None] = lambda reason: _ignored.labels(purpose, reason).inc()
        self._sent, self._unsent = _sent.labels(purpose), _unsent.labels(purpose)
        self._refused = _refused.labels(purpose)
        self._answered, self._took = _answered.labels(purpose), _took.labels(purpose)
        _missed.labels(purpose).set_function(lambda: self._prober.missed_s)

    @property
    def health(self) -> Mapping[str, Health]:
        return self._prober.health

    @property
    def asked(self) -> Mapping[str, int]:
        return self._prober.asked

    def open(self, heard: Callable[[], None]) -> bool:
        self._heard = heard
        for descriptor in self._filenos():
            asyncio.get_running_loop().add_reader(descriptor, self._take)
        return bool(self._echoes.filenos())

    def close(self) -> None:
        for descriptor in self._filenos():
            asyncio.get_running_loop().remove_reader(descriptor)
        self._echoes.close()
        if self._connects is not None:
            self._connects.close()

    def ask(self, targets: Targets) -> float | None:
        # What waits in the sockets was there in time, however late this is called.
        self._listen()
        now = time.monotonic()
        self._prober.follow(targets, now)
        for question in self._prober.advance(now):
            if self._send(question):
                self._unsent.inc()
                self._prober.unsent(question)
            else:
                self._sent.inc()
        return self._prober.next_at()

    def nudge(self, keys: Iterable[str]) -> None:
        self._prober.nudge(keys)

    def _filenos(self) -> tuple[int, ...]:
        return *self._echoes.filenos(), *(self._connects.filenos() if self._connects is not None else ())

    def _send(self, question: Question) -> str:
        target = question.target
        if target.port and self._connects is not None:
            return self._connects.send(target.address, target.port, question.number)
        return self._echoes.send(target.address, self._echo.question(target.address, question.number))

    def _take(self) -> None:
        if self._listen() and self._heard is not None:
            self._heard()

    def _listen(self) -> bool:
        """Take the answers there are; whether a verdict is another one now."""
        changed = False
        for source, message, at in self._echoes.read():
            number = self._echo.answered(source, message)
            changed |= self._judge(number, source, at)
        for source, number, at in self._connects.read() if self._connects is not None else ():
            changed |= self._judge(number, source, at)
        return changed

    def _judge(self, number: int | Refused | Reason, source: str, at: float) -> bool:
        changes = self._prober.changes
        if isinstance(number, Refused):
            self._refused.inc()
            self._prober.refused(number.number, source, at)
            return self._prober.changes != changes
        took = self._prober.answered(number, source, at) if isinstance(number, int) else number
        if isinstance(took, str):
            self._ignored(took)
            return False
        self._answered.inc()
        self._took.observe(took)
        return self._prober.changes != changes
