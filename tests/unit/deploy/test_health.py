"""The health check of the compose stack, against the page that services have."""

import subprocess
import sys

from deploy.health import check
from shared.metrics import page
from tests.arch.tree import ROOT
from tests.support.ports import free_port


def test_a_service_that_is_well_is_well() -> None:
    port = free_port()
    with page(port, troubles=list):
        assert check(f"http://127.0.0.1:{port}/healthz") == (True, '{"status": "ok", "troubles": []}')


def test_what_it_says_is_wrong_is_shown() -> None:
    port = free_port()
    with page(port, troubles=lambda: ["the bus does not answer"]):
        well, said = check(f"http://127.0.0.1:{port}/healthz")
    assert not well
    assert "the bus does not answer" in said


def test_who_does_not_answer_is_named_and_the_check_fails() -> None:
    url = f"http://127.0.0.1:{free_port()}/healthz"
    ended = subprocess.run(
        [sys.executable, "-m", "deploy.health", url], cwd=ROOT, capture_output=True, text=True, timeout=30
    )
    assert (ended.returncode, ended.stderr) == (1, "")
    assert ended.stdout.startswith(f"{url} does not answer: ")
