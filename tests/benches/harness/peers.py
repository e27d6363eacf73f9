"""The servers that are measured: how each is got, started on loopback, and stopped again by its pid."""

import contextlib
import shutil
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from . import machine


@dataclass
class Running:
    """One started server."""

    port: int
    pids: list


@dataclass
class Peer:
    """A server: the wire the generator speaks to it, and the command that runs it on a port."""

    name: str
    wire: str
    command: object  # (port, folder for its files) -> argument list
    version: object  # () -> words for the table's head
    program: str = ""  # for a peer that is installed, not built
    package: str = ""  # the Debian package that holds it

    @contextlib.contextmanager
    def run(self, prefix):
        """Starts the server, waits until it listens, and stops exactly it afterwards."""
        with tempfile.TemporaryDirectory(prefix="imlink-bench-") as folder:
            port = machine.free_port()
            log = Path(folder) / "log"
            with log.open("wb") as output:
                process = subprocess.Popen(
                    [*prefix, *self.command(port, Path(folder))],
                    cwd=folder,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                )
            try:
                self._await_listening(process, port, log)
                yield Running(port, [process.pid])
            finally:
                stop(process)

    def _await_listening(self, process, port, log):
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise RuntimeError(f"{self.name} ended at start: {log.read_text(errors='replace')[-500:]}")
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            time.sleep(0.02)
        raise RuntimeError(f"{self.name} does not listen after 10 s")


def stop(process):
    """Ends a process that this run started."""
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def mosquitto(port, folder):
    """Persistence off, no limit on messages in flight, NODELAY on: its fastest honest form."""
    config = folder / "mosquitto.conf"
    config.write_text(
        f"listener {port} 127.0.0.1\n"
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


def rumqttd_version():
    lock = (machine.BENCHES / "peers/rumqttd/Cargo.lock").read_text()
    return lock.split('name = "rumqttd"\nversion = "', 1)[1].split('"', 1)[0] + ", NODELAY added"


def known(programs):
    """All peers by name; `programs` is where the built ones are, a folder for each."""

    def built(name):
        return lambda port, _folder: [str(programs[name] / name), str(port)]

    peers = [
        Peer("mosquitto", "mqtt", mosquitto, mosquitto_version, "mosquitto", "mosquitto"),
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
