"""The study file, as strict data: what is searched, on which environment and teacher, under which budget.

Every field has its meaning under it; a key that is not here is refused with the nearest one that is.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from kdnas.config.numbers import BelowOne, Count, CountOrZero, NonNegative, Positive, Seed, Share, Switch
from kdnas.config.observe import ObserveTable
from kdnas.config.refine import RefineTable
from kdnas.config.strict import Strict


class EnvTable(Strict):
    """`[env]`: the multi-agent environment and its group map."""

    name: str | None = None
    """A built-in or plugin environment, for example `mpe/simple_spread`."""
    factory: str | None = None
    """Or `module:function` that returns a PettingZoo parallel environment (or one that steps in batches)."""
    kwargs: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments of the environment."""
    twin: str | None = None
    """A batched environment with the same episodes (plugin name or `module:function`), used for everything but final
    scores. It is compared with the real one at the start of every search."""
    groups: str | dict[str, tuple[str, ...]] = "per-agent"
    """Who shares a network: `per-agent`, `by-kind` (equal spaces), or a table group -> agents."""
    max_steps: Count = 1000
    """An episode is cut after so many steps."""
    squash: Switch = False
    """Continuous actions are tanh of what the network says, scaled to the bounds, instead of clipped to them."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.name is None) == (self.factory is None):
            raise ValueError("give either name (a built-in or plugin environment) or factory (module:function)")
        return self


class TrainTable(Strict):
    """`[teacher.train]`: MAPPO (Yu et al. 2022, arXiv 2103.01955), stage 1 of the method."""

    seed: Seed = 0
    hidden: Annotated[tuple[Count, ...], Field(max_length=30)] = (256, 256)
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
    entropy: Annotated[tuple[NonNegative, ...], Field(min_length=1)] = (0.01,)
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
    kwargs: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments of the factory or plugin."""
    train: TrainTable | None = None
    """How `kdnas teacher train` makes the checkpoint."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if sum(source is not None for source in (self.checkpoint, self.factory, self.name)) != 1:
            raise ValueError("give one of checkpoint (a folder), factory (module:function) and name (a plugin)")
        if self.checkpoint is not None and self.kwargs:
            raise ValueError("kwargs are for factory and name; a checkpoint takes none")
        return self


class LossTable(Strict):
    """`[distill.loss]`: weights of the terms, in the style of KD-MARL (arXiv 2604.06691); a term of weight 0 is off."""

    kl: NonNegative = 1.0
    """Divergence from the teacher's action distribution."""
    cross_entropy: NonNegative = 0.0
    """-log probability of the teacher's greedy action; discrete actions only."""
    relation: NonNegative = 0.0
    """How much this agent's answers resemble those of the other agents' teachers; needs another agent."""
    role: NonNegative = 0.0
    """Alignment of the student's last hidden layer with the teacher's, through a projector that is not deployed."""
    q: NonNegative = 0.0
    """Squared error of action values; needs a teacher that says them (`q_temperature`)."""
    role_size: Count = 16
    """Principal components of the teacher's last hidden layer that make a role."""
    advantage_beta: NonNegative = 0.0
    """Rows are weighted by exp(advantage / advantage_beta), with advantages of mean 0 and deviation 1; 0 weighs all
    alike."""
    advantage_low: NonNegative = 0.1
    """No row weighs less."""
    advantage_high: Positive = 5.0
    """No row weighs more."""
    gamma: Share = 0.95
    """Discount of the advantages (GAE, Schulman et al. 2016, arXiv 1506.02438)."""
    gae_lambda: Share = 0.95
    """Their lambda: 1 takes the whole rest of the episode, 0 one step and the critic."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.advantage_low > self.advantage_high:
            raise ValueError(
                f"advantage_low = {self.advantage_low} lies above advantage_high = {self.advantage_high}; exchange them"
            )
        return self


class AdaptiveTable(Strict):
    """`[distill.adaptive]`: a training that follows the student's progress."""

    quantile: BelowOne = 0.0
    """About so large a share of each batch, the rows on which the student agrees best with its teacher, teaches
    nothing; 0 switches it off."""
    momentum: BelowOne = 0.99
    """How slowly the threshold between them follows from batch to batch."""
    patience: CountOrZero = 0
    """Training stops after so many checks in a row without progress; 0 never stops early."""
    tolerance: Positive = 0.01
    """Progress is a divergence on held-out rows that is smaller by this share."""
    check_every: Count = 500
    """Steps from check to check."""


class PolishTable(Strict):
    """`[distill.polish]`: after imitation, a short policy-gradient run on the reward, kept only where it is better."""

    rounds: CountOrZero = 0
    """Batches of on-policy episodes, each learned from and thrown away; 0 switches it off."""
    episodes: Count = 256
    """Episodes of each such batch."""
    learning_rate: Positive = 1e-3
    """Of Adam; it falls to 0 over the rounds. Quantized perceptrons, of which scales and biases alone are trained here,
    take `qat_learning_rate`."""
    leash: NonNegative = 0.03
    """Weight of the KL to the teacher beside the policy gradient."""
    validation_episodes: Count = 512
    """Played before and after, with teachers in all other seats, to keep the better one."""


class DistillTable(Strict):
    """`[distill]`: the inner loop. Steps are optimizer steps on batches of `batch` observations."""

    demonstration_episodes: Count = 2000
    """Teacher episodes recorded once, before everything else."""
    ancestor_steps: Count = 8000
    """Distilling a dense base from scratch."""
    recovery_steps: CountOrZero = 12000
    """Float steps after pruning."""
    rungs: Annotated[tuple[Annotated[float, Field(gt=0.0, le=1.0, strict=True)], ...], Field(min_length=1)] = (
        0.11,
        0.33,
        1.0,
    )
    """Shares of recovery and quantization after which a student is judged, and goes on only if it keeps up; the last is
    1. Students of 8 bits are quantized at the last one only. `[1.0]` trains every student to the end."""
    relatives: Switch = False
    """A student that is pruned for the first time may inherit from a pruned one that is wider and further trained,
    where that starts nearer to the teacher than its ancestor does. What it becomes hangs on who was trained before."""
    qat_steps: CountOrZero = 10000
    """Quantization-aware steps after recovery, of students with weights or activations of at most 4 bits. 8 bits, which
    settle sooner, take a quarter of them, 6 bits half."""
    batch: Count = 1024
    learning_rate: Positive = 3e-3
    """Of Adam; it falls to 0 over the last 30 % of every phase."""
    qat_learning_rate: Positive = 1e-2
    flip_rounds: CountOrZero = 100
    """After that, for perceptrons with weights of at most 4 bits: rounds in which single weights are moved by a step
    where that lowers the divergence; 0 switches it off."""
    temperature: Positive = 1.0
    """tau of the KL: tau^2 KL(softmax(z_T/tau) || softmax(z_S/tau))."""
    on_policy_rounds: CountOrZero = 12
    """Batches of on-policy episodes in each training, evenly spaced (DAgger, Ross et al. 2011); 0 switches it off."""
    on_policy_episodes: Count = 256
    """Episodes of each such batch."""
    sequence_steps: Count = 16
    """Length of the stretches that recurrent students learn from; `batch` counts their steps."""
    burn_in_steps: CountOrZero = 4
    """Steps at the beginning of a stretch in which a recurrent student only warms up (Kapturowski et al. 2019, R2D2);
    where an episode begins it needs none."""
    memory_rows: Count = 400_000
    """Observations kept for training; the oldest on-policy ones make room."""
    drop_constant_inputs: Switch = True
    """Students do not read the features that never change in the demonstrations, which could do no more than a bias
    does: fewer weights and multiply-accumulates, and the same answers."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where students are trained; environments, teachers and everything else stay on the CPU. Small students are faster
    there."""
    normalise: Switch = False
    """Shift and scale each observation feature by its mean and deviation in the demonstrations (priced: 2 numbers and
    one multiply-accumulate a feature)."""
    loss: LossTable = LossTable()
    adaptive: AdaptiveTable = AdaptiveTable()
    polish: PolishTable = PolishTable()

    @model_validator(mode="after")
    def _rising_rungs(self) -> Self:
        if list(self.rungs) != sorted(set(self.rungs)) or self.rungs[-1] != 1.0:
            raise ValueError(f"rungs must rise, and the last must be 1.0, but got {list(self.rungs)}")
        return self

    @model_validator(mode="after")
    def _longer_than_burn_in(self) -> Self:
        if self.sequence_steps <= self.burn_in_steps:
            raise ValueError(
                f"sequence_steps > burn_in_steps must hold, but got {self.sequence_steps} and {self.burn_in_steps}"
            )
        return self


class EvaluationTable(Strict):
    """`[evaluation]`: how teams are scored. Episodes of all sets come from the study's seed and are disjoint."""

    search_episodes: Count = 256
    """Played by every team that wins the race, on the same seeds: at most so many."""
    first_episodes: Count = 64
    """Played first; more follow, twice as many each time, only while it is open whether a team that costs no more plays
    better, and the rest where it ends on the front. As many as `search_episodes` plays all of them always."""
    final_episodes: Annotated[int, Field(ge=2, strict=True)] = 500
    """Played by the front at the end, on the real environment; nothing is ever chosen on them. One has no interval."""
    copies: Count = 256
    """Environments stepped together."""
    processes: CountOrZero = 0
    """Processes that step the copies in `kdnas evaluate`, `verify` and `teacher evaluate`; 0 chooses by measuring. In a
    search every worker steps its own."""


class SearchTable(Strict):
    """`[search]`: the outer loop."""

    trials: Count = 60
    """Candidates in total, rejected ones counted."""
    seed: Seed = 0
    """Every random number of the study derives from it."""
    workers: CountOrZero = 0
    """Processes that train and play; 0 takes one for each core."""
    sampler: Literal["auto", "multivariate-tpe", "tpe", "nsga2", "random"] = "auto"
    """Who asks for new candidates, of Optuna's samplers; `auto` is `multivariate-tpe`, and `nsga2` where a candidate
    has more than 40 parameters."""
    reduction: Annotated[int, Field(ge=2, strict=True)] = 3
    """One of so many candidates of about the same price goes on from each rung of `distill.rungs`, rounded up, and
    those beside it that no other dominates, prediction error allowed for."""
    propose: Switch = True
    """Every second candidate is a team of students that are trained already, chosen by what it should add to the
    front."""
    anchors: Switch = True
    """The search begins with uniform teams, the largest feasible and the smallest."""
    free_groups: CountOrZero = 0
    """The sampler chooses for so many groups at a time, in turn, and leaves the others as in a team of the front; 0
    chooses for all. For teams of eight groups and more."""
    front: Count = 16
    """Of the teams that no other dominates, at most so many are refined, scored and delivered: those that together hold
    most of the hypervolume. Raised in the study, the same command goes on to more."""
    patience_s: Positive = 600.0
    """A task that takes longer than this, and than ten times the longest of its kind, hangs and is begun again."""


class TargetTable(Strict):
    """`[target]`: device and runtime whose latency is budgeted."""

    name: str = "onnx"
    """A built-in or plugin target."""
    kwargs: dict[str, Any] = Field(default_factory=dict)


class StudyConfig(Strict):
    """A study file."""

    name: str
    description: str = ""
    space: str
    """A shipped search space by name, or the path of one, relative to this file."""
    modules: str = "."
    """Folder in which the module of a `module:function` is looked up first, relative to this file."""
    budget: tuple[str, ...] = ()
    """Constraints, for example `latency<2ms`; `--budget` replaces them."""
    env: EnvTable
    observe: dict[str, ObserveTable] = Field(default_factory=dict)
    """Group -> what its students see, where that is less than what the environment shows."""
    teacher: TeacherTable
    distill: DistillTable = DistillTable()
    refine: RefineTable = RefineTable()
    evaluation: EvaluationTable = EvaluationTable()
    search: SearchTable = SearchTable()
    target: TargetTable = TargetTable()
