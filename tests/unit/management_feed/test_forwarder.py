"""Decision D1: where routing peers answer DNS questions."""

import pytest

from shared.events.documents import SettingsDoc
from shared.events.signals import PeerMeta
from tests import builders
from tests.unit.management_feed.reading import read


@pytest.mark.parametrize(
    "versions, port",
    [
        (["0.59.0"], 22054),
        (["0.59.0", "0.59.0"], 22054),
        (["0.59.0", "1.0.0", "0.60.12", "10.0.0"], 22054),
        (["development"], 22054),
        (["v0.59.0"], 22054),
        (["1.0.0-rc.1"], 22054),
        (["0.59.0+build.5"], 22054),
        (["0.57.0", "0.26.0"], 5353),
        (["0.59.0", "0.58.9"], 5353),
        (["development", "0.58.0"], 5353),
        (["0.59.0-rc.1"], 5353),
        (["0.9.0"], 5353),
        ([""], 5353),
        (["unknown"], 5353),
        (["0.59.0 "], 5353),
    ],
)
def test_d1_one_peer_that_is_too_old_keeps_the_account_on_the_old_port(versions: list[str], port: int) -> None:
    peers = [builders.peer(f"p{n}", meta=PeerMeta(version=version)) for n, version in enumerate(versions)]
    settings = read(builders.state(*peers), "p0")["settings", "account"]
    assert isinstance(settings, SettingsDoc)
    assert settings.forwarder_port == port
