"""The one exception tree of the house.

Every error that a user can cause derives from `KdnasError`; the command line catches only that, prints its sentence
and exits with code 2. Anything else that reaches the user is a bug and shows a traceback.
"""

import traceback
from collections.abc import Iterable
from difflib import get_close_matches


class KdnasError(Exception):
    """An error with a sentence for its user: where, what, and what to do next."""


class ConfigError(KdnasError):
    """A study, space or command-line value that cannot be used."""


class BudgetError(KdnasError):
    """A budget that cannot be read, or that no candidate can meet."""


class PluginError(KdnasError):
    """A plugin or `module:function` reference that cannot be found, imported or used."""


class EnvError(KdnasError):
    """An environment that breaks the contract of `TeamEnv`, or cannot be made."""


class RewardError(EnvError):
    """A reward that is NaN or infinite: what was played for it cannot be scored."""


class TeacherError(KdnasError):
    """A teacher that cannot be read, does not fit its environment, or returns non-finite numbers."""


class BundleError(KdnasError):
    """A student folder that is damaged, incomplete or does not describe its own weights."""


class StudentError(KdnasError):
    """A student that cannot be built, pruned, quantized or trained as its spec says."""


class RunError(KdnasError):
    """A run folder or storage that is missing, locked, not writable or belongs to another search."""


class ScratchError(KdnasError):
    """A temporary folder that cannot be made or written."""


class DiskFullError(RunError):
    """A disk without room: a search waits until there is some."""


def name_nearest(name: str, known: Iterable[str]) -> str:
    """Say which known name is meant: `"did you mean 'flops'? (known: bops, flops)"`."""
    names = sorted(known)
    listed = f"known: {', '.join(names)}" if names else "none is known"
    # Compared without case: `kib` means `KiB`, although not a letter of it is spelt so.
    folded = {known_name.casefold(): known_name for known_name in names}
    close = get_close_matches(name.casefold(), folded, n=1, cutoff=0.5)
    return f"did you mean {folded[close[0]]!r}? ({listed})" if close else listed


def describe(error: Exception) -> str:
    """Kind, text, file and line of an error in code that is not ours, in one line.

    Example: `"ValueError: no fuel (/home/me/my_envs.py, line 42)"`.
    """
    text = f"{type(error).__name__}: {' '.join(str(error).split())}".removesuffix(": ")
    frames = traceback.extract_tb(error.__traceback__)
    # The text of a SyntaxError names its place already, and its traceback ends in Python's own importer.
    placed = not frames or isinstance(error, SyntaxError)
    return text if placed else f"{text} ({frames[-1].filename}, line {frames[-1].lineno})"
