"""Messages that nobody can read."""

import pytest
import structlog

from shared.bus import undecodable
from shared.bus.undecodable import Undecodables
from shared.errors import Undecodable
from shared.events.subjects import BadSubject
from shared.metrics import REGISTRY


def counted(pattern: str) -> float:
    return REGISTRY.get_sample_value("whimbrel_undecodable_messages_total", {"pattern": pattern}) or 0.0


def test_each_is_counted_and_each_subject_logged_once() -> None:
    undecodables = Undecodables()
    with structlog.testing.capture_logs() as logged:
        for subject in ("test.a", "test.a", "test.b", "test.a"):
            undecodables.note("test.*", Undecodable(subject, "no"))
        undecodables.note("test.*", BadSubject("test"))
    assert counted("test.*") == 5
    assert [line["subject"] for line in logged] == ["test.a", "test.b", "test"]


def test_a_sender_that_invents_subjects_fills_neither_memory_nor_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(undecodable, "SUBJECTS_REMEMBERED", 3)
    undecodables = Undecodables()
    with structlog.testing.capture_logs() as logged:
        for number in range(10):
            undecodables.note("flood.*", Undecodable(f"flood.{number}", "no"))
    assert counted("flood.*") == 10
    assert len(logged) == 4
