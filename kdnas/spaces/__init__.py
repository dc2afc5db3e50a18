"""What is searched: the declared choices of each agent group, and one point of them."""

from kdnas.spaces.mixed import MixedTable
from kdnas.spaces.space import (
    MAX_SPECS,
    BaseTable,
    Candidate,
    GroupSpace,
    GroupTable,
    SearchSpace,
    SpaceConfig,
    Suggests,
    kept_inputs,
    make_space,
    parse_bits,
    pruned_width,
)
from kdnas.spaces.spec import FLOAT_BITS, Bits, StudentSpec

__all__ = [
    "FLOAT_BITS",
    "MAX_SPECS",
    "BaseTable",
    "Bits",
    "Candidate",
    "GroupSpace",
    "GroupTable",
    "MixedTable",
    "SearchSpace",
    "SpaceConfig",
    "StudentSpec",
    "Suggests",
    "kept_inputs",
    "make_space",
    "parse_bits",
    "pruned_width",
]
