"""What is measured: the generator's runs, and the rows of the table that each of them fills."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One line of the table: its group (for --only), its words, and where its figure is in the report."""

    group: str
    title: str
    path: tuple
    digits: int = 0

    def value(self, report):
        """The figure, None where this peer has none."""
        for key in self.path:
            report = report.get(key) if isinstance(report, dict) else None
        return report


@dataclass(frozen=True)
class Measure:
    """One run of the generator against a fresh server."""

    name: str
    arguments: tuple
    rows: tuple
    in_flight: int = 0  # most pushes that wait for their answer


def plan(sizes):
    """All measures, in the order they run."""
    pushes = tuple(_push(sizes, in_flight) for in_flight in (64, 512))
    paced = Measure(
        "pace",
        ("pace", "--devices", sizes.devices, "--rate", sizes.rate, "--seconds", sizes.seconds),
        tuple(
            Row("push", f"answer at {sizes.rate:,}/s, open loop: {label}, µs", ("latency", key))
            for label, key in (("p50", "p50_us"), ("p99", "p99_us"), ("p99.9", "p999_us"))
        )
        + (
            Row("push", f"server CPU a push at {sizes.rate:,}/s, µs", ("server_cpu_us",), 1),
            Row("push", f"unanswered at {sizes.rate:,}/s", ("unanswered",)),
        ),
        in_flight=64,
    )
    events = Measure(
        "events",
        ("events", "--devices", sizes.devices, "--in-flight", 8, "--seconds", sizes.seconds),
        (
            Row("events", "event of 32 B, 8 in flight a device: server CPU, µs", ("server_cpu_us",), 1),
            Row("events", "Redis' CPU an event, µs", ("store_cpu_us",), 1),
            Row("events", "events delivered/s", ("per_second",)),
        ),
    )
    idle = Measure(
        "idle",
        ("idle", "--devices", sizes.fleet),
        (
            Row("attach", "attaches/s, 64 at a time", ("attaches_per_second",)),
            Row("attach", "server CPU an attach, µs", ("server_cpu_us",), 1),
            Row("idle", f"user memory per idle device of {sizes.fleet:,}: Pss, bytes", ("pss_bytes",)),
            Row("idle", f"user memory per idle device of {sizes.fleet:,}: Rss, bytes", ("rss_bytes",)),
        ),
    )
    return [*pushes, paced, events, idle]


def _push(sizes, in_flight):
    rows = [
        Row("push", f"server CPU a push, {in_flight} in flight, µs", ("server_cpu_us",), 1),
        Row("push", f"Redis' CPU a push, {in_flight} in flight, µs", ("store_cpu_us",), 1),
        Row("push", f"acked pushes/s, {in_flight} in flight", ("per_second",)),
    ]
    if in_flight == 64:
        rows += [
            Row("push", "wire bytes a push, all four legs", ("wire_bytes",)),
            Row("push", "wire bytes a push, device's link", ("device_wire_bytes",)),
        ]
    arguments = ("push", "--devices", sizes.devices, "--in-flight", in_flight, "--seconds", sizes.seconds)
    return Measure(f"push-{in_flight}", arguments, tuple(rows), in_flight)


@dataclass(frozen=True)
class Sizes:
    """How much of everything."""

    devices: int
    fleet: int
    rate: int
    seconds: float
