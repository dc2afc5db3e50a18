from typing import Any

import pytest


@pytest.fixture
def said_by():
    """The sentence in which a check ends."""

    def run(check: Any, *arguments: Any, **options: Any) -> str:
        with pytest.raises(AssertionError) as raised:
            check(*arguments, **options)
        return str(raised.value)

    return run
