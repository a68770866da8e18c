"""What each metrics port of a process shows, so that a sum over all ports counts nothing twice.

A process has one registry. Where it runs one service, its port shows all of it. Where it runs several, each service's port shows
what carries its name in the label `service` and the metrics that the service's own `metrics` module made; what belongs to the
process as a whole is on every port, and all the rest on the first.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from prometheus_client import REGISTRY, CollectorRegistry, Metric
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

EVERYWHERE = ("python_", "process_", "signalbox_redis_up", "signalbox_database_up", "signalbox_build_info")


def of(service: str, services: Sequence[str]) -> CollectorRegistry:
    """The registry to show at the port of `service` in a process that runs `services`."""
    if len(services) == 1:
        return REGISTRY
    registry = CollectorRegistry()
    registry.register(_View(service, services))
    return registry


class _View(Collector):
    """This process's registry as one service shows it."""

    def __init__(self, service: str, services: Sequence[str]) -> None:
        self._service, self._services = service, services

    def collect(self) -> Iterable[Metric]:
        """Each metric with the samples that belong here."""
        owners = {name: service for service in self._services for name in _made_by(service)}
        for metric in REGISTRY.collect():
            samples = [one for one in metric.samples if self._mine(metric.name, one, owners)]
            if samples:
                shown = Metric(metric.name, metric.documentation, metric.type)
                shown.samples = samples
                yield shown

    def _mine(self, name: str, sample: Sample, owners: dict[str, str]) -> bool:
        if name.startswith(EVERYWHERE):
            return True
        owner = sample.labels.get("service") or owners.get(name)
        if owner not in self._services:
            owner = self._services[0]
        return owner == self._service


def _made_by(service: str) -> list[str]:
    """Names of the metrics that a service's own module made."""
    module = sys.modules.get(f"services.{service}.metrics")
    made = vars(module).values() if module is not None else ()
    return [metric.name for one in made if isinstance(one, MetricWrapperBase) for metric in one.describe()]
