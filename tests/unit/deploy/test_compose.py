"""compose.yaml, alone and with the files of deploy/, the Dockerfile, and what the services understand."""

import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Mapping, Sequence
from functools import reduce
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest.mock import patch

import msgspec
import pytest

from deploy.nats import serve
from deploy.nats.__main__ import CONFIG, HOLDS
from services.agent.settings import Settings as Agent
from services.management.settings import Settings as Management
from services.resolver.settings import Settings as Resolver
from services.signal.settings import Settings as Signal
from shared.net.listen import parse_listen
from shared.settings import from_arguments
from shared.settings import read as from_environment
from shared.version import VERSION
from tests.arch.tree import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
IGNORED = (ROOT / ".dockerignore").read_text().splitlines()
DOCKERFILE = (ROOT / "deploy/images/Dockerfile").read_text().replace("\\\n", " ")
HAPROXY = (ROOT / "deploy/images/haproxy.cfg").read_text()
PROMETHEUS = (ROOT / "deploy/prometheus.yml").read_text()
SETTINGS: dict[str, type[Management | Signal | Resolver]] = {
    "management": Management,
    "signal": Signal,
    "resolver": Resolver,
}


class Build(msgspec.Struct, frozen=True):
    context: str
    dockerfile: str
    target: str


class Service(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The part of the compose specification that we use."""

    image: str
    restart: str
    read_only: bool
    cap_drop: list[str]
    security_opt: list[str]
    build: Build | None = None
    pull_policy: str = ""
    entrypoint: list[str] = []
    command: list[str] = []
    environment: dict[str, str] = {}
    network_mode: str = ""
    ports: list[str] = []
    volumes: list[str] = []
    depends_on: list[str] | dict[str, dict[str, Any]] = []
    healthcheck: dict[str, Any] = {}
    logging: dict[str, Any] = {}
    networks: dict[str, dict[str, list[str]]] = {}
    container_name: str = ""
    init: bool = False
    cap_add: list[str] = []
    devices: list[str] = []
    tmpfs: list[str] = []
    secrets: list[str] = []

    @property
    def mounts(self) -> dict[str, tuple[str, str]]:
        """Folder → volume, "rw" or "ro"."""
        parts = ((*volume.split(":"), "rw")[:3] for volume in self.volumes)
        return {folder: (volume, mode) for volume, folder, mode in parts}

    def sees(self, path: Path) -> bool:
        """Whether the path is in a volume."""
        return any(path.is_relative_to(folder) for folder in self.mounts)


class Compose(msgspec.Struct, frozen=True):
    services: dict[str, Service]
    volumes: dict[str, None]


def merged(one: Any, other: Any) -> Any:
    """What compose makes of two files: maps are merged, command and entrypoint replaced, other lists added up."""
    if not isinstance(one, dict):
        return [*one, *other] if isinstance(one, list) else other
    both = {key: merged(one[key], other[key]) for key in one.keys() & other.keys()}
    both |= {key: other[key] for key in ("command", "entrypoint") if key in other}
    return {**one, **other, **both}


def stacked(*names: str) -> Compose:
    """What compose makes of these files."""
    files = (msgspec.yaml.decode((ROOT / name).read_bytes()) for name in names)
    return msgspec.convert(reduce(merged, files), Compose)


COMPOSE = stacked("compose.yaml")
CLUSTER = stacked("compose.yaml", "deploy/compose.cluster.yaml")
TLS = stacked("compose.yaml", "deploy/compose.tls.yaml")
CLUSTER_TLS = stacked(
    *("compose.yaml", "deploy/compose.cluster.yaml", "deploy/compose.tls.yaml", "deploy/compose.cluster-tls.yaml")
)
METRICS = stacked("compose.yaml", "deploy/compose.cluster.yaml", "deploy/compose.metrics.yaml")
SERVICES = COMPOSE.services
BUSES = ("bus", "bus-2", "bus-3")


def stage(target: str) -> str:
    """The instructions of one stage of the Dockerfile."""
    [found] = re.findall(rf"^FROM \S+ AS {target}\n(.*?)(?=^FROM|\Z)", DOCKERFILE, re.M | re.S)
    return str(found)


def settings(name: str, services: Mapping[str, Service] = SERVICES) -> Any:
    """The settings that the service reads from its command line and its environment in the stack."""
    command, *options = services[name].command
    assert command == name
    with patch.dict(os.environ, services[name].environment, clear=True):
        return from_arguments(SETTINGS[name], name, options)


@pytest.mark.parametrize("name", SETTINGS)
def test_a_service_understands_its_command_line_and_finds_the_bus(name: str) -> None:
    assert settings(name).bus == "nats://bus:4222"
    assert "4222:4222" in SERVICES["bus"].ports
    assert SERVICES[name].depends_on == {"bus": {"condition": "service_healthy"}}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_service_sees_its_own_seeds_and_cannot_change_them(name: str) -> None:
    assert SERVICES[name].mounts["/seeds"] == (f"seeds-{name}", "ro")
    expected = {"management": "/seeds", "signal": "/seeds/signal.nk", "resolver": "/seeds/resolver.nk"}
    assert settings(name).credentials == Path(expected[name])
    users = {other for other, service in SERVICES.items() if f"seeds-{name}" in dict(service.mounts.values())}
    assert users == {name, "seeds"}


def test_all_seeds_are_only_where_they_are_made() -> None:
    makes = SERVICES["seeds"]
    assert makes.mounts == {
        "/seeds": ("seeds", "rw"),
        "/data/bus": ("bus", "rw"),
        **{f"/handed-out/{name}": (f"seeds-{name}", "rw") for name in HOLDS},
        "/remembered": ("management", "rw"),
    }
    assert makes.command == ["--seeds=/seeds", "--handed-out=/handed-out", "--remembered=/remembered", "--data=/data"]
    assert [name for name, service in SERVICES.items() if "seeds" in dict(service.mounts.values())] == ["seeds"]
    assert makes.network_mode == "none"


def test_the_bus_starts_with_the_configuration_that_was_made_for_it() -> None:
    bus = SERVICES["bus"]
    started = (*bus.entrypoint, *bus.command)
    assert started == ("python", "-m", "deploy.nats.serve", f"--config=/data/bus/{CONFIG}", "--http-port=8222")
    assert bus.mounts == {"/data/bus": ("bus", "rw")}
    assert bus.depends_on == {"seeds": {"condition": "service_completed_successfully", "restart": True}}
    for name in BUSES:
        member = CLUSTER.services[name]
        assert member.depends_on == bus.depends_on, "a configuration that changed takes effect"
        assert (member.entrypoint, member.init) == (bus.entrypoint, True)
        assert member.command == [part.replace("/bus/", f"/{name}/") for part in bus.command]
        assert member.mounts[f"/data/{name}"] == (name, "rw"), "the disk that is watched is that of the streams"


def test_the_token_outlives_its_container_and_is_where_the_command_looks() -> None:
    management = SERVICES["management"]
    assert management.sees(settings("management").admin_token)
    assert management.environment["WHIMBREL_TOKEN_FILE"] == str(settings("management").admin_token)


def test_how_far_the_log_came_is_remembered_where_a_first_start_is_allowed() -> None:
    remembered = settings("management").remembered
    assert remembered is not None
    volume, _ = SERVICES["management"].mounts[str(remembered)]
    assert SERVICES["seeds"].mounts["/remembered"] == (volume, "rw")
    assert "--remembered=/remembered" in CLUSTER.services["seeds"].command


def test_the_read_model_is_the_replicas_own() -> None:
    assert not SERVICES["management"].sees(settings("management").data_dir)
    assert [name for name, service in SERVICES.items() if not service.read_only] == ["management"]


@pytest.mark.skipif(shutil.which("haproxy") is None, reason="there is no haproxy")
def test_the_balancer_takes_its_configuration_and_has_nothing_to_say_against_it() -> None:
    check = ["haproxy", "-c", "-dW", "-f", str(ROOT / "deploy/images/haproxy.cfg")]  # -dW: a warning is an error
    ended = subprocess.run(check, capture_output=True, text=True, timeout=30)
    assert ended.returncode == 0, ended.stderr


def test_the_api_is_published_at_one_address_whatever_the_number_of_replicas() -> None:
    port = parse_listen(settings("management").api, "--api").port
    assert not SERVICES["management"].ports
    assert SERVICES["api"].ports == ["127.0.0.1:8080:8080"]
    assert "bind :8080" in HAPROXY
    assert f"management:{port} check" in HAPROXY
    assert "httpchk GET /readyz" in HAPROXY, "a replica that reads is not taken out when none takes changes"
    assert f"127.0.0.1:{port}/healthz" in " ".join(SERVICES["management"].healthcheck["test"])


@pytest.mark.parametrize(("stack", "buses"), [(TLS, BUSES[:1]), (CLUSTER_TLS, BUSES)], ids=["one bus", "a cluster"])
def test_with_tls_a_service_believes_the_certificate_that_every_bus_shows(stack: Compose, buses: Sequence[str]) -> None:
    for name in SETTINGS:
        read = settings(name, stack.services)
        assert read.bus == ",".join(f"tls://{bus}:4222" for bus in buses)
        assert read.bus_name.startswith("${WHIMBREL_BUS_NAME:?")
        assert read.bus_ca == Path("/tls/public/bus.crt")
        assert stack.services[name].sees(read.bus_ca)
    for bus in buses:
        shown = [Path(stack.services["seeds"].environment[f"WHIMBREL_BUS_{file}"]) for file in ("CERT", "KEY")]
        assert all(stack.services[bus].sees(file) for file in shown)
    key = {name for name, service in stack.services.items() if service.sees(Path("/tls/private/bus.key"))}
    assert key == set(buses), "and nobody else sees the key"


@pytest.mark.parametrize("name", SETTINGS)
def test_on_a_cluster_a_service_finds_every_bus(name: str) -> None:
    assert settings(name, CLUSTER.services).bus == ",".join(f"nats://{bus}:4222" for bus in BUSES)
    assert settings("management").stream_replicas == 1
    assert settings("management", CLUSTER.services).stream_replicas == len(BUSES)


def test_on_a_cluster_a_command_of_management_begins_a_majority_of_the_buses() -> None:
    begun = set(CLUSTER.services["management"].depends_on)
    assert begun == set(BUSES), "`docker compose run management …` begins nothing else, and one bus is never well alone"


def test_the_buses_of_a_cluster_differ_in_folder_and_published_port_alone() -> None:
    buses = [CLUSTER.services[name] for name in BUSES]
    for name, bus in zip(BUSES, buses, strict=True):
        assert bus.mounts == {f"/data/{name}": (name, "rw")}
        assert bus.mounts.items() <= CLUSTER.services["seeds"].mounts.items()
        assert bus.command == [f"--config=/data/{name}/{CONFIG}", "--http-port=8222"]
    assert [bus.ports for bus in buses] == [["4222:4222"], ["4223:4222"], ["4224:4222"]]
    alike = [msgspec.structs.replace(bus, command=[], ports=[], volumes=[]) for bus in buses]
    assert alike == [alike[0]] * len(BUSES)
    assert f"--nodes={','.join(BUSES)}" in CLUSTER.services["seeds"].command


@pytest.mark.parametrize("name", CLUSTER.services)
def test_a_container_has_no_more_rights_than_it_needs(name: str) -> None:
    service = CLUSTER.services[name]
    assert service.cap_drop == ["ALL"]
    assert service.security_opt == ["no-new-privileges:true"]
    image = SERVICES["seeds"] if service.image == SERVICES["seeds"].image else service
    assert image.build is not None
    assert re.search(r"^USER (?!root)\w+$", stage(image.build.target), re.M)


def test_every_image_is_built_here_once_and_named_after_this_version() -> None:
    builders = {service.image: service.build for service in SERVICES.values() if service.build}
    assert {service.image for service in SERVICES.values()} == set(builders)
    assert {image.partition(":")[2] for image in builders} == {VERSION}
    assert {name for name, service in SERVICES.items() if not service.build} == {
        name for name, service in SERVICES.items() if service.pull_policy == "never" and name != "seeds"
    }
    for build in builders.values():
        assert build is not None
        assert (ROOT / build.context / build.dockerfile).is_file()


def test_every_folder_that_a_volume_is_mounted_on_has_its_owner_in_the_image() -> None:
    [made] = re.findall(r"install -d -m 0700 -o whimbrel -g whimbrel (.*)", stage("control-plane"))
    folders = {folder for service in CLUSTER.services.values() for folder in service.mounts}
    assert folders | {str(settings("management").data_dir)} == set(made.split()) - {"/handed-out"}
    for stack in (COMPOSE, CLUSTER):
        assert {volume for service in stack.services.values() for volume, _ in service.mounts.values()} == set(
            stack.volumes
        )


def test_what_a_container_starts_is_in_its_image() -> None:
    assert re.findall(r'^ENTRYPOINT \["(\w+)"\]', stage("control-plane") + stage("agent"), re.M) == ["whimbrel"] * 2
    assert "whimbrel" in PROJECT["scripts"]
    assert SERVICES["seeds"].entrypoint == ["python", "-m", "deploy.nats"]
    assert find_spec("deploy.nats.__main__") is not None
    assert SERVICES["bus"].entrypoint[-1] == serve.__name__
    assert "/etc/haproxy/haproxy.cfg" in stage("api")


@pytest.mark.parametrize(
    "stack", [COMPOSE, CLUSTER, CLUSTER_TLS, METRICS], ids=["one bus", "cluster", "tls", "metrics"]
)
def test_logs_are_bounded_and_what_runs_says_whether_it_is_well(stack: Compose) -> None:
    for name, service in stack.services.items():
        assert service.logging == {"driver": "local", "options": {"max-size": "10m", "max-file": "5"}}, name
        assert bool(service.healthcheck) == (name not in ("seeds", "prometheus", "bus-metrics")), name
        if service.healthcheck.get("test", [])[1:3] == ["python", "-m"]:
            assert find_spec(service.healthcheck["test"][3]) is not None


def test_a_health_check_asks_where_its_service_answers() -> None:
    def asked(name: str) -> str:
        return str(CLUSTER.services[name].healthcheck["test"][-1])

    assert {asked(bus) for bus in BUSES} == {"http://127.0.0.1:8222/healthz"}
    assert all("--http-port=8222" in CLUSTER.services[bus].command for bus in BUSES)
    assert asked("management") == f"http://127.0.0.1:{parse_listen(settings('management').api, '--api').port}/healthz"
    for name in ("signal", "resolver"):
        assert asked(name) == f"http://127.0.0.1:{settings(name).metrics_port}/healthz"
    assert "/dev/tcp/127.0.0.1/8080 " in asked("api")
    assert "GET /ready " in asked("api")
    assert "monitor-uri /ready\n" in HAPROXY
    patience = {name: SERVICES[name].healthcheck["start_period"] for name in ("management", "api")}
    assert patience == {"management": "60s", "api": "75s"}, "`up` names management, not who waits for it"


def test_prometheus_finds_every_replica_of_every_service_and_every_bus() -> None:
    jobs = {job["job_name"]: job for job in msgspec.yaml.decode(PROMETHEUS)["scrape_configs"]}
    ports = {"management": parse_listen(settings("management").api, "--api").port}
    for name in ("signal", "resolver"):
        assert settings(name).metrics_host == "0.0.0.0"
        ports[name] = settings(name).metrics_port
    for name, port in ports.items():
        [found] = jobs[name]["dns_sd_configs"]
        assert (found["names"], found["type"], found["port"]) == ([name], "A", port)
    page = METRICS.services["bus-metrics"]
    assert page.entrypoint == ["python", "-m", "deploy.nats.metrics"]
    assert page.command == ["--servers=buses:8222", "--port=9464"]
    assert jobs["bus"]["static_configs"] == [{"targets": ["bus-metrics:9464"]}]
    assert all(CLUSTER.services[bus].networks == {"default": {"aliases": ["buses"]}} for bus in BUSES)
    assert not [
        port for service in METRICS.services.values() for port in service.ports if "8222" in port or "9464" in port
    ]


@pytest.mark.parametrize("files", [(), ("compose.yaml",)], ids=["on another machine", "beside the control plane"])
def test_the_agent_in_a_container_has_what_it_needs_and_no_more(files: tuple[str, ...]) -> None:
    agent = stacked(*files, "deploy/compose.agent.yaml").services["agent"]
    assert agent.build is not None
    assert stage(agent.build.target).rstrip().endswith('ENTRYPOINT ["whimbrel"]')
    assert (agent.read_only, agent.cap_drop, agent.cap_add) == (True, ["ALL"], ["NET_ADMIN", "NET_RAW"])
    assert agent.security_opt == ["no-new-privileges:true"]
    assert (agent.network_mode, agent.devices, agent.command) == ("host", ["/dev/net/tun"], ["up"])
    with patch.dict(os.environ, agent.environment, clear=True):
        read = from_environment(Agent)
    assert agent.sees(read.state_dir)
    assert agent.sees(Path("/tls/public/bus.crt")), "which WHIMBREL_BUS_CA may name"
    assert str(read.control_socket.parent) in agent.tmpfs
    assert read.setup_key_file == Path("/run/secrets") / agent.secrets[0]
    assert agent.healthcheck["test"] == ["CMD", "whimbrel", "status", "--check"]
    assert agent.logging == SERVICES["bus"].logging


def test_the_image_keeps_what_the_page_of_the_api_shows() -> None:
    kept = set(re.findall(r"! -name (\S+)", stage("build"))) - {"LICENSE"}
    assert set(re.findall(r"\{ASSETS\}/([\w.-]+)", (ROOT / "services/management/api/docs.py").read_text())) == kept


def test_an_image_knows_the_authorities_that_a_bus_may_have_its_certificate_from() -> None:
    assert "ca-certificates" in stage("python")


def test_the_image_is_built_from_the_lock_and_from_files_that_the_build_sees() -> None:
    assert re.search(r"pip install .*--require-hashes .*-r /build/requirements/run\.txt", stage("build"))
    copied = [source for line in re.findall(r"^COPY (?!--from)(.*)", DOCKERFILE, re.M) for source in line.split()[:-1]]
    assert IGNORED[0] == "*"
    for source in copied:
        assert (ROOT / source).exists()
        assert f"!{source}" in IGNORED or f"!{source.partition('/')[0]}" in IGNORED
