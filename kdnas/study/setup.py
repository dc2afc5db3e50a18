"""`Setup`: a study file with everything that it names brought to life."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from kdnas import plugins
from kdnas.budgets.budget import Budget, parse_budget
from kdnas.config.numbers import MAX_FEATURES
from kdnas.config.shipped import find_space, find_study
from kdnas.config.study import StudyConfig
from kdnas.config.toml import read_toml, validate
from kdnas.distill.constants import constant_features
from kdnas.distill.pool import Pool, make_pools
from kdnas.envs.make import check_twin, make_env, make_twin
from kdnas.envs.spec import EnvSpec
from kdnas.envs.team_env import TeamEnv
from kdnas.errors import ConfigError, KdnasError, PluginError, StudentError, TeacherError, describe
from kdnas.evaluation.seeds import SeedSets
from kdnas.profiling.target import Target
from kdnas.spaces.space import SearchSpace, SpaceConfig, make_space
from kdnas.spaces.spec import StudentSpec
from kdnas.students.family import Selective, load_family
from kdnas.students.integer_rows import MOST_COLUMNS
from kdnas.teachers.episodes import Episodes
from kdnas.teachers.teacher import Teacher


@dataclass(frozen=True, kw_only=True)
class StudyFile:
    """A study file as read: its tables, the folder that its paths are relative to, and the space it names."""

    config: StudyConfig
    folder: Path
    space: SpaceConfig

    @property
    def modules(self) -> Path:
        """Folder that is searched first for the modules that it names."""
        return self.folder / self.config.modules


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What a search works on."""

    file: StudyFile
    env: TeamEnv
    """Plays everything but final scores: the twin where there is one."""
    teacher: Teacher
    pools: dict[str, Pool]
    """Group -> its pool."""
    constant: Mapping[str, tuple[int, ...]]
    """Group -> features of its view that its students do not read; known when there are demonstrations."""
    space: SearchSpace
    budget: Budget
    seeds: SeedSets

    @property
    def config(self) -> StudyConfig:
        return self.file.config

    @property
    def spec(self) -> EnvSpec:
        return replace(self.env.spec, constant=self.constant)

    def without_constants(self, demonstrations: Episodes) -> Self:
        """The same for students that do not read what never changes in the demonstrations, where the study says so."""
        if not self.config.distill.drop_constant_inputs:
            return self
        pools = {pool.name: pool for pool in self.pools.values()}
        found = {name: constant_features(demonstrations, pool) for name, pool in pools.items()}
        constant = {group: found[pool.name] for group, pool in self.pools.items() if found[pool.name]}
        spec = replace(self.env.spec, constant=constant)
        space = self.space.seeing({group: len(spec.student_spec(group).kept) for group in spec.groups})
        return replace(self, constant=constant, pools=make_pools(spec, self.teacher), space=space)

    def make_real_env(self, processes: int = 1) -> TeamEnv:
        """The real environment, for final scores."""
        return make_env(self.config.env, self.file.modules, observe=self.config.observe, processes=processes)

    def make_target(self) -> Target:
        """The target that the study names.

        Raises:
            KdnasError: there is none of this name, it refuses its arguments, lacks what it needs on this machine, or
                does not measure what the budget limits.
        """
        table = self.config.target
        target = make_target(table.name, table.kwargs)
        if lacking := target.missing():
            raise PluginError(f"target {target.name!r}: {lacking}; 'kdnas target list' says what is usable")
        self.budget.check_metrics(target.metrics, target.name)
        return target


def make_target(name: str, arguments: Mapping[str, Any]) -> Target:
    """A target by its name, `NAME` or `NAME@CLOCK`, the latter being the argument `clock`.

    Raises:
        KdnasError: there is none of this name, or it refuses its arguments.
    """
    name, at, clock = name.partition("@")
    make, given = plugins.load("kdnas.targets", name), {**arguments, **({"clock": clock} if at else {})}
    try:
        target: Target = make(**given)
    except KdnasError:
        raise
    except TypeError as error:
        raise PluginError(f"target {name!r} refuses its arguments {given}: {error}") from error
    except Exception as error:  # a plugin may raise anything
        raise PluginError(f"target {name!r} cannot be made: {describe(error)}") from error
    return target


def read_study(study: str | Path, **changes: Any) -> StudyFile:
    """Read a study by shipped name or path; `changes` replace what it says.

    `budget`, `target`, `trials`, `workers`, `seed` and `sampler` can be changed.

    Raises:
        ConfigError: see `read_toml`.
    """
    path = find_study(str(study))
    config = read_toml(path, StudyConfig)
    names = ("trials", "workers", "seed", "sampler")
    search = {name: changes[name] for name in names if changes.get(name) is not None}
    tables = config.model_dump() | {"search": config.search.model_dump() | search}
    if changes.get("budget") is not None:
        tables["budget"] = tuple(changes["budget"])
    if changes.get("target"):
        name = str(changes["target"])
        same = name.partition("@")[0] == config.target.name.partition("@")[0]
        tables["target"] = {"name": name, "kwargs": config.target.kwargs if same else {}}
    config = validate(tables, StudyConfig, where="command line")
    space = read_toml(find_space(config.space, path.parent), SpaceConfig)
    return StudyFile(config=config, folder=path.parent, space=space)


def open_study(file: StudyFile) -> Setup:
    """Make environment, teacher, pools and space of a study, whose students read all that they see.

    Raises:
        KdnasError: something in the file cannot be found, made, or does not fit the rest.
    """
    config = file.config
    _check_device(config.distill.device)
    budget = parse_budget(config.budget)
    real = make_env(config.env, file.modules, observe=config.observe)
    budget.check_scopes(real.spec.groups)
    space = make_space(file.space, list(real.spec.groups))
    _check_features(real.spec)
    _check_inputs(space)
    space = space.seeing({group: real.spec.student_spec(group).observation_size for group in real.spec.groups})
    _check_bits(space, real.spec)
    _check_free_groups(config.search.free_groups, len(space.groups))
    teacher = open_teacher(file, real.spec)
    twin = make_twin(config.env, file.modules, observe=config.observe)
    if twin is not None:
        check_twin(real, twin, seed=config.search.seed, max_steps=config.env.max_steps)
        real.close()
    return Setup(
        file=file,
        env=twin or real,
        teacher=teacher,
        pools=make_pools(real.spec, teacher),
        constant={},
        space=space,
        budget=budget,
        seeds=SeedSets(config.search.seed),
    )


def _check_features(spec: EnvSpec) -> None:
    """
    Raises:
        ConfigError: more is seen than the card of a student can say.
    """
    for group in spec.groups:
        if (features := spec.student_spec(group).observation_size) > MAX_FEATURES:
            raise ConfigError(
                f"{spec.name}: group {group!r} sees {features:,} features, and students read {MAX_FEATURES:,} at most; "
                f"leave some out in [observe.{group}]"
            )


def _check_inputs(space: SearchSpace) -> None:
    """
    Raises:
        ConfigError: students of some family are to do without inputs, and cannot.
    """
    for group, own in space.groups.items():
        for base in own.table.bases:
            if min(base.inputs) < 1 and not isinstance(load_family(base.family), Selective):
                raise ConfigError(
                    f"space {space.config.name!r}: group {group!r}: students of the family {base.family!r} read all of "
                    "their inputs; leave out inputs in this base, or take another family"
                )


def _check_bits(space: SearchSpace, spec: EnvSpec) -> None:
    """
    Raises:
        ConfigError: students of some family are to have bits of each layer, or scales that are powers of two, and
            cannot.
    """
    for group, own in space.groups.items():
        kinds: dict[tuple[str, bool, bool], StudentSpec] = {}
        for student in own.parameters:
            kinds.setdefault((student.family, student.bits.mixed, student.bits.power_of_two), student)
        for (family, mixed, power_of_two), student in kinds.items():
            if mixed or power_of_two:
                try:
                    load_family(family).layers(student, spec.student_spec(group).inputs)
                except StudentError as error:
                    raise ConfigError(f"space {space.config.name!r}: group {group!r}: {error}") from error


def check_columns(space: SearchSpace, spec: EnvSpec) -> None:
    """Refuse quantized students that add more products than an integer of 32 bits holds, before any is trained.

    Raises:
        ConfigError: some would.
    """
    for group, own in space.groups.items():
        spaces = spec.student_spec(group)
        shapes = {(each.family, each.hidden, each.inputs): each for each in own.parameters if each.bits.quantized}
        for student in shapes.values():
            shown = spaces if student.inputs is None else spaces.reading(spaces.kept[: student.inputs])
            layers = load_family(student.family).layers(student, shown.inputs)
            if (columns := max(layer.columns for layer in layers)) > MOST_COLUMNS:
                raise ConfigError(
                    f"space {space.config.name!r}: group {group!r}: student {student} would add {columns:,} products "
                    f"in 32 bits, {MOST_COLUMNS:,} are the most; leave out its bits, or some of its inputs"
                )


def _check_device(device: str) -> None:
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            f"distill.device = 'cuda': torch {torch.__version__} finds no CUDA device; install a CUDA build of torch, "
            "or set device = 'cpu'"
        )


def _check_free_groups(free: int, groups: int) -> None:
    if free >= groups:
        raise ConfigError(
            f"search.free_groups = {free}: there are {groups} groups; give fewer, or 0 to search all of them at once"
        )


def open_teacher(file: StudyFile, spec: EnvSpec) -> Teacher:
    """The teacher that a study names, for the groups of its environment.

    Raises:
        TeacherError: it is damaged, does not fit, or its factory fails.
    """
    table = file.config.teacher
    if table.checkpoint is not None:
        make, arguments = plugins.load("kdnas.teachers", "checkpoint"), {"folder": file.folder / table.checkpoint}
    elif table.name is not None:
        make, arguments = plugins.load("kdnas.teachers", table.name), table.kwargs
    else:
        make, arguments = plugins.load_reference(table.factory or "", file.modules), table.kwargs
    try:
        teacher = make(spec, **arguments)
    except KdnasError:
        raise
    except Exception as error:  # a user's factory may raise anything
        raise TeacherError(f"the teacher {table.factory or table.name!r} cannot be made: {describe(error)}") from error
    if not isinstance(teacher, Teacher):
        raise TeacherError(
            f"the teacher {table.factory or table.name!r} returned {type(teacher).__name__}, not a kdnas Teacher; "
            "return kdnas.Teacher(spec, actors={group: module})"
        )
    return teacher


