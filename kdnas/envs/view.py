"""`View`: what a group's students see of what the environment shows."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdnas.envs.entities import Entities, EntitySet
from kdnas.errors import ConfigError
from kdnas.policies.arrays import Floats


@dataclass(frozen=True, kw_only=True)
class SeenSet:
    """Entities of one kind in a view: all of them or the nearest, as far as sight reaches.

    Example: the nearest landmark of simple_spread, seen up to 0.5, is `SeenSet(name="landmarks",
    members=((4, 5), (6, 7), (8, 9)), positions=((4, 5), (6, 7), (8, 9)), nearest=1, radius=0.5)`; it shows three
    numbers: x, y and whether it is seen.
    """

    name: str
    members: tuple[tuple[int, ...], ...]
    """M members -> the F features of each that are shown, as indices in the observation."""
    positions: tuple[tuple[int, ...], ...] = ()
    """Member -> the features whose length is its distance, shown or not; empty where distance does not matter."""
    nearest: int | None = None
    """k: only the k nearest are shown, nearest first; None shows all M in their order."""
    radius: float | None = None
    """Members farther away are zeros, and each is followed by a flag: 1 seen, 0 not."""

    def __post_init__(self) -> None:
        where = f"entities {self.name!r}"
        if self.nearest is not None and not 1 <= self.nearest <= len(self.members):
            raise ConfigError(f"{where}: the {self.nearest} nearest are to be seen, but there are {len(self.members)}")
        if self.radius is not None and not 0.0 < self.radius < np.inf:
            raise ConfigError(f"{where}: a radius is a finite number above 0, but got {self.radius}")
        if (self.nearest or self.radius) and not self.positions:
            raise ConfigError(
                f"{where}: nearest and radius need to know where each member is; say with position which of a member's "
                "features are its position relative to the agent, for example position = [0, 1]"
            )
        lengths = {len(position) for position in self.positions}
        if self.positions and (len(self.positions) != len(self.members) or len(lengths) != 1 or lengths == {0}):
            raise ConfigError(f"{where}: each of {len(self.members)} members needs a position, of equal length")

    @property
    def count(self) -> int:
        """Members that are shown."""
        return self.nearest or len(self.members)

    @property
    def width(self) -> int:
        """Numbers that are shown of each, its flag included."""
        return len(self.members[0]) + (self.radius is not None)

    def show(self, observations: Floats, noise: Floats | None) -> Floats:
        """Observations (..., O), noise (..., count * width) that is added or None -> (..., count * width)."""
        shown: Floats = observations[..., self._members]
        # (..., M); zeros, which nobody reads, where distance does not matter.
        distances = np.sqrt(np.square(observations[..., self._positions], dtype=np.float64).sum(-1))
        if self.nearest is not None:
            # Stable: of equally near members the first declared, on every machine.
            order = distances.argsort(-1, kind="stable")[..., : self.nearest]
            shown = np.take_along_axis(shown, order[..., None], -2)
            distances = np.take_along_axis(distances, order, -1)
        if noise is not None:
            shown = shown + noise.reshape(*shown.shape[:-1], self.width)[..., : shown.shape[-1]]
        if self.radius is not None:
            seen = (distances <= self.radius)[..., None]
            shown = np.concatenate([np.where(seen, shown, 0), seen], -1, dtype=np.float32)
        return shown.reshape(*shown.shape[:-2], -1)

    @cached_property
    def _members(self) -> NDArray[np.intp]:
        """(M, F)."""
        return np.array(self.members, np.intp)

    @cached_property
    def _positions(self) -> NDArray[np.intp]:
        """(M, coordinates), or (M, 0)."""
        return np.array(self.positions, np.intp).reshape(len(self.members), -1)


@dataclass(frozen=True, kw_only=True)
class View:
    """A map from O features to the V that students see: the agent's own, then set by set and member by member.

    Example: `View(observation_size=18, own=(0, 1, 2, 3))` shows the first four; with the set in `SeenSet`'s example it
    shows seven.
    """

    observation_size: int
    """O."""
    own: tuple[int, ...]
    """Features of the agent itself; without sets, all that are seen."""
    sets: tuple[SeenSet, ...] = ()
    noise: float = 0.0
    """Standard deviation of the noise on every feature that is seen, flags excepted."""

    def __post_init__(self) -> None:
        members = tuple(EntitySet(name=each.name, members=each.members) for each in self.sets)
        Entities(own=self.own, sets=members).check_fits(self.observation_size)
        positions = [feature for each in self.sets for position in each.positions for feature in position]
        if positions and not 0 <= min(positions) <= max(positions) < self.observation_size:
            raise ConfigError(f"a position is outside the {self.observation_size} features of the observation")
        if not self.size:
            raise ConfigError("nothing is left to be seen; keep at least one feature")
        if not 0.0 <= self.noise < np.inf:
            raise ConfigError(f"noise is a finite deviation of at least 0, but got {self.noise}")

    @cached_property
    def size(self) -> int:
        """V."""
        return len(self.own) + sum(each.count * each.width for each in self.sets)

    @cached_property
    def entities(self) -> Entities | None:
        """Whose the V features are, as families without an order of entities read it; None without sets."""
        if not self.sets:
            return None
        sets, start = [], len(self.own)
        for each in self.sets:
            firsts = range(start, start + each.count * each.width, each.width)
            members = tuple(tuple(range(first, first + each.width)) for first in firsts)
            sets.append(EntitySet(name=each.name, members=members))
            start += each.count * each.width
        return Entities(own=tuple(range(len(self.own))), sets=tuple(sets))

    def __call__(self, observations: Floats, noise: Floats | None = None) -> Floats:
        """What is seen of observations (B, A, O): (B, A, V).

        Args:
            observations: what the environment shows.
            noise: standard normal numbers (B, A, V), scaled here by `self.noise`; None sees without noise.
        """
        scaled = None if noise is None else np.float32(self.noise) * noise
        own: Floats = observations[..., self._own]
        parts, start = [own if scaled is None else own + scaled[..., : len(self.own)]], len(self.own)
        for each in self.sets:
            end = start + each.count * each.width
            parts.append(each.show(observations, None if scaled is None else scaled[..., start:end]))
            start = end
        return np.concatenate(parts, -1, dtype=np.float32)

    @cached_property
    def _own(self) -> NDArray[np.intp]:
        return np.array(self.own, np.intp)

    def as_json(self) -> dict[str, Any]:
        """The view as JSON has it, with lists for tuples."""
        table: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return table

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "View":
        """Read back what `as_json` wrote.

        Raises:
            ConfigError: keys or values that are no view.
        """
        try:
            view = cls(
                observation_size=_whole(data["observation_size"]),
                own=_features(data["own"]),
                sets=tuple(_seen_set(each) for each in data["sets"]),
                noise=_real(data["noise"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ConfigError(f"view {data!r} is not a view: {error!r}") from error
        if view.as_json() != data:
            raise ConfigError(f"view {data!r} is not a view: it has other keys than {', '.join(view.as_json())}")
        return view


def _seen_set(data: Mapping[str, Any]) -> SeenSet:
    return SeenSet(
        name=str(data["name"]),
        members=tuple(_features(member) for member in data["members"]),
        positions=tuple(_features(position) for position in data["positions"]),
        nearest=None if data["nearest"] is None else _whole(data["nearest"]),
        radius=None if data["radius"] is None else _real(data["radius"]),
    )


def _features(values: Any) -> tuple[int, ...]:
    return tuple(_whole(value) for value in values)


def _whole(value: Any) -> int:
    if type(value) is not int:
        raise TypeError(f"{value!r} is not a whole number")
    return value


def _real(value: Any) -> float:
    if type(value) not in (int, float):
        raise TypeError(f"{value!r} is not a number")
    return float(value)
