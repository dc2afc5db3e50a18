"""`MixedTable`: bits that are chosen for each layer on its own."""

from collections.abc import Iterator, Mapping
from itertools import product
from math import prod

from kdnas.config.strict import Strict
from kdnas.spaces.choices import IntegerWidths
from kdnas.spaces.spec import Bits

MIXED = "mixed"
"""The choice among the formats of a group that means these."""


class MixedTable(Strict):
    """`mixed = {...}` of a group: every combination is a format. Parameters, of a base B, are `B.weights.LAYER` and
    `B.activations.LAYER`, and `input_bits`; one that has a single choice is none."""

    weights: IntegerWidths
    """Bits to choose from, for the weights of each linear layer."""
    activations: IntegerWidths = (8,)
    """Bits to choose from, for what each hidden layer writes."""
    inputs: IntegerWidths = (8,)
    """Bits to choose from, for the inputs."""
    power_of_two: bool = False
    """Scales are powers of two."""

    def count(self, depth: int) -> int:
        """Formats of a network of so many hidden layers."""
        return prod(map(len, self._all(0, depth).values()))

    def asked(self, base: int, depth: int) -> dict[str, tuple[int, ...]]:
        """Name of each parameter of a base, without its group, and its choices."""
        return {name: choices for name, choices in self._all(base, depth).items() if len(choices) > 1}

    def format(self, base: int, depth: int, answers: Mapping[str, int]) -> Bits:
        """The format of a base that its parameters lead to."""
        each = [answers.get(name, choices[0]) for name, choices in self._all(base, depth).items()]
        weights, activations = tuple(each[: depth + 1]), tuple(each[depth + 1 : -1])
        return Bits(weight=weights, activation=activations, input=each[-1], power_of_two=self.power_of_two)

    def formats(self, base: int, depth: int) -> Iterator[tuple[dict[str, int], Bits]]:
        """The parameters of every format of a base, and the format."""
        asked = self.asked(base, depth)
        for values in product(*asked.values()):
            answers = dict(zip(asked, values, strict=True))
            yield answers, self.format(base, depth, answers)

    def _all(self, base: int, depth: int) -> dict[str, tuple[int, ...]]:
        weights = {f"{base}.weights.{layer}": self.weights for layer in range(depth + 1)}
        activations = {f"{base}.activations.{layer}": self.activations for layer in range(depth)}
        return weights | activations | {"input_bits": self.inputs}
