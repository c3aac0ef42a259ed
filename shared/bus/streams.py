"""The three streams and their configuration."""

from dataclasses import fields, replace

from nats.js import JetStreamContext
from nats.js.api import RePublish, StorageType, StreamConfig, StreamConsumerLimits
from nats.js.errors import NotFoundError

from shared.events import subjects

LOG = "LOG"
FACTS = "FACTS"
FEED = "FEED"

GAP = "Whimbrel-Gap"
"""Header of a message of LOG that stands in the place of one that was lost for good: the last sequence before them."""

WRONG_LAST_SEQUENCE = frozenset({10071, 10164})
"""Error codes of a publish whose expected last sequence was not the last: JSStreamWrongLastSequenceErrF and its form
without figures (nats-server, server/errors.json)."""

NO_MESSAGE = 10037
"""Error code of a look for the last message of a subject that has none: JSNoMessageFoundErr."""

ANSWER_WITHIN_S = 3.0
"""What is asked of streams and consumers is asked again after this long: a cluster whose leader died does not answer,
and has another one after 4 to 9 s."""

_GIBIBYTE = 1024**3
_REMEMBERS_IDS_S = 120
"""nats-server's default, written out so that a stream that needs no update is known from its configuration."""

ABANDONED_AFTER_S = 300.0
"""A consumer of FEED that nobody uses is gone after this long at the latest, whatever its maker, a host, asked for."""


def configurations(replicas: int) -> tuple[StreamConfig, ...]:
    """LOG keeps everything and refuses deletion; FACTS and FEED keep the last message of each subject.

    max_consumers lifts the server's default of 1,000 where agents make short-lived consumers.
    """
    return (
        StreamConfig(
            name=LOG,
            description="what people want, in order, for ever",
            subjects=[subjects.LOG_ALL],
            storage=StorageType.FILE,
            num_replicas=replicas,
            deny_delete=True,
            deny_purge=True,
            max_consumers=-1,
            duplicate_window=_REMEMBERS_IDS_S,
        ),
        StreamConfig(
            name=FACTS,
            description="what is observed, last value per subject",
            subjects=[subjects.FACT_ALL],
            storage=StorageType.FILE,
            num_replicas=replicas,
            max_msgs_per_subject=1,
            duplicate_window=_REMEMBERS_IDS_S,
            allow_msg_ttl=True,
            allow_direct=True,
            max_bytes=_GIBIBYTE,  # a limit; it is not set aside (MAX_FILE_STORE)
            max_consumers=100_000,
        ),
        StreamConfig(
            name=FEED,
            description="what each audience may see, last value per subject",
            subjects=[subjects.FEED_ALL],
            storage=StorageType.FILE,
            num_replicas=replicas,
            max_msgs_per_subject=1,
            duplicate_window=_REMEMBERS_IDS_S,
            allow_msg_ttl=True,
            allow_atomic=True,
            republish=RePublish(src=subjects.FEED_ALL, dest=subjects.LIVE_FEED_ALL),
            max_consumers=100_000,
            consumer_limits=StreamConsumerLimits(inactive_threshold=ABANDONED_AFTER_S),
        ),
    )


async def ensure_streams(jetstream: JetStreamContext, replicas: int = 1) -> None:
    """Make the streams that are missing and bring the others up to this configuration. Safe to race.

    replicas: copies of each stream. One that has more keeps them: a service started without the setting would take the
    others away.
    """
    for config in configurations(replicas):
        assert config.name is not None
        try:
            found = (await jetstream.stream_info(config.name)).config
        except NotFoundError:
            await jetstream.add_stream(config)
        else:
            desired = replace(config, num_replicas=max(replicas, found.num_replicas or 1))
            if not _has(found, desired):
                await jetstream.update_stream(desired)


def _has(found: StreamConfig, desired: StreamConfig) -> bool:
    """Whether an update would change nothing. A server whose disk is full refuses it all the same."""
    asked = ((field.name, getattr(desired, field.name)) for field in fields(desired))
    return all(getattr(found, name) == value for name, value in asked if value is not None)
