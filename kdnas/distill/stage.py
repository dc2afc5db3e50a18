"""`Stage`: a student on its way, after so much of its training."""

from dataclasses import dataclass

from kdnas.config.study import DistillTable
from kdnas.spaces.spec import Bits, StudentSpec


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A student after a rung of its training: what the bank keeps, and what the next rung goes on from.

    Rungs are shares of the recovery (`DistillTable.rungs`): a student that a race leaves behind has cost the first
    ones only. Each ends with a learning rate that falls to 0, so that a student is as good there as its steps allow;
    the next one goes on from where it had not fallen yet (`Snapshot`).
    """

    spec: StudentSpec
    rung: int = 0
    """Ancestors, the unpruned float networks, have one only."""

    def __post_init__(self) -> None:
        if self.spec == self.spec.dense:
            object.__setattr__(self, "rung", 0)

    @property
    def is_ancestor(self) -> bool:
        return self.spec == self.spec.dense

    def __str__(self) -> str:
        return str(self.spec) if self.is_ancestor else f"{self.spec}, rung {self.rung}"


def lineage(stage: Stage) -> list[Stage]:
    """What is trained on the way to a stage, oldest first, itself last.

    Example: a pruned w4a8i8 student at rung 1 comes of its dense ancestor, the pruned float student at rung 0, the same
    at rung 1, and that one quantized.
    """
    spec = stage.spec
    floats = [Stage(spec=spec.floating, rung=rung) for rung in range(stage.rung + 1)]
    return list(dict.fromkeys([Stage(spec=spec.dense), *floats, stage]))


def last_stage(spec: StudentSpec, recipe: DistillTable) -> Stage:
    """A student whose training is complete."""
    return Stage(spec=spec, rung=len(recipe.rungs) - 1)


@dataclass(frozen=True, kw_only=True)
class Effort:
    """What a stage costs from the beginning of its phase: one that goes on has spent a part of it before."""

    steps: int
    """Optimizer steps."""
    on_policy_rounds: int
    flip_rounds: int = 0

    @classmethod
    def of(cls, stage: Stage, recipe: DistillTable) -> "Effort":
        """Steps and rounds of a stage.

        Example: rungs .11, .33 and 1 of 12,000 recovery steps end after 1,320, 3,960 and 12,000. Quantization begins
        anew on each rung, with that share of its own steps (`quantization_steps`).
        """
        if stage.is_ancestor:
            return cls(steps=recipe.ancestor_steps, on_policy_rounds=recipe.on_policy_rounds)
        share, bits = recipe.rungs[stage.rung], stage.spec.bits
        quantized = bits.quantized
        return cls(
            steps=round(share * (quantization_steps(bits, recipe) if quantized else recipe.recovery_steps)),
            on_policy_rounds=max(1, round(share * recipe.on_policy_rounds)) if recipe.on_policy_rounds else 0,
            flip_rounds=round(share * recipe.flip_rounds) if quantized else 0,
        )


def quantization_steps(bits: Bits, recipe: DistillTable) -> int:
    """All steps of a student with such integers: half as many for every two bits that the narrowest have above four.

    Integers of 8 bits are where they end up after a tenth of the steps that those of 4 bits gain from to the last: of a
    12x12 student of simple_spread (softsign, three seeds), retention is .94 after 1,000, 2,500 and 10,000 steps with 8
    bits, and .89, .92 and .93 with 4.

    Example: of 10,000 for w4a8, 2,500 are left for w8a8, and 5,000 for w8a6.
    """
    share: float = min(1.0, 2.0 ** ((4 - bits.narrowest) / 2))
    return round(recipe.qat_steps * share)
