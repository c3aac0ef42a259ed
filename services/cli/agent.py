"""`whimbrel up`, `down`, `status` and `networks`: this host's agent.

`up` becomes the agent by exec, so that the resident process has loaded no command line, and the setup key travels
through a pipe: it is in no command line and no environment of the agent. The others ask over the agent's socket.
"""

import contextlib
import json
import os
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import IO, Annotated, Any

from cyclopts import App, Parameter

from services.cli.admin.output import Columns, print_json, print_object, print_table
from services.cli.errors import USAGE, Failed, NotRunning

AGENT = (sys.executable, "-P", "-m", "services.agent")
"""-P: what lies in the directory that `up` is called from is no part of the agent."""
DETACHED_WITHIN_S = 10.0
LOG_NAME = "agent.log"
ANSWER_WITHIN_S = 10.0
"""The agent answers from memory; so long only when it waits for its wireguard-go, which it gives up after 5 s."""
DRAIN_S, MAX_DRAIN_S = 10.0, 3600.0
STOP_WITHIN_S = 60.0
"""Removing thousands of routes takes seconds, and so does a wireguard-go that has to be killed."""

NewInterface = Annotated[str, Parameter(help="Name of the overlay interface.")]
NewSocket = Annotated[Path | None, Parameter(help="Socket of the agent; /run/whimbrel/wt0.sock by default.")]
Interface = Annotated[NewInterface, Parameter(env_var="WHIMBREL_INTERFACE")]
Socket = Annotated[NewSocket, Parameter(env_var="WHIMBREL_SOCKET")]
"""Of an agent that runs; `up` reads the same variables, as any of its options."""
Json = Annotated[bool, Parameter(name="--json", negative="", help="Machine-readable output.")]
Ids = Annotated[list[str], Parameter(help="Network ids, as `whimbrel networks ls` shows them, or `all`.")]


def up(
    *,
    bus: Annotated[str, Parameter(help="Address of the bus, tls:// or nats://; several are comma separated.")],
    bus_ca: Annotated[
        Path | None, Parameter(help="Certificate of who vouches for a tls:// bus; the system's by default.")
    ] = None,
    setup_key: Annotated[str | None, Parameter(help="Key to enrol with, the first time.")] = None,
    setup_key_file: Annotated[Path | None, Parameter(help="File that holds the key.")] = None,
    hostname: Annotated[str | None, Parameter(help="Name of this host; the system's by default.")] = None,
    interface: NewInterface = "wt0",
    port: Annotated[int, Parameter(help="UDP port of WireGuard.")] = 51820,
    state_dir: Annotated[Path, Parameter(help="Where keys and the last good state are kept.")] = Path(
        "/var/lib/whimbrel"
    ),
    socket: NewSocket = None,
    metrics_port: Annotated[int | None, Parameter(help="Port on loopback for Prometheus; none by default.")] = None,
    daemon: Annotated[bool, Parameter(negative="", help="Go to the background once the agent runs.")] = False,
    log_level: Annotated[str, Parameter(help="debug, info, warning or error.")] = "info",
) -> None:
    """Enrol this host if needed and run its agent.

    Ends with 2 when an option makes no sense or the key is missing, 3 when the key is refused, 4 when the host lacks
    what the agent needs, 5 when another agent runs here or somebody has the directory, interface or port, 6 when the
    identity on disk is corrupt.

    ```
    whimbrel up --bus tls://bus.example.com:4222 --setup-key-file /run/setup-key
    ```
    """
    key = _setup_key(setup_key, setup_key_file)
    settings = {
        "bus": bus,
        "bus_ca": bus_ca and bus_ca.absolute(),
        "hostname": hostname,
        "interface": interface,
        "port": port,
        "state_dir": state_dir.absolute(),
        "socket": socket and socket.absolute(),
        "metrics_port": metrics_port,
        "log_level": log_level,
    }
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WHIMBREL_SETUP_KEY")}
    environment |= {f"WHIMBREL_{name.upper()}": str(value) for name, value in settings.items() if value is not None}
    pipe = _pipe(key) if key else None
    if pipe is not None:
        environment["WHIMBREL_SETUP_KEY_FILE"] = f"/dev/fd/{pipe}"
    elif setup_key_file is not None:
        environment["WHIMBREL_SETUP_KEY_FILE"] = str(setup_key_file.absolute())
    if daemon:
        _detach(environment, pipe, state_dir, _path(socket, interface))
        return
    if pipe is not None:
        os.set_inheritable(pipe, True)
    os.execve(sys.executable, AGENT, environment)


def down(
    *,
    now: Annotated[bool, Parameter(negative="", help="Wait for nobody.")] = False,
    drain_timeout: Annotated[
        float, Parameter(env_var="WHIMBREL_DRAIN_TIMEOUT", help="Seconds that clients have to go elsewhere.")
    ] = DRAIN_S,
    interface: Interface = "wt0",
    socket: Socket = None,
) -> None:
    """Stop this host's agent: everything it made in the kernel is removed. Where none runs there is nothing to do.

    A routing peer that others can stand in for first has its clients go there.

    ```
    whimbrel down
    ```
    """
    if not 0 <= drain_timeout <= MAX_DRAIN_S:
        raise Failed(f"--drain-timeout {drain_timeout:g}: choose between 0 and {MAX_DRAIN_S:g} seconds", 2)
    path, drain_s = _path(socket, interface), 0.0 if now else drain_timeout
    try:
        if drain_s and _ask(path, "status").get("drains"):
            print(f"clients go to other routing peers: waiting for {drain_s:g} s at most (--now skips it)", flush=True)
        left = _ask(path, "down", within_s=STOP_WITHIN_S + drain_s, drain_s=drain_s)
    except NotRunning:
        print(f"no agent runs at {path}: nothing to stop")
        return
    if left:
        raise Failed("the agent stopped, but could not remove " + "; ".join(f"{k}: {v}" for k, v in left.items()))


def status(
    *,
    detail: Annotated[bool, Parameter(name=["--detail", "-d"], negative="", help="Every peer on its own.")] = False,
    check: Annotated[bool, Parameter(negative="", help="End with 1 and say why unless all is well.")] = False,
    json: Json = False,
    interface: Interface = "wt0",
    socket: Socket = None,
) -> None:
    """Show what this host is connected to and how far it is.

    With --check it ends with 0 when the host is connected and holds all it should, and with 1 and the reason otherwise.

    ```
    whimbrel status -d
    ```
    """
    shown = _ask(_path(socket, interface), "status")
    if check and (reason := amiss(shown)):
        raise Failed(reason)
    if json:
        print_json(shown)
        return
    print_object(_summary(shown))
    if detail and shown["peers"]["details"]:
        print()
        print_table(shown["peers"]["details"], PEERS)
    if shown["limit"]:
        print(f"limit: {shown['limit']}")
    if shown["connectionLimit"]:
        print(f"limit: {shown['connectionLimit']}")
    if detail and shown["pathLimit"]:
        print(f"limit: {shown['pathLimit']}")
    for title, field in DETAILS if detail else ():
        for name, reason in shown[field].items():
            print(f"{title}: {name}: {reason or 'about to be applied'}")


networks = App(name="networks", help="Show and choose the routes offered to this host.")


@networks.command
def ls(*, json: Json = False, interface: Interface = "wt0", socket: Socket = None) -> None:
    """List the routes offered to this host, and which of them it uses through whom.

    Of a route with several routing peers each one is listed: which is in use, which would be next, and what keeps the
    others from it.

    ```
    whimbrel networks ls
    whimbrel networks ls --json | jq '.[] | {id, choice, routingPeers}'
    ```
    """
    offered = _ask(_path(socket, interface), "networks")
    if json:
        print_json(offered)
        return
    if not offered:
        print("No networks available.")
        return
    print_table(offered, NETWORKS)
    ranked = [{"id": one["id"], **peer} for one in offered if len(one["routingPeers"]) > 1 for peer in _told(one)]
    if ranked:
        print()
        print_table(ranked, ROUTING_PEERS)
    named = [{"id": one["id"], **address} for one in offered for address in one.get("names", ())]
    if named:
        print()
        print_table(named, NAMED)


@networks.command
def history(
    network: Annotated[str, Parameter(help="Network id, as `whimbrel networks ls` shows it; all by default.")] = "",
    *,
    json: Json = False,
    interface: Interface = "wt0",
    socket: Socket = None,
) -> None:
    """List the last 50 times that another routing peer carried a network, or nobody did, and why.

    ```
    whimbrel networks history
    whimbrel networks history office --json
    ```
    """
    path = _path(socket, interface)
    switches = _ask(path, "history", ids=[network] if network else [])
    if network and not switches and all(one["id"] != network for one in _ask(path, "networks")):
        raise Failed(f"not offered to this host: {network}; see `whimbrel networks ls`")
    if json:
        print_json(switches)
    elif switches:
        print_table(switches, SWITCHES)
    else:
        print("Nothing was switched.")


@networks.command
def select(
    ids: Ids,
    *,
    append: Annotated[bool, Parameter(name=["--append", "-a"], negative="", help="Keep what is selected.")] = False,
    interface: Interface = "wt0",
    socket: Socket = None,
) -> None:
    """Use these routes, and no others unless --append is given.

    ```
    whimbrel networks select office
    ```
    """
    _choose(_path(socket, interface), "select", ids, append=append)


@networks.command
def deselect(ids: Ids, *, interface: Interface = "wt0", socket: Socket = None) -> None:
    """Stop using these routes.

    ```
    whimbrel networks deselect office
    ```
    """
    _choose(_path(socket, interface), "deselect", ids)


debug = App(name="debug", help="Ask this host's agent what it does, and why.")


@debug.command
def dns(
    name: Annotated[str, Parameter(help="The name, whole.")],
    *,
    type: Annotated[str, Parameter(help="Type of the record, as A, AAAA, MX or TXT.")] = "A",
    json: Json = False,
    interface: Interface = "wt0",
    socket: Socket = None,
) -> None:
    """Say which rule answers a name on this host, from where, in what time, and why no other one does.

    The question is asked as a program's is: what it finds is routed.

    ```
    whimbrel debug dns db.corp.example
    whimbrel debug dns corp.example --type MX --json
    ```
    """
    said = _ask(_path(socket, interface), "dns", ids=[name, type.upper()])
    if json:
        print_json(said)
        return
    if not said["name"]:
        raise Failed(said["why"], USAGE)
    print(_headline(said))
    for answer in said["answers"]:
        print(f"  {answer}")
    print()
    print_table(said["rules"], ANSWERING)


PEERS: Columns = {
    "PEER": "fqdn",
    "ADDRESS": lambda peer: " ".join(filter(None, (peer["netbirdIp"], peer["netbirdIpv6"]))),
    "STATUS": "status",
    "ENDPOINT": lambda peer: peer["iceCandidateEndpoint"]["remote"],
    "RTT": lambda peer: f"{peer['latency'] / 1e6:.1f} ms" if peer["latency"] else "",
    "LAST HANDSHAKE": lambda peer: "never" if peer["lastWireguardHandshake"][:4] == "0001" else _ago(peer),
    "RECEIVED": lambda peer: _bytes(peer["transferReceived"]),
    "SENT": lambda peer: _bytes(peer["transferSent"]),
    "NETWORKS": "networks",
}

DETAILS = (("pending", "pending"), ("not used", "unplaced"), ("not told", "notTold"))
"""What follows the peers: title and field, a mapping from what it is to why."""

NETWORKS: Columns = {
    "ID": "id",
    "NETWORK": lambda one: one["network"] or ", ".join(one["domains"]),
    "STATUS": "status",
    "CARRIED BY": lambda one: (one["carriedBy"] or {}).get("fqdn", ""),
    "ADDRESSES": lambda one: ", ".join(address for found in one["resolvedIPs"].values() for address in found),
    "REASON": "reason",
}


ROUTING_PEERS: Columns = {
    "ID": "id",
    "NETWORK": lambda one: one["network"] or "names",
    "RANK": "rank",
    "ROUTING PEER": "fqdn",
    "STATE": "state",
    "RTT": lambda one: f"{one['latency'] / 1e6:.1f} ms" if one["latency"] else "",
    "LOSS": lambda one: f"{one['loss']:.0%}" if one["latency"] else "",
    "PATH": "path",
    "METRIC": "metric",
    "SINCE": "since",
    "WHY": "why",
}

NAMED: Columns = {
    "ID": "id",
    "NAME": "name",
    "ADDRESS": "address",
    "SOURCE": "source",
    "AGE": lambda one: _age(one["seen"]),
}

ANSWERING: Columns = {"RULE": "rule", "WHAT IT SAYS": "said"}

SWITCHES: Columns = {
    "TIME": lambda one: _time(one["at"]),
    "ID": "id",
    "NETWORK": "network",
    "FROM": lambda one: one["from"]["fqdn"] or "nobody",
    "TO": lambda one: one["to"]["fqdn"] or "nobody",
    "REASON": "reason",
}


def _told(network: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The routing peers of the network; beside the one in use stands why it is that one, and since when."""
    chosen = {"since": _time(network["chosenAt"])}
    return [
        {**peer, **chosen, "why": "; ".join(filter(None, (network["choice"], peer["why"])))}
        if peer["state"] == "in use"
        else peer
        for peer in network["routingPeers"]
    ]


def _summary(shown: Mapping[str, Any]) -> dict[str, Any]:
    bus, peers, pending = shown["management"], shown["peers"], len(shown["pending"])
    in_step = shown["appliedRevision"] == shown["desiredRevision"] and not pending
    progress = "" if in_step else f" of {shown['desiredRevision']}, {pending} pending"
    return {
        "Host": shown["fqdn"] or "not enrolled yet",
        "Status": shown["daemonStatus"],
        "Bus": bus["url"] if bus["connected"] else _in_the_way(bus),
        "Address": " ".join(filter(None, (shown["netbirdIp"], shown["netbirdIpv6"]))),
        "Interface": f"{shown['interface']}, {shown['wireguardBackend']}, port {shown['wireguardPort']}",
        "Reached at": ", ".join(shown["localEndpoints"]) or _nowhere(shown["notTold"]),
        "Peers": f"{peers['connected']} of {peers['total']} connected",
        "Serves": ", ".join(shown["networks"]) or "nothing",
        **_not_carried(shown.get("served", ())),
        **_names(shown.get("forwarder")),
        **_returns(shown.get("returnAddresses", ())),
        "Applied": f"revision {shown['appliedRevision']}{progress}",
    }


def _not_carried(served: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """What this host serves and does not carry, and probe targets that it does not ask; nothing when there is none."""
    said = {
        "Not carried": [f"{one['network']}: {one['reason']}" for one in served if not one["carried"]],
        "Not probed": [f"{one['network']}: {one['probeFault']}" for one in served if one["probeFault"]],
    }
    return {title: "; ".join(lines) for title, lines in said.items() if lines}


def _names(forwarder: Mapping[str, Any] | None) -> dict[str, str]:
    """How the names of routes are answered for; nothing on a host that serves none."""
    if forwarder is None:
        return {}
    where = ", ".join(forwarder["listening"])
    unbound = [f"{address}: {reason}" for address, reason in forwarder["unbound"].items()]
    left_out = [f"{name}: {reason}" for name, reason in forwarder["leftOut"].items()]
    lines = {
        "Names": forwarder["problem"] or (f"answered on port {forwarder['port']} of {where}" if where else "starting"),
        "Not asked at": "; ".join(unbound),
        "Left out": "; ".join(left_out),
    }
    return {title: line for title, line in lines.items() if line}


def _returns(addresses: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Who has each return address; nothing on a host whose routes have none."""
    said = [f"{one['address']}: {_holder(one)}" for one in addresses]
    return {"Returns to": "; ".join(said)} if said else {}


def _holder(one: Mapping[str, Any]) -> str:
    if one["heldHere"]:
        return f"this host, on {one['interface']}"
    return "; ".join(filter(None, (one["holder"], one["problem"]))) or "nobody"


def _nowhere(not_told: Mapping[str, str]) -> str:
    """Why other hosts are told of no address."""
    reasons = "; ".join(f"{address}: {reason}" for address, reason in not_told.items())
    return f"nowhere: {reasons or 'this host has no address that others could reach'}"


def amiss(shown: Mapping[str, Any]) -> str:
    """Why the host of this status is not connected or does not hold what it should, "" when it is and does."""
    if not shown["management"]["connected"]:
        return _in_the_way(shown["management"])
    if pending := shown["pending"]:
        name, reason = next(iter(pending.items()))
        return f"{len(pending)} pending: {name}: {reason or 'about to be applied'}"
    if shown["appliedRevision"] != shown["desiredRevision"]:
        return f"revision {shown['appliedRevision']} of {shown['desiredRevision']} is applied"
    return ""


def _in_the_way(bus: Mapping[str, Any]) -> str:
    problem = bus["error"] or "connecting"
    return problem if bus["url"] in problem else f"{bus['url']}: {problem}"


def _ago(peer: Mapping[str, Any]) -> str:
    return _time(peer["lastWireguardHandshake"])


def _time(text: str) -> str:
    """A time as people read it, in UTC."""
    return text.partition(".")[0].replace("T", " ").removesuffix("Z")


def _age(text: str) -> str:
    """How long ago a time was, as people say it."""
    seconds = max(0.0, time.time() - datetime.fromisoformat(text).timestamp())
    for size_s, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size_s:
            return f"{seconds // size_s:.0f} {unit}"
    return f"{seconds:.0f} s"


def _bytes(count: int) -> str:
    size, unit = float(count), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if size < 1024 or unit == "TiB":
            break
        size /= 1024
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"


def _choose(path: Path, what: str, ids: list[str], **options: Any) -> None:
    unknown = _ask(path, what, ids=ids, **options)
    if unknown:
        raise Failed(f"not offered to this host: {', '.join(unknown)}; nothing is changed, see `whimbrel networks ls`")
    print(f"Networks {what}ed successfully.")


def _path(given: Path | None, interface: str) -> Path:
    return given or Path("/run/whimbrel") / f"{interface}.sock"


def _ask(path: Path, what: str, within_s: float = ANSWER_WITHIN_S, **options: Any) -> Any:
    """The agent's answer; raises Failed when none comes in time, NotRunning when nobody has the socket."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as agent:
            agent.settimeout(within_s)
            agent.connect(str(path))
            with agent.makefile("rwb") as stream:
                stream.write(json.dumps({"do": what, **options}).encode() + b"\n")
                stream.flush()
                line = stream.readline()
    except PermissionError:
        raise Failed(f"{path} is root's: run this as root") from None
    except (TimeoutError, BlockingIOError):
        raise Failed(
            f"the agent at {path} does not answer: look at its log; if it is stopped or stuck, end it and start it anew"
        ) from None
    except ConnectionRefusedError:
        raise Failed(
            f"the agent at {path} was killed, and what it made is still there: "
            "`whimbrel up` goes on with it, and `whimbrel down` after that removes it"
        ) from None
    except OSError:
        raise NotRunning(
            f"no agent runs at {path}: start it with `whimbrel up`, or name its socket with --socket"
        ) from None
    answer = json.loads(line) if line else {"error": "the agent ended before it answered"}
    if "error" in answer:
        raise Failed(answer["error"])
    return answer["result"]


def _setup_key(key: str | None, file: Path | None) -> str:
    """The key, "" when none was given or its file is gone: then the agent says whether it is still needed."""
    if key and file:
        raise Failed("give --setup-key or --setup-key-file, not both", 2)
    if file is None:
        return (key or "").strip()
    try:
        return file.read_text().strip()
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as problem:
        raise Failed(f"setup key file {file}: {getattr(problem, 'strerror', None) or 'not text'}", 2) from None


def _pipe(key: str) -> int:
    """A descriptor that the key can be read from, once."""
    reading, writing = os.pipe()
    os.write(writing, key.encode()[:4096])
    os.close(writing)
    return reading


def _detach(environment: Mapping[str, str], pipe: int | None, state_dir: Path, path: Path) -> None:
    """Start the agent in a session of its own and come back when it is connected, or say why it ended."""
    with _log(state_dir) as log:
        began_at = log.tell()
        agent = subprocess.Popen(
            AGENT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            pass_fds=() if pipe is None else (pipe,),
        )
    until = time.monotonic() + DETACHED_WITHIN_S
    while time.monotonic() < until:
        if agent.poll() is not None:
            with (state_dir / LOG_NAME).open() as log_text:
                log_text.seek(began_at)
                said = log_text.read().strip().rpartition("\n")[2]
            raise Failed(said.removeprefix("error: ") or "the agent ended at once", agent.returncode or 1)
        if _is_connected(path, agent.pid):
            print(f"agent {agent.pid} runs, its log is {state_dir / LOG_NAME}")
            return
        time.sleep(0.05)
    with contextlib.suppress(Failed):
        print(_in_the_way(_ask(path, "status")["management"]))
    print(f"agent {agent.pid} runs and is not connected yet, its log is {state_dir / LOG_NAME}")


def _log(state_dir: Path) -> IO[bytes]:
    try:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        return open(os.open(state_dir / LOG_NAME, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "ab")
    except OSError as problem:
        raise Failed(f"{problem.filename}: {problem.strerror}: choose another with --state-dir") from None


def _is_connected(path: Path, pid: int) -> bool:
    """Whether the agent with that process id answers, and not an earlier one, and has its bus."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as agent:
            agent.connect(str(path))
            listening, _, _ = struct.unpack("iII", agent.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        return listening == pid and bool(_ask(path, "status")["management"]["connected"])
    except (Failed, OSError):
        return False


def _headline(said: dict[str, Any]) -> str:
    whence = said["server"] or "this host"
    why = f": {said['why']}" if said["why"] else ""
    return f"{said['name']} {said['type']}: {said['rcode']} from {whence} in {said['tookMs']:.1f} ms{why}"
