"""The study file, as strict data: what is searched, on which environment and teacher, under which budget.

Every field has its meaning under it; a key that is not here is refused with the nearest one that is.
"""

from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

# Numbers are strict: pydantic would read `true` as 1 and "no" as false.
Share = Annotated[float, Field(ge=0.0, le=1.0, strict=True)]
Count = Annotated[int, Field(ge=1, strict=True)]
CountOrZero = Annotated[int, Field(ge=0, strict=True)]
Positive = Annotated[float, Field(gt=0.0, strict=True)]
NonNegative = Annotated[float, Field(ge=0.0, strict=True)]
Switch = Annotated[bool, Field(strict=True)]


class Strict(BaseModel):
    """A frozen table of a TOML file: unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, allow_inf_nan=False)


class EnvTable(Strict):
    """`[env]`: the multi-agent environment and its group map."""

    name: str | None = None
    """A built-in or plugin environment, for example `mpe/simple_spread`."""
    factory: str | None = None
    """Or `module:function` that returns a PettingZoo parallel environment (or one that steps in batches)."""
    kwargs: dict[str, Any] = {}
    """Keyword arguments of the environment."""
    twin: str | None = None
    """A batched environment with the same episodes (plugin name or `module:function`), used for everything but final
    scores. It is compared with the real one at the start of every search."""
    groups: str | dict[str, tuple[str, ...]] = "per-agent"
    """Who shares a network: `per-agent`, `by-kind` (equal spaces), or a table group -> agents."""
    max_steps: Count = 1000
    """An episode is cut after so many steps."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.name is None) == (self.factory is None):
            raise ValueError("give either name (a built-in or plugin environment) or factory (module:function)")
        return self


class TrainTable(Strict):
    """`[teacher.train]`: MAPPO (Yu et al. 2022, arXiv 2103.01955), stage 1 of the method."""

    seed: CountOrZero = 0
    hidden: tuple[Count, ...] = (256, 256)
    """Widths of every actor and of the critic; 256x256 is BenchMARL's default."""
    share_actors: Switch = True
    """Groups with equal spaces share one actor."""
    cycles: Count = 1
    """The learning rate is restarted so many times, with entropy falling from cycle to cycle."""
    steps_per_cycle: Count = 1_000_000
    """Environment steps of one cycle, all copies counted."""
    copies: Count = 256
    """Environments stepped together; one iteration is one episode of each."""
    epochs: Count = 8
    minibatches: Count = 4
    gamma: Share = 0.95
    gae_lambda: Share = 0.95
    clip: Positive = 0.2
    learning_rate: Positive = 1e-3
    learning_rate_end: Positive = 1e-5
    entropy: tuple[NonNegative, ...] = (0.01,)
    """Entropy bonus at the start of each cycle (the last value is kept); it falls linearly to 0."""
    max_grad_norm: Positive = 10.0


class TeacherTable(Strict):
    """`[teacher]`: the frozen joint policy that is distilled."""

    checkpoint: str | None = None
    """Folder that `kdnas teacher train` wrote, relative to this file."""
    factory: str | None = None
    """Or `module:function`, called with the EnvSpec and kwargs, that returns a Teacher."""
    name: str | None = None
    """Or a teacher plugin, called in the same way."""
    kwargs: dict[str, Any] = {}
    """Keyword arguments of the factory or plugin."""
    train: TrainTable | None = None
    """How `kdnas teacher train` makes the checkpoint."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if sum(source is not None for source in (self.checkpoint, self.factory, self.name)) != 1:
            raise ValueError("give one of checkpoint (a folder), factory (module:function) and name (a plugin)")
        return self


class DistillTable(Strict):
    """`[distill]`: the inner loop. Steps are optimizer steps on batches of `batch` observations."""

    demonstration_episodes: Count = 2000
    """Teacher episodes recorded once, before everything else."""
    ancestor_steps: Count = 8000
    """Distilling a dense base from scratch."""
    recovery_steps: CountOrZero = 12000
    """Float steps after pruning."""
    qat_steps: CountOrZero = 10000
    """Quantization-aware steps after recovery."""
    batch: Count = 1024
    learning_rate: Positive = 3e-3
    """Of Adam, at the start of every phase; it falls to 0 by a cosine."""
    qat_learning_rate: Positive = 1e-2
    temperature: Positive = 1.0
    """tau of the KL: tau^2 KL(softmax(z_T/tau) || softmax(z_S/tau))."""
    on_policy_rounds: CountOrZero = 12
    """Batches of on-policy episodes in each training, evenly spaced (DAgger, Ross et al. 2011); 0 switches it off."""
    on_policy_episodes: Count = 256
    """Episodes of each such batch."""
    memory_rows: Count = 400_000
    """Observations kept for training; the oldest on-policy ones make room."""
    normalise: Switch = False
    """Shift and scale each observation feature by its mean and deviation in the demonstrations (priced: 2 numbers and
    one multiply-accumulate a feature)."""


class EvaluationTable(Strict):
    """`[evaluation]`: how teams are scored. Episodes of all sets come from the study's seed and are disjoint."""

    search_episodes: Count = 256
    """Played by every team that is trained, on the same seeds."""
    final_episodes: Count = 500
    """Played by the front at the end, on the real environment; nothing is ever chosen on them."""
    copies: Count = 256
    """Environments stepped together."""
    processes: CountOrZero = 0
    """Processes that step the copies when no worker trains; 0 chooses by measuring."""


class SearchTable(Strict):
    """`[search]`: the outer loop."""

    trials: Count = 60
    """Candidates in total, rejected ones counted."""
    seed: CountOrZero = 0
    """Every random number of the study derives from it."""
    workers: CountOrZero = 0
    """Processes that train and play; 0 takes one for each core."""


class TargetTable(Strict):
    """`[target]`: device and runtime whose latency is budgeted."""

    name: str = "onnx"
    """A built-in or plugin target."""
    kwargs: dict[str, Any] = {}


class StudyConfig(Strict):
    """A study file."""

    name: str
    description: str = ""
    space: str
    """A shipped search space by name, or the path of one, relative to this file."""
    budget: tuple[str, ...] = ()
    """Constraints, for example `latency<2ms`; `--budget` replaces them."""
    env: EnvTable
    teacher: TeacherTable
    distill: DistillTable = DistillTable()
    evaluation: EvaluationTable = EvaluationTable()
    search: SearchTable = SearchTable()
    target: TargetTable = TargetTable()
