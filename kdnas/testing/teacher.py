"""The contract of a teacher: see `kdnas.teachers.teacher.Teacher`."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from kdnas.envs.spec import EnvSpec
from kdnas.profiling.flops import count_macs
from kdnas.teachers.teacher import Teacher
from kdnas.testing.contract import contract, no_global_draws, weights_of

COPIES = 3
TOLERANCE = 1e-4
"""Largest difference of a logit between a batch and its rows, as a share of the largest logit: rounding only."""


def check_teacher(make: Callable[..., Any], spec: EnvSpec, kwargs: Mapping[str, Any] | None = None) -> None:
    """Make a teacher twice, and ask it about random observations.

    Args:
        make: what is registered under `kdnas.teachers`, or a study's `teacher.factory`.
        spec: the environment for whose groups it is made.
        kwargs: further arguments of `make`, as a study's `teacher.kwargs` gives them.

    Raises:
        AssertionError: no `kdnas.Teacher` comes out, or another one the second time; its answers are random, depend on
            the other rows of a batch or change its weights; it ignores masks; or it cannot be priced.
    """
    with contract(f"teacher {getattr(make, '__qualname__', make)!r}"):
        teacher, again = (make(spec, **(kwargs or {})) for _ in range(2))
        assert isinstance(teacher, Teacher), (
            f"it returns {type(teacher).__name__}; return kdnas.Teacher(spec, actors={{group: module}})"
        )
        assert teacher.spec == spec, "it is a teacher of another environment than it was made for"
        with no_global_draws():
            for group in spec.groups:
                _check_group(teacher, again, group)
            _check_masks(teacher)


def _check_group(teacher: Teacher, again: Teacher, group: str) -> None:
    where, spaces, actor = f"group {group!r}", teacher.spec.group_spec(group), teacher.actors[group]
    assert teacher.digest(group) == again.digest(group), (
        f"{where}: made twice, it has other weights; every worker makes its own, so they must be the same"
    )
    frozen = not any(parameter.requires_grad for parameter in actor.parameters())
    assert frozen, f"{where}: its parameters are not frozen"
    seats = len(teacher.spec.groups[group])
    generator = torch.Generator().manual_seed(0)
    observations = torch.randn(COPIES, seats, spaces.observation_size, generator=generator)
    before = weights_of(actor)
    with torch.inference_mode():
        logits = teacher.logits(group, observations)
        repeated = teacher.logits(group, observations)
        rows = torch.cat([teacher.logits(group, row[None]) for row in observations.flatten(0, 1)])
    shape = (COPIES, seats, spaces.action_count)
    assert logits.shape == shape, f"{where}: observations {tuple(observations.shape)} give {tuple(logits.shape)}"
    assert logits.isfinite().all(), f"{where}: it answers NaN or infinity to an observation"
    assert torch.equal(logits, repeated), f"{where}: asked twice, it answers differently"
    off = (logits.flatten(0, 1) - rows).abs().max() / logits.abs().max().clamp_min(1.0)
    assert off < TOLERANCE, f"{where}: its answer to an observation depends on the others in the batch"
    assert weights_of(actor) == before, f"{where}: answering changes its weights or buffers"
    assert count_macs(actor, spaces.observation_size) > 0, f"{where}: it has no multiply-accumulates to save"


def _check_masks(teacher: Teacher) -> None:
    """Every action is chosen where it alone is legal."""
    spec, generator = teacher.spec, np.random.default_rng(0)
    for group, agents in spec.groups.items():
        spaces = spec.group_spec(group)
        shape = (spaces.action_count, len(agents))
        seen = generator.standard_normal((*shape, spaces.observation_size), dtype=np.float32)
        only = np.broadcast_to(np.eye(spaces.action_count, dtype=np.bool_)[:, None], (*shape, spaces.action_count))
        state = np.zeros((spaces.action_count, spec.state_size), np.float32)
        chosen = teacher.act({group: seen}, {group: only.copy()}, state)[group]
        legal = (chosen == np.arange(spaces.action_count)[:, None]).all()
        assert legal, f"group {group!r}: it chooses an action that the mask forbids"
