"""Who is to blame: what an environment's own code raises becomes one sentence, with the file and line it came from."""

from collections.abc import Iterator
from contextlib import contextmanager

from kdnas.errors import EnvError, KdnasError, describe


@contextmanager
def blame(where: str) -> Iterator[None]:
    """Run code that is not ours; `where` begins the sentence.

    Example: with `blame("environment 'my:make' failed in step()")` a `ValueError("no fuel")` of the user's code is
    raised as `EnvError("environment 'my:make' failed in step(): ValueError: no fuel (/home/me/my.py, line 42)")`.

    Raises:
        EnvError: the code raised anything; errors of the house pass through unchanged.
    """
    try:
        yield
    except KdnasError:
        raise
    except Exception as error:  # a user's environment may raise anything
        raise EnvError(f"{where}: {describe(error)}") from error
