"""The metrics that a budget can limit, each with its unit and where it stands in a Cost."""

from collections.abc import Callable
from dataclasses import dataclass

from kdnas.budgets.cost import Cost
from kdnas.units import Dimension, format_quantity


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A number of a Cost under the name that users write."""

    name: str
    dimension: Dimension
    read: Callable[[Cost], float]
    measured: bool = False
    """It takes a measurement on the target, so a gate asks for it last."""

    def format(self, value: float) -> str:
        return format_quantity(value, self.dimension)


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(name="latency", dimension="time", read=lambda cost: cost.latency_p95_s, measured=True),
        Metric(name="macs", dimension="count", read=lambda cost: cost.macs),
        Metric(name="flops", dimension="count", read=lambda cost: cost.flops),
        Metric(name="bops", dimension="count", read=lambda cost: cost.bops),
        Metric(name="params", dimension="count", read=lambda cost: cost.params),
        Metric(name="memory", dimension="memory", read=lambda cost: cost.memory_bytes),
        Metric(name="flash", dimension="memory", read=lambda cost: cost.flash_bytes, measured=True),
        Metric(name="ram", dimension="memory", read=lambda cost: cost.ram_bytes, measured=True),
    )
}
"""`latency` compares the 95th percentile. `memory` is a formula, the same for every target; `flash` and `ram` are what
the student takes of a device, where the target says it."""
