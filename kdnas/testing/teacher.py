"""The contract of a teacher: see `kdnas.teachers.teacher.Teacher`."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from kdnas.envs.spec import EnvSpec
from kdnas.policies.actions import Box
from kdnas.policies.scene import Scene
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
    before = weights_of(actor)
    said = teacher.parameters(_scene(teacher.spec, slice(None)))[group]
    repeated = teacher.parameters(_scene(teacher.spec, slice(None)))[group]
    apart = torch.cat([teacher.parameters(_scene(teacher.spec, slice(i, i + 1)))[group] for i in range(COPIES)])
    shape = (COPIES, len(teacher.spec.groups[group]), spaces.actions.parameters)
    assert said.shape == shape, f"{where}: {shape[:2]} observations give {tuple(said.shape)}"
    assert torch.equal(said, repeated), f"{where}: asked twice, it answers differently"
    off = (said - apart).abs().max() / said.abs().max().clamp_min(1.0)
    assert off < TOLERANCE, f"{where}: its answer to an observation depends on the others in the batch"
    assert weights_of(actor) == before, f"{where}: answering changes its weights or buffers"
    assert count_macs(actor, teacher.probe(group)) > 0, f"{where}: it has no multiply-accumulates to save"


def _check_masks(teacher: Teacher) -> None:
    """Every choice is made where it alone is legal, in each factor."""
    for group, agents in teacher.spec.groups.items():
        actions = teacher.spec.group_spec(group).actions
        if isinstance(actions, Box):
            continue
        starts = np.cumsum((0, *actions.counts[:-1]))
        for choice in range(max(actions.counts)):
            only = np.minimum(choice, np.array(actions.counts) - 1)
            mask = np.zeros((COPIES, len(agents), actions.outputs), np.bool_)
            mask[..., starts + only] = True
            chosen = teacher.act(replace(_scene(teacher.spec, slice(None)), masks={group: mask}))[group]
            same = (chosen.reshape(COPIES, len(agents), -1) == only).all()
            assert same, f"group {group!r}: it chooses an action that the mask forbids"


def _scene(spec: EnvSpec, copies: slice) -> Scene:
    """Random observations in some of `COPIES` copies, at the beginning of their episodes."""
    generator = np.random.default_rng(0)
    seen = {
        group: generator.standard_normal(
            (COPIES, len(agents), spec.group_spec(group).observation_size), dtype=np.float32
        )[copies]
        for group, agents in spec.groups.items()
    }
    return Scene(
        observations=seen,
        views=seen,
        masks=dict.fromkeys(spec.groups),
        alive={group: np.ones(rows.shape[:2], np.bool_) for group, rows in seen.items()},
        state=generator.standard_normal((COPIES, spec.state_size), dtype=np.float32)[copies],
        first=True,
    )
