"""Prices: what one decision of an agent, or of a whole team, costs on a target."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Price of one decision at batch 1, of one agent or summed over agents.

    A multiply-accumulate (MAC) is 2 FLOPs. BOPs = sum over layers of MACs x weight bits x activation bits.
    Latency is the time of the exported form in one thread; budgets compare its 95th percentile.
    """

    macs: int
    bops: int
    params: int
    memory_bytes: int
    latency_p50_s: float
    latency_p95_s: float
    latency_p99_s: float = 0.0
    """0 in records that were made without it, as is `reference_s`."""
    reference_s: float = 0.0
    """Median time of the target's reference kernel beside it, once for each agent: how fast the machine was then."""
    flash_bytes: int = 0
    """Code and constants on the target, and below its state, buffers and stack; 0 where the target does not say."""
    ram_bytes: int = 0

    @property
    def flops(self) -> int:
        return 2 * self.macs

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            macs=self.macs + other.macs,
            bops=self.bops + other.bops,
            params=self.params + other.params,
            memory_bytes=self.memory_bytes + other.memory_bytes,
            latency_p50_s=self.latency_p50_s + other.latency_p50_s,
            latency_p95_s=self.latency_p95_s + other.latency_p95_s,
            latency_p99_s=self.latency_p99_s + other.latency_p99_s,
            reference_s=self.reference_s + other.reference_s,
            flash_bytes=self.flash_bytes + other.flash_bytes,
            ram_bytes=self.ram_bytes + other.ram_bytes,
        )

    def times(self, count: int) -> "Cost":
        """The sum over `count` equal agents."""
        return Cost(
            macs=self.macs * count,
            bops=self.bops * count,
            params=self.params * count,
            memory_bytes=self.memory_bytes * count,
            latency_p50_s=self.latency_p50_s * count,
            latency_p95_s=self.latency_p95_s * count,
            latency_p99_s=self.latency_p99_s * count,
            reference_s=self.reference_s * count,
            flash_bytes=self.flash_bytes * count,
            ram_bytes=self.ram_bytes * count,
        )

    def as_json(self, *, measured: bool = True) -> dict[str, Any]:
        """As JSON has it; without what a target says where that was not `measured`."""
        counted = {
            "flops": self.flops,
            "macs": self.macs,
            "bops": self.bops,
            "params": self.params,
            "memory_bytes": self.memory_bytes,
        }
        if not measured:
            return counted
        return {
            **counted,
            "latency_s": {
                "p50": self.latency_p50_s,
                "p95": self.latency_p95_s,
                "p99": self.latency_p99_s,
                "reference": self.reference_s,
            },
            "flash_bytes": self.flash_bytes,
            "ram_bytes": self.ram_bytes,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Cost":
        return cls(
            macs=int(data["macs"]),
            bops=int(data["bops"]),
            params=int(data["params"]),
            memory_bytes=int(data["memory_bytes"]),
            latency_p50_s=float(data["latency_s"]["p50"]),
            latency_p95_s=float(data["latency_s"]["p95"]),
            latency_p99_s=float(data["latency_s"].get("p99", 0.0)),
            reference_s=float(data["latency_s"].get("reference", 0.0)),
            flash_bytes=int(data["flash_bytes"]),
            ram_bytes=int(data["ram_bytes"]),
        )


@dataclass(frozen=True, kw_only=True)
class TeamCost:
    """The price of a team: one agent of each group, and how many agents each group has."""

    agents: Mapping[str, Cost]
    """Group -> price of one of its agents."""
    seats: Mapping[str, int]
    """Group -> number of its agents."""

    @property
    def team(self) -> Cost:
        """Sum over all agents. Latency is the sum of agents that decide one after the other."""
        costs = [cost.times(self.seats[group]) for group, cost in self.agents.items()]
        total = costs[0]
        for cost in costs[1:]:
            total = total + cost
        return total

    @property
    def worst_agent(self) -> Cost:
        """The largest of each metric over agents (not necessarily of one agent)."""
        costs = list(self.agents.values())
        return Cost(
            macs=max(cost.macs for cost in costs),
            bops=max(cost.bops for cost in costs),
            params=max(cost.params for cost in costs),
            memory_bytes=max(cost.memory_bytes for cost in costs),
            latency_p50_s=max(cost.latency_p50_s for cost in costs),
            latency_p95_s=max(cost.latency_p95_s for cost in costs),
            latency_p99_s=max(cost.latency_p99_s for cost in costs),
            reference_s=max(cost.reference_s for cost in costs),
            flash_bytes=max(cost.flash_bytes for cost in costs),
            ram_bytes=max(cost.ram_bytes for cost in costs),
        )
