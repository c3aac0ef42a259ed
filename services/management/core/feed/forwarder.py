"""Decision D1: on which port the routing peers of an account answer DNS questions."""

import re

MIN_VERSION_FORWARDER = (0, 59, 0)
FORWARDER_PORT = 22054
FORWARDER_PORT_BEFORE = 5353
"""Where agents older than MIN_VERSION_FORWARDER ask; one of them keeps the whole account there."""

DEVELOPMENT = "development"
"""What a build that is no release reports as its version."""

UNSEEN_S = 30 * 86_400.0
"""A peer that has been away for so long does not count."""

_VERSION = re.compile(r"v?(\d+)(?:\.(\d+))?(?:\.(\d+))?(-[0-9A-Za-z.-]+)?(?:\+[0-9A-Za-z.-]+)?\Z")


def knows_forwarder_port(version: str) -> bool:
    """True for a development build and from MIN_VERSION_FORWARDER on; a pre-release comes before its release."""
    if version == DEVELOPMENT:
        return True
    parsed = _VERSION.match(version)
    if parsed is None:
        return False
    major, minor, patch = (int(number or 0) for number in parsed.group(1, 2, 3))
    release = (major, minor, patch)
    return release > MIN_VERSION_FORWARDER or (release == MIN_VERSION_FORWARDER and not parsed.group(4))


def forwarder_port(peers: int, peers_that_know: int) -> int:
    """FORWARDER_PORT when there are peers that count and every one of them knows it."""
    return FORWARDER_PORT if 0 < peers == peers_that_know else FORWARDER_PORT_BEFORE
