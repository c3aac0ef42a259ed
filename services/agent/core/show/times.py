"""Times as people and programs read them."""

from datetime import UTC, datetime

NEVER = datetime(1, 1, 1, tzinfo=UTC)


def time_of(unix: float) -> datetime:
    return datetime.fromtimestamp(unix, tz=UTC)
