"""`[refine]`: what is done to the teams of the front when a search ends."""

from kdnas.config.numbers import Count, CountOrZero, NonNegative, Positive
from kdnas.config.strict import Strict


class JointTable(Strict):
    """`[refine.joint]`: joint recovery, imitation on the states that the whole team meets."""

    steps: CountOrZero = 3000
    """Optimizer steps of each student, on batches of `distill.batch`; 0 switches it off."""
    rounds: Count = 6
    """Batches of episodes that the students play together, evenly spaced; all are learned from until the end."""
    episodes: Count = 1024
    """Episodes of each such batch."""
    learning_rate: Positive = 3e-3
    """Of Adam; it falls to 0 over the last 30 %."""
    flip_rounds: CountOrZero = 20
    """After that, for perceptrons with weights of at most 4 bits, as `distill.flip_rounds` says."""


class TeamPolishTable(Strict):
    """`[refine.polish]`: afterwards, a short policy-gradient run of all students together on the team's reward."""

    rounds: CountOrZero = 0
    """Batches of on-policy episodes, each learned from and thrown away; 0 switches it off. 20 are worth a little where
    environments step quickly."""
    episodes: Count = 1024
    """Episodes of each such batch."""
    learning_rate: Positive = 1e-3
    """Of Adam; it falls to 0 over the rounds. Quantized perceptrons, of which scales and biases alone are trained here,
    take `distill.qat_learning_rate`."""
    leash: NonNegative = 0.3
    """Weight of the KL to the teacher beside the policy gradient."""


class RefineTable(Strict):
    """`[refine]`: each team of the front is trained on with all students in their seats, and every stage of it is kept
    only where the team returns more on the validation seeds than before."""

    joint: JointTable = JointTable()
    polish: TeamPolishTable = TeamPolishTable()
    validation_episodes: Count = 2048
    """Played before and after each stage."""
