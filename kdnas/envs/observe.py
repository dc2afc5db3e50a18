"""From the `[observe.GROUP]` tables of a study to the views of its groups."""

from collections.abc import Mapping

from kdnas.config.observe import ObserveTable
from kdnas.envs.entities import Entities, EntitySet
from kdnas.envs.spec import AgentSpec
from kdnas.envs.view import SeenSet, View
from kdnas.errors import ConfigError, name_nearest

DEFAULT = "default"
"""The table of the groups that have none of their own."""


def make_views(
    tables: Mapping[str, ObserveTable], agents: Mapping[str, AgentSpec], groups: Mapping[str, tuple[str, ...]]
) -> dict[str, View]:
    """The views of the groups that the study limits; a group without a table sees all, and has none.

    Raises:
        ConfigError: a table of a group that is not there, or one that does not fit what its agents observe.
    """
    for name in tables:
        if name != DEFAULT and name not in groups:
            raise ConfigError(f"observe.{name}: no group {name!r}: {name_nearest(name, [*groups, DEFAULT])}")
    views = {}
    for group, members in groups.items():
        name = group if group in tables else DEFAULT
        if name not in tables:
            continue
        try:
            views[group] = make_view(tables[name], agents[members[0]])
        except ConfigError as error:
            raise ConfigError(f"observe.{name}: group {group!r}: {error}") from error
    return views


def make_view(table: ObserveTable, spaces: AgentSpec) -> View:
    """The view of agents with these spaces.

    Raises:
        ConfigError: features or sets that are not there, members that do not match, distances without positions.
    """
    declared = _declared(table, spaces)
    kept = _kept(table, spaces.observation_size, declared)
    if declared is None:
        if table.nearest or table.radius:
            raise ConfigError("nearest and radius need entities: declare them in [observe.GROUP.entities]")
        return View(observation_size=spaces.observation_size, own=tuple(sorted(kept)), noise=table.noise)
    radii = table.radius if isinstance(table.radius, dict) else {}
    left = {each.name: members for each in declared.sets if (members := _left(each, kept))}
    for key, names in (("nearest", table.nearest), ("radius", radii)):
        for name in names:
            known = [each.name for each in declared.sets]
            if name not in known:
                raise ConfigError(f"{key}: no set of entities {name!r}: {name_nearest(name, known)}")
            if name not in left:
                raise ConfigError(f"{key}: keep and drop leave nothing of the entities {name!r}; leave it out here")
    sets = tuple(
        SeenSet(
            name=name,
            members=tuple(tuple(feature for feature in member if feature in kept) for member in members),
            positions=_positions(table, EntitySet(name=name, members=members)),
            nearest=table.nearest.get(name),
            radius=radii.get(name) if isinstance(table.radius, dict) else table.radius,
        )
        for name, members in left.items()
    )
    own = tuple(feature for feature in declared.own if feature in kept)
    return View(observation_size=spaces.observation_size, own=own, sets=sets, noise=table.noise)


def _declared(table: ObserveTable, spaces: AgentSpec) -> Entities | None:
    if table.entities is None:
        return spaces.entities
    sets = tuple(EntitySet(name=name, members=each.members) for name, each in table.entities.sets.items())
    declared = Entities(own=table.entities.own or (), sets=sets)
    declared.check_fits(spaces.observation_size)
    return declared


def _kept(table: ObserveTable, size: int, declared: Entities | None) -> frozenset[int]:
    """The features that are seen, by `keep` and `drop` alone."""
    for key, features in (("keep", table.keep), ("drop", table.drop)):
        beyond = next((feature for feature in features or () if feature >= size), None)
        if beyond is not None:
            raise ConfigError(f"{key} names feature {beyond}, but the observation has {size} features, 0 to {size - 1}")
    if table.keep is None:
        return frozenset(range(size)) - frozenset(table.drop or ())
    if declared is not None:
        nobodys = sorted(set(table.keep) - set(declared.features))
        if nobodys:
            raise ConfigError(f"keep names feature {nobodys[0]}, which belongs to no entity; name it in entities.own")
    return frozenset(table.keep)


def _left(entities: EntitySet, kept: frozenset[int]) -> tuple[tuple[int, ...], ...]:
    """The members of which a feature is seen, whole; of all of them the same features must be."""
    members = tuple(member for member in entities.members if kept.intersection(member))
    if len({tuple(feature in kept for feature in member) for member in members}) > 1:
        raise ConfigError(
            f"entities {entities.name!r}: keep and drop must leave the same features of each member, or none of it"
        )
    return members


def _positions(table: ObserveTable, entities: EntitySet) -> tuple[tuple[int, ...], ...]:
    """Where each member is, as features of the observation; empty where the study does not say."""
    offsets = table.entities.sets[entities.name].position if table.entities else None
    if offsets is None:
        return ()
    beyond = next((offset for offset in offsets if offset >= entities.width), None)
    if beyond is not None:
        raise ConfigError(
            f"entities.{entities.name}.position names feature {beyond} of a member, but a member has "
            f"{entities.width} features, 0 to {entities.width - 1}"
        )
    return tuple(tuple(member[offset] for offset in offsets) for member in entities.members)
