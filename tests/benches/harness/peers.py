"""The servers that are measured: how each is got, started on loopback, and stopped again by its pid."""

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

from . import machine


@dataclass
class Running:
    """One started server, and what the generator has to be told of it beside its port."""

    port: int
    pids: list
    arguments: list = field(default_factory=list)


@dataclass
class Peer:
    """A server: the wire the generator speaks to it, and the command that runs it on a port."""

    name: str
    wire: str
    command: object  # (port, folder for its files, with `tls` also its port for devices) -> argument list
    version: object  # () -> words for the table's head
    program: str = ""  # for a peer that is installed, not built
    package: str = ""  # the Debian package that holds it
    groups: tuple = ("push", "idle", "events", "attach")  # what of it is measured
    tls: bool = False  # devices come over TLS, to a port of their own
    one_at_a_time: bool = False  # a backend connection for each push in flight

    @contextlib.contextmanager
    def run(self, prefix):
        """Starts the server, waits until it listens, and stops exactly it afterwards."""
        with tempfile.TemporaryDirectory(prefix="imlink-bench-") as folder:
            port, folder, arguments = machine.free_port(), Path(folder), []
            devices = port
            if self.tls:
                devices = machine.free_port()
                arguments = ["--backend-server", f"127.0.0.1:{port}", "--trust", certificate(folder)]
            command = [*prefix, *self.command(port, folder, *([devices] if self.tls else []))]
            with started(self.name, command, folder, listens_at(port)) as process:
                yield Running(devices, [process.pid], arguments)


def certificate(folder):
    """A fresh self-signed certificate for loopback, P-256, and its key beside it."""
    file = folder / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    command += ["-addext", "basicConstraints=critical,CA:FALSE", "-keyout", folder / "key.pem", "-out", file]
    subprocess.run(command, check=True, capture_output=True)
    return file


@contextlib.contextmanager
def started(name, command, folder, is_ready, environment=None):
    """A process that is ready, and is stopped afterwards."""
    log = folder / f"{name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + 10
        while not is_ready():
            if process.poll() is not None:
                raise RuntimeError(f"{name} ended at start: {log.read_text(errors='replace')[-500:]}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"{name} is not ready after 10 s: {log.read_text(errors='replace')[-500:]}")
            time.sleep(0.02)
        yield process
    finally:
        stop(process)


def listens_at(port):
    def is_ready():
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    return is_ready


def says_ready(port):
    """imlink's own word: its parts are linked and the store answers."""

    def is_ready():
        try:
            return urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=1).status == 200
        except OSError:
            return False

    return is_ready


@dataclass
class Imlink(Peer):
    """`imlink gateway`; its store is in memory, or a Redis of its own that appends to a file and syncs it each second."""

    redis: bool = False
    sealed: bool = False

    @contextlib.contextmanager
    def run(self, prefix):
        with tempfile.TemporaryDirectory(prefix="imlink-bench-") as folder, contextlib.ExitStack() as stack:
            folder, store, store_pids = Path(folder), "memory", []
            if self.redis:
                port = machine.free_port()
                command = [find("redis-server"), "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
                command += ["--appendonly", "yes", "--appendfsync", "everysec"]
                redis = stack.enter_context(started("redis", [*prefix, *command], folder, listens_at(port)))
                store, store_pids = f"redis://127.0.0.1:{port}", [redis.pid]
            devices, backends, http = (machine.free_port() for _ in range(3))
            command = [self.command, "gateway", "--store", store, "--state-dir", folder / "state", "--log-level", "warn"]
            listen, other = ("--device-listen", "--plain-listen") if self.sealed else ("--plain-listen", "--device-listen")
            command += [listen, f"127.0.0.1:{devices}", other, "none", "--backend-listen", f"127.0.0.1:{backends}"]
            # The generator opens connections faster than one address should.
            command += ["--set", "server.address_rate=1000000", "--set", "server.prefix_rate=1000000"]
            command += ["--http-listen", f"127.0.0.1:{http}"]
            environment = {"IMLINK_TOKEN": TOKEN, "IMLINK_CLUSTER_SECRET": TOKEN, "IMLINK_ROUTE_KEY": "32" * 32}
            words = [str(word) for word in [*prefix, *command]]
            process = stack.enter_context(started(self.name, words, folder, says_ready(http), environment))
            arguments = ["--backend-server", f"127.0.0.1:{http if self.one_at_a_time else backends}"]
            arguments += ["--provision", f"127.0.0.1:{http}"]
            arguments += [word for pid in store_pids for word in ("--store-pid", pid)]
            yield Running(devices, [process.pid], arguments)


def stop(process):
    """Ends a process that this run started."""
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def mosquitto(port, folder, tls_port=None):
    """Persistence off, no limit on messages in flight, NODELAY on: its fastest honest form."""
    config = folder / "mosquitto.conf"
    tls = f"listener {tls_port} 127.0.0.1\ncertfile {folder}/certificate.pem\nkeyfile {folder}/key.pem\n"
    config.write_text(
        f"listener {port} 127.0.0.1\n{tls if tls_port else ''}"
        "allow_anonymous true\n"
        "persistence false\n"
        "max_inflight_messages 0\n"
        "max_queued_messages 0\n"
        "set_tcp_nodelay true\n"
        "log_type error\n"
        "user root\n"
    )
    return [find("mosquitto"), "-c", str(config)]


def nats(port, folder):
    """Core NATS; `max_pending` keeps the consumer of the events from being dropped as slow."""
    config = folder / "nats.conf"
    config.write_text(f"listen: 127.0.0.1:{port}\nmax_connections: 1000000\nmax_pending: 268435456\n")
    return [find("nats-server"), "-c", str(config)]


def mosquitto_version():
    """`mosquitto -h` says it in its first line, and ends with status 3."""
    done = subprocess.run([find("mosquitto"), "-h"], capture_output=True, text=True)
    return done.stdout.split("\n")[0].split()[-1]


def nats_version():
    return machine.text(find("nats-server"), "--version").removeprefix("nats-server: v")


def redis_version():
    return machine.text(find("redis-server"), "--version").split("v=")[1].split()[0] + ", appendfsync everysec"


def rumqttd_version():
    lock = (machine.BENCHES / "peers/rumqttd/Cargo.lock").read_text()
    return lock.split('name = "rumqttd"\nversion = "', 1)[1].split('"', 1)[0] + ", NODELAY added"


def known(programs):
    """All peers by name; `programs` is where the built ones are, a folder for each."""

    def built(name):
        return lambda port, _folder: [str(programs[name] / name), str(port)]

    imlink = programs.get("imlink", Path()) / "imlink"
    peers = [
        Imlink("imlink", "imlink", imlink, lambda: "gateway, memory store, binary backend link"),
        Imlink("imlink-sealed", "imlink-sealed", imlink, lambda: "the same over sealed links of devices", sealed=True),
        Imlink("imlink-http", "imlink-http", imlink, lambda: "the same over HTTP, a connection for each push in flight",
               groups=("push",), one_at_a_time=True),
        Imlink("imlink-redis", "imlink", imlink, lambda: f"gateway on Redis {redis_version()}, binary backend link",
               "redis-server", "redis-server", groups=("push", "events", "attach"), redis=True),
        Peer("mosquitto", "mqtt", mosquitto, mosquitto_version, "mosquitto", "mosquitto"),
        Peer("mosquitto-tls", "mqtt-tls", mosquitto, lambda: "the same, devices over TLS 1.3, certificate P-256",
             "mosquitto", "mosquitto", tls=True),
        Peer("nats", "nats", nats, nats_version, "nats-server", "nats-server"),
        Peer("rumqttd", "mqtt", built("bench-rumqttd"), rumqttd_version),
        Peer("floor-tokio", "raw", built("floor-tokio"), lambda: "task and channel per connection"),
        Peer("floor-epoll", "raw", built("floor-epoll"), lambda: "one thread"),
    ]
    return {peer.name: peer for peer in peers}


def missing_packages(peers):
    """Debian packages of those peers whose program is not there."""
    return sorted({peer.package for peer in peers if peer.package and not find(peer.program)})


def find(program):
    """Where a program is; Debian keeps servers out of a user's PATH."""
    return shutil.which(program) or shutil.which(program, path="/usr/local/sbin:/usr/sbin:/sbin")


# `wire::imlink::TOKEN` of the generator.
TOKEN = "imlink-bench-has-no-secrets"
