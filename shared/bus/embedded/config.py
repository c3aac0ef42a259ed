"""The nats-server configuration: accounts, who the services are, and what each may do."""

from collections.abc import Iterable
from pathlib import Path

import msgspec

from shared.bus.embedded.certificate import Certificate
from shared.bus.keys import public_key, seed_file
from shared.bus.reached import Reached
from shared.events import subjects
from shared.events.logins import BUS_ACCOUNT, HOST_ACCOUNT, SYSTEM_ACCOUNT
from shared.net.listen import Listen

SERVICES = ("management", "signal", "resolver")
MAX_PAYLOAD = 8 * 1024 * 1024
"""Room for one commit that changes the groups of 20,000 peers."""

HOST_MAX_PAYLOAD = 4 * 1024 * 1024
"""Of one message. A report that names 10,000 routes is 0.6 MB, and more if each has failed; a larger one ends the
connection."""

HOST_MAX_SUBSCRIPTIONS = 4096
"""Of one connection: one for each audience, and a few. This and the payload are limits of the account: those of an
answer to the auth callout have no effect, and whoever comes with any setup key is in the account."""

CLUSTER = "whimbrel"
"""The name of the cluster, and of a server that is alone."""

PING_EVERY_S = 10
"""A machine that vanished without a word counts as gone after three of these: its replica of management would otherwise
be asked about every other connection for minutes."""

MAX_FILE_STORE = 1024**5
"""More than any disk. Without a figure nats-server takes 75 % of what is free when it starts, and counts what streams
may grow to (FACTS a GiB) against that: on a small or nearly full disk there would be no stream, then or at any later
start. A disk that is full says so itself."""

MAX_MEMORY_STORE = 1024**3
"""No stream is in memory."""

LOG_KEPT_BYTES = 16 * 1024 * 1024


class Credentials(msgspec.Struct, frozen=True, kw_only=True):
    """Seeds by role. issuer signs what the auth callout grants, callout opens its requests (they hold setup keys);
    system reads connections and ends them."""

    issuer: str
    callout: str
    management: str
    signal: str
    resolver: str
    system: str


def credentials(directory: Path) -> Credentials:
    """The seeds kept in `directory` as <role>.nk, mode 0600, made on first use.

    New seeds are a new installation, whose log may begin: that is written before the first of them.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not any(directory.glob("*.nk")):
        Reached(directory).begin()
    return Credentials(
        issuer=seed_file(directory / "issuer.nk", "account"),
        callout=seed_file(directory / "callout.nk", "curve"),
        **{role: seed_file(directory / f"{role}.nk", "user") for role in (*SERVICES, "system")},
    )


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """A server's place in a cluster. name: unlike the others'. listen: for the other servers. members: where each of
    them listens for the others, this one too. password: what they tell each other."""

    name: str
    listen: Listen
    members: tuple[Listen, ...]
    password: str


def cluster_password(directory: Path) -> str:
    """The password of the cluster's servers, kept beside the seeds as cluster.nk, made on first use."""
    return seed_file(directory / "cluster.nk", "user")


_CONSUMERS = "$JS.API.CONSUMER"
_CATCH_UP = (f"{_CONSUMERS}.CREATE.FEED.>", f"{_CONSUMERS}.DELETE.FEED.*", f"{_CONSUMERS}.MSG.NEXT.FEED.*")

_HOSTS_HEAR = (subjects.LIVE_FEED_ALL, subjects.SIGNAL_TO_ALL, subjects.RESOLVE_ALL)
_HOSTS_SEND = (
    subjects.FACT_REPORTS,
    subjects.FACT_CANDIDACIES,
    subjects.SIGNAL_FROM_ALL,
    subjects.BEAT_ALL,
    subjects.ENROL_ALL,
    subjects.LEASE_ALL,
    subjects.RESOLVED_ALL,
)
"""What crosses between the two accounts, beside the requests of _CATCH_UP; each connection may use a part of it."""

_PERMISSIONS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "management": (
        (
            subjects.LOG_ALL,
            subjects.FEED_ALL,
            subjects.FACT_LEASES,
            subjects.BEACON_ALL,
            *(f"$JS.API.STREAM.{what}.*" for what in ("CREATE", "UPDATE", "INFO", "MSG.GET", "SNAPSHOT", "RESTORE")),
            "$JS.SNAPSHOT.>",
            "$JS.API.DIRECT.GET.>",
            "$JS.API.STREAM.PURGE.FACTS",
            f"{_CONSUMERS}.>",
            "$JS.ACK.>",
            "$JS.FC.>",
        ),
        (subjects.ENROL_ALL, subjects.LEASE_ALL, subjects.AUTH_CALLOUT, "_INBOX.management.>"),
    ),
    "signal": (
        (
            subjects.SIGNAL_TO_ALL,
            subjects.FACT_SESSIONS,
            f"{_CONSUMERS}.*.FACTS.>",
            f"{_CONSUMERS}.MSG.NEXT.FACTS.*",
            "$JS.API.STREAM.INFO.FACTS",
            "$JS.ACK.FACTS.>",
            "$JS.FC.FACTS.>",
        ),
        (subjects.SIGNAL_FROM_ALL, subjects.BEAT_ALL, "_INBOX.signal.>"),
    ),
    "resolver": (
        (
            subjects.FACT_RESOLUTIONS,
            subjects.RESOLVERS_TURN,
            subjects.RESOLVE_ALL,
            *(f"{_CONSUMERS}.*.{stream}.>" for stream in ("FACTS", "FEED")),
            *(f"{_CONSUMERS}.MSG.NEXT.{stream}.*" for stream in ("FACTS", "FEED")),
            *(f"$JS.API.STREAM.INFO.{stream}" for stream in ("FACTS", "FEED")),
            *(f"$JS.{what}.{stream}.>" for what in ("ACK", "FC") for stream in ("FACTS", "FEED")),
        ),
        (subjects.LIVE_FEED_ROUTES, subjects.RESOLVED_ALL, "_INBOX.resolver.>"),
    ),
    "system": (
        (
            "$SYS.REQ.SERVER.PING.CONNZ",
            "$SYS.REQ.SERVER.*.CONNZ",
            "$SYS.REQ.SERVER.*.KICK",
            subjects.SERVER_HEALTH,
        ),
        ("_INBOX.system.>", subjects.SERVICE_GONE),
    ),
}
"""Role → what it may publish, what it may subscribe to. One writer for each stream, enforced by the server."""


def _user(role: str, seed: str) -> str:
    publish, subscribe = (_list(f'"{s}"' for s in side) for side in _PERMISSIONS[role])
    return (
        f"{{nkey: {public_key(seed)}, permissions: {{publish: {publish}, subscribe: {subscribe}, "
        f'allow_responses: {{max: 1, expires: "10s"}}}}}}'
    )


def _list(items: Iterable[str]) -> str:
    return f"[{', '.join(items)}]"


_LEADER_ELECTED = "$JS.EVENT.ADVISORY.STREAM.LEADER_ELECTED.FEED"


def _exports() -> str:
    streams = (f'{{stream: "{s}"}}' for s in (*_HOSTS_HEAR, _LEADER_ELECTED))
    services = (f'{{service: "{s}"}}' for s in _HOSTS_SEND)
    requests = (f'{{service: "{s}", response_type: stream}}' for s in _CATCH_UP)
    return _list((*streams, *services, *requests))


def _imports() -> str:
    streams = (f'{{stream: {{account: {BUS_ACCOUNT}, subject: "{s}"}}}}' for s in _HOSTS_HEAR)
    services = (f'{{service: {{account: {BUS_ACCOUNT}, subject: "{s}"}}}}' for s in _HOSTS_SEND)
    # Under a name of their own: `$JS.API` in an account without streams answers for itself, and would be heard first.
    requests = (
        f'{{service: {{account: {BUS_ACCOUNT}, subject: "{s}"}}, to: "{s.replace("$JS.API", subjects.HOST_API)}"}}'
        for s in _CATCH_UP
    )
    leader = f'{{stream: {{account: {BUS_ACCOUNT}, subject: "{_LEADER_ELECTED}"}}, to: "{subjects.FEED_LEADER}"}}'
    return _list((*streams, leader, *services, *requests))


def _cluster(node: Node) -> str:
    routes = _list(f'"nats://{CLUSTER}:{node.password}@{member}"' for member in node.members)
    return f"""\
cluster {{
  name: "{CLUSTER}"
  listen: "{node.listen}"
  no_advertise: true
  ping_interval: "2s"
  ping_max: 3
  authorization {{ user: "{CLUSTER}", password: "{node.password}", timeout: 5 }}
  routes: {routes}
}}
"""


def render(
    keys: Credentials,
    *,
    store: Path,
    host: str,
    port: int,
    tls: Certificate | None = None,
    node: Node | None = None,
) -> str:
    """The configuration file of one server. Acknowledged writes are on disk (sync always).

    tls: every client must speak it; files are read when the server starts or is told to reload. node: the server is one
    of a cluster, and the file holds a secret, the cluster's password.
    """
    services = _list(_user(role, getattr(keys, role)) for role in SERVICES)
    everybody = _list(public_key(getattr(keys, role)) for role in (*SERVICES, "system"))
    return f"""\
server_name: "{node.name if node else CLUSTER}"
host: "{host}"
port: {port}
max_payload: {MAX_PAYLOAD}
ping_interval: "{PING_EVERY_S}s"
ping_max: 2
write_deadline: "10s"
logfile_size_limit: {LOG_KEPT_BYTES}
logfile_max_num: 2
jetstream {{
  store_dir: "{store}"
  sync_interval: always
  max_file_store: {MAX_FILE_STORE}
  max_memory_store: {MAX_MEMORY_STORE}
}}
system_account: {SYSTEM_ACCOUNT}
accounts {{
  {BUS_ACCOUNT} {{ jetstream: enabled, users: {services}, exports: {_exports()} }}
  {HOST_ACCOUNT} {{
    limits {{ max_payload: {HOST_MAX_PAYLOAD}, max_subscriptions: {HOST_MAX_SUBSCRIPTIONS} }}
    imports: {_imports()}
  }}
  {SYSTEM_ACCOUNT} {{ users: [{_user("system", keys.system)}] }}
}}
authorization {{
  timeout: 5
  auth_callout {{
    issuer: {public_key(keys.issuer)}
    xkey: {public_key(keys.callout)}
    account: {BUS_ACCOUNT}
    auth_users: {everybody}
  }}
}}
{_tls(tls)}{_cluster(node) if node else ""}"""


def _tls(certificate: Certificate | None) -> str:
    if certificate is None:
        return ""
    # Ours speak TLS first. Who says nothing for a second is told that TLS is required, and can say so.
    return f"""\
tls {{
  cert_file: "{certificate.cert}"
  key_file: "{certificate.key}"
  timeout: 5
  handshake_first: "1s"
}}
"""
