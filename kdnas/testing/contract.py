"""How a contract is watched over: what counts as breaking one, and traces that a plugin must not leave."""

# Under other names than usual: their state is read here, and nothing is drawn.
import random as shared_python
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from numpy import random as shared_numpy
from torch import nn

from kdnas.errors import KdnasError, describe


@contextmanager
def contract(what: str) -> Iterator[None]:
    """While inside, whatever is raised is a broken contract of `what`.

    Raises:
        AssertionError: a sentence that begins with `what`; the plugin's own error is its cause.
    """
    try:
        yield
    except (AssertionError, KdnasError) as error:
        raise AssertionError(f"{what}: {str(error) or describe(error)}") from error
    except Exception as error:  # a plugin may raise anything
        raise AssertionError(f"{what}: {describe(error)}") from error


@contextmanager
def no_global_draws() -> Iterator[None]:
    """Compare the global generators of Python, NumPy and PyTorch before and after.

    Raises:
        AssertionError: one of them was seeded or drawn from.
    """
    before = _generator_states()
    yield
    touched = [name for name, state in _generator_states().items() if state != before[name]]
    assert not touched, (
        f"it seeds or draws from the global generator of {' and '.join(touched)}, which all code shares; "
        "make a generator from the seed instead"
    )


def weights_of(network: nn.Module) -> dict[str, bytes]:
    """The exact content of a network's parameters and buffers."""
    return {name: tensor.detach().cpu().contiguous().numpy().tobytes() for name, tensor in network.state_dict().items()}


def _generator_states() -> dict[str, str]:
    return {
        "Python": repr(shared_python.getstate()),
        "NumPy": repr(shared_numpy.get_state()),
        "PyTorch": repr(torch.get_rng_state().tolist()),
    }
