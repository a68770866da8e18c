"""`signalbox run SERVICE…`: services in the foreground of this process, for production hosts."""

from __future__ import annotations

import argparse
import signal
import sys
import threading

import structlog

from services.control import exposition, platform
from services.control.cli import Failure
from shared.ledger.process import WorkerProcess
from shared.runtime import logging, metrics
from shared.runtime.settings import Address, Settings
from shared.runtime.version import VERSION

log = structlog.get_logger()


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    one = commands.add_parser("run", help="run services in the foreground", description=__doc__)
    one.add_argument(
        "services",
        nargs="+",
        choices=platform.RUN_ORDER,
        metavar="SERVICE",
        help="gateway router sla escalation notifier",
    )
    one.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    settings = Settings.from_environment()
    services = [name for name in platform.RUN_ORDER if name in args.services]
    logging.configure("+".join(services), level=logging.LEVELS[settings.log], human=sys.stderr.isatty())
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with platform.servers(settings) as ready:
        serve(ready, services, stop)
    return 0


def serve(settings: Settings, services: list[str], stop: threading.Event) -> None:
    """Run services until `stop` is set, then drain. One metrics port a service; each shows its own metrics (see `exposition`)."""
    sys.setswitchinterval(0.001)  # an urgent lane must not wait five milliseconds for a normal one's bytecode
    metrics.BUILD_INFO.labels(VERSION).set(1)
    for service in services:
        host, port = platform.Ports(settings).of(service)
        try:
            metrics.serve(Address(host, port), exposition.of(service, services))
        except OSError as error:
            raise Failure(f"the metrics port {host}:{port} of {service} cannot be opened: {error}") from error
    workers = [name for name in services if name != "gateway"]
    engine = platform.engine(settings, "+".join(services), pool_size=4 + 4 * len(workers))
    given = platform.deps(settings, engine)
    process = WorkerProcess(given, [platform.parts(name, given) for name in workers]) if workers else None
    if process is not None:
        process.start()
    log.info("started", services=services, version=VERSION)
    try:
        if "gateway" in services:
            from services.gateway.server import serve as serve_http

            serve_http(settings, stop)
        else:
            stop.wait()
    finally:
        log.info("draining", services=services)
        if process is not None:
            process.stop()
        engine.dispose()
        log.info("stopped", services=services)
