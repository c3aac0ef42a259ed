"""How long to wait before the next try of what failed: the bus, a process, an entry that a kernel refused."""

FIRST_S = 0.5
LIMIT_S = 15.0


def delay_s(failures: int, chance: float) -> float:
    """Seconds to wait after so many failures in a row (1 = the first): doubling from FIRST_S up to LIMIT_S.

    chance: in [0, 1), takes away up to half of the wait, so that many hosts do not come back at once.
    """
    return float(min(LIMIT_S, FIRST_S * 2 ** min(failures - 1, 10)) * (1 - chance / 2))
