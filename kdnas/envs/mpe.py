"""The built-in environments: mpe2's tasks, and the batched twins of two of them."""

from importlib import import_module
from typing import Any

from kdnas.envs.mpe_twin import SpeakerListenerTwin, SpreadTwin


def simple_spread(**kwargs: Any) -> Any:
    """Three agents cover three landmarks without colliding; 18 observations, 5 actions, 25 steps."""
    return import_module("mpe2.simple_spread_v3").parallel_env(**kwargs)


def simple_spread_twin(**kwargs: Any) -> SpreadTwin:
    """`mpe/simple_spread` in batches: the same episodes, to the last bit."""
    return SpreadTwin(**kwargs)


def simple_speaker_listener(**kwargs: Any) -> Any:
    """A speaker that sees the goal (3 observations, 3 messages) leads a listener (11 observations, 5 actions)."""
    return import_module("mpe2.simple_speaker_listener_v4").parallel_env(**kwargs)


def simple_speaker_listener_twin(**kwargs: Any) -> SpeakerListenerTwin:
    """`mpe/simple_speaker_listener` in batches: the same episodes, to the last bit."""
    return SpeakerListenerTwin(**kwargs)


def simple_reference(**kwargs: Any) -> Any:
    """Two agents that each know the other's goal, and talk; 21 observations, 50 actions (move x message)."""
    return import_module("mpe2.simple_reference_v3").parallel_env(**kwargs)
