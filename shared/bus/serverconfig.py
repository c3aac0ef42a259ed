"""The nats-server configuration: accounts, who the services are, and what each may do."""

from pathlib import Path

import msgspec

from shared.bus.keys import public_key, seed_file
from shared.events import subjects

BUS_ACCOUNT = "WHIMBREL"
SYSTEM_ACCOUNT = "SYS"
SERVICES = ("management", "signal", "resolver")
MAX_PAYLOAD = 8 * 1024 * 1024
"""Room for one commit that changes the groups of 20,000 peers."""


class Credentials(msgspec.Struct, frozen=True, kw_only=True):
    """Seeds by role. issuer signs what the auth callout grants; system reads connections and ends them."""

    issuer: str
    management: str
    signal: str
    resolver: str
    system: str


def credentials(directory: Path) -> Credentials:
    """The seeds kept in `directory` as <role>.nk, mode 0600, made on first use."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return Credentials(
        issuer=seed_file(directory / "issuer.nk", "account"),
        **{role: seed_file(directory / f"{role}.nk", "user") for role in (*SERVICES, "system")},
    )


_CONSUMERS = "$JS.API.CONSUMER"

_PERMISSIONS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "management": (
        (subjects.LOG_ALL, subjects.FEED_ALL, "$JS.API.>", "$JS.ACK.>"),
        (subjects.ENROL_ALL, subjects.AUTH_CALLOUT, "_INBOX.management.>"),
    ),
    "signal": (
        (
            "signal.*.to.*.*",
            subjects.FACT_SESSIONS,
            f"{_CONSUMERS}.*.FACTS.>",
            f"{_CONSUMERS}.MSG.NEXT.FACTS.*",
            "$JS.API.STREAM.INFO.FACTS",
            "$JS.ACK.FACTS.>",
        ),
        (subjects.SIGNAL_FROM_ALL, subjects.BEAT_ALL, "_INBOX.signal.>"),
    ),
    "resolver": (
        (
            subjects.FACT_RESOLUTIONS,
            *(f"{_CONSUMERS}.*.{stream}.>" for stream in ("FACTS", "FEED")),
            *(f"{_CONSUMERS}.MSG.NEXT.{stream}.*" for stream in ("FACTS", "FEED")),
            *(f"$JS.API.STREAM.INFO.{stream}" for stream in ("FACTS", "FEED")),
            *(f"$JS.ACK.{stream}.>" for stream in ("FACTS", "FEED")),
        ),
        (subjects.LIVE_FEED_ROUTES, "_INBOX.resolver.>"),
    ),
}
"""Role → what it may publish, what it may subscribe to. One writer for each stream, enforced by the server."""


def _user(role: str, seed: str) -> str:
    publish, subscribe = ([f'"{s}"' for s in side] for side in _PERMISSIONS[role])
    return (
        f"{{nkey: {public_key(seed)}, permissions: {{publish: [{', '.join(publish)}], "
        f'subscribe: [{", ".join(subscribe)}], allow_responses: {{max: 1, expires: "10s"}}}}}}'
    )


def render(keys: Credentials, *, store: Path, host: str, port: int, name: str = "whimbrel") -> str:
    """The configuration file of one server. Acknowledged writes are on disk (sync always)."""
    users = ", ".join(_user(role, getattr(keys, role)) for role in SERVICES)
    everybody = ", ".join(public_key(getattr(keys, role)) for role in (*SERVICES, "system"))
    return f"""\
server_name: "{name}"
host: "{host}"
port: {port}
max_payload: {MAX_PAYLOAD}
write_deadline: "10s"
jetstream {{ store_dir: "{store}", sync_interval: always }}
system_account: {SYSTEM_ACCOUNT}
accounts {{
  {BUS_ACCOUNT} {{ jetstream: enabled, users: [{users}] }}
  {SYSTEM_ACCOUNT} {{ users: [{{nkey: {public_key(keys.system)}}}] }}
}}
authorization {{
  timeout: 5
  auth_callout {{
    issuer: {public_key(keys.issuer)}
    account: {BUS_ACCOUNT}
    auth_users: [{everybody}]
  }}
}}
"""
