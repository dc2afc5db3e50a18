"""The installed targets, and whether they can be used on this machine."""

from dataclasses import dataclass

from kdnas import plugins
from kdnas.errors import KdnasError
from kdnas.study.setup import make_target


@dataclass(frozen=True, kw_only=True)
class TargetStatus:
    """One target."""

    name: str
    """As it is registered; with a clock it may be called otherwise."""
    metrics: tuple[str, ...]
    """What it measures, as budgets call it."""
    lacking: str
    """What keeps it from being used, in a sentence; nothing for a usable one."""
    note: str


def list_targets() -> list[TargetStatus]:
    """Every target, the built-in ones and those of plugins, in the order of their names."""
    found = []
    for name in sorted(plugins.installed("kdnas.targets")):
        try:
            target = make_target(name, {})
            metrics = tuple(sorted(target.metrics, key=("latency", "flash", "ram").index))
            found.append(TargetStatus(name=name, metrics=metrics, lacking=target.missing(), note=target.note))
        except KdnasError as error:
            found.append(TargetStatus(name=name, metrics=(), lacking=str(error), note=""))
    return found
