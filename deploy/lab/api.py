"""The lab's view of the REST API, from inside the underlay."""

import time
from pathlib import Path
from typing import Any

import httpx

from deploy.lab.netns import Namespace
from deploy.lab.topology import API_PORT, UNDERLAY_V4

ANSWER_LIMIT_S = 15.0


class ApiRefused(Exception):
    """Read the API's message: a request of the lab was not accepted."""


class Api:
    """Calls the API with the admin token; every call says when its answer was there."""

    def __init__(self, host: Namespace, token_file: Path) -> None:
        self._host = host
        self._client = httpx.Client(
            base_url=f"http://{UNDERLAY_V4}:{API_PORT}/api",
            headers={"Authorization": f"Token {token_file.read_text().strip()}"},
            timeout=ANSWER_LIMIT_S,
        )
        self.answered_at = 0.0

    def __call__(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """The decoded answer; `answered_at` is then the moment it came (time.perf_counter)."""
        return self._host.call(self._request, method, path, body)

    def _request(self, method: str, path: str, body: dict[str, Any] | None) -> Any:
        answer = self._client.request(method, path, json=body)
        self.answered_at = time.perf_counter()
        if answer.status_code != 200:
            raise ApiRefused(f"{method} {path}: {answer.status_code} {answer.text}")
        return answer.json()

    def close(self) -> None:
        self._client.close()


def answers(timeout_s: float) -> bool:
    """Whether the API is there and serves (in the host's thread)."""
    try:
        return httpx.get(f"http://{UNDERLAY_V4}:{API_PORT}/healthz", timeout=timeout_s).status_code == 200
    except httpx.HTTPError:
        return False
