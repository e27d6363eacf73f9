"""The machine: what it is, what it lets the benchmark do, and what has to be built or installed first."""

import json
import os
import platform
import shutil
import socket
import subprocess
from pathlib import Path

BENCHES = Path(__file__).resolve().parent.parent


def text(*command):
    """The trimmed output of a command, empty when it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, cwd=BENCHES, check=True)
        return done.stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def facts():
    """Cores, memory, kernel, compiler and revision: what a figure is worth nothing without."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    model = [
        line.split(":", 1)[1].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return {
        "cores": len(os.sched_getaffinity(0)),
        "cpu": model[0] if model else platform.machine(),
        "memory_gib": round(memory, 1),
        "kernel": platform.release(),
        "system": platform.freedesktop_os_release().get("PRETTY_NAME", "Linux"),
        "rustc": text("rustc", "--version"),
        "revision": text("git", "describe", "--always", "--dirty", "--exclude=*"),
        "load_at_start": round(os.getloadavg()[0], 2),
    }


def realtime():
    """The command prefix that keeps other work off both sides, where it is allowed."""
    return ["chrt", "-r", "1"] if shutil.which("chrt") and subprocess.run(
        ["chrt", "-r", "1", "true"], stderr=subprocess.DEVNULL
    ).returncode == 0 else []


def install(packages):
    """Installs Debian packages that are missing; what could not be installed.

    A policy-rc.d of the run's own keeps the packages from starting their services; one that is there stays.
    """
    if not packages:
        return []
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        return packages
    policy = Path("/usr/sbin/policy-rc.d")
    own_policy = not policy.exists()
    if own_policy:
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    try:
        apt = ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=300"]
        quiet = {"env": {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}, "stdout": subprocess.DEVNULL}
        subprocess.run([*apt, "update"], **quiet)
        done = subprocess.run([*apt, "install", "-y", "--no-install-recommends", *packages], **quiet)
        return [] if done.returncode == 0 else packages
    finally:
        if own_policy:
            policy.unlink()


def build(manifest, *arguments):
    """Builds a package in release; the folder of its programs."""
    subprocess.run(["cargo", "build", "--release", "--locked", "--manifest-path", manifest, *arguments], check=True)
    return built(manifest)


def built(manifest, *_):
    """The folder of a package's programs, built or not."""
    meta = text("cargo", "metadata", "--no-deps", "--format-version=1", "--manifest-path", str(manifest))
    return Path(json.loads(meta)["target_directory"]) / "release"


def free_port():
    """A loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
