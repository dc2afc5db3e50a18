"""`kdnas.cli.progress`: what the terminal shows is what was said."""

import errno
import io

import pytest

from kdnas.cli.progress import Screen
from kdnas.cli.render import err, out, print_table
from kdnas.report.tables import Table


class Full(io.StringIO):
    """A log on a disk without room."""

    def flush(self) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")


SAID = "16 go on ([search] front takes more), in /runs/[/old]/[bold]"
"""To rich, two styles and one that ends without having begun."""


def test_words_in_brackets_are_words(capsys: pytest.CaptureFixture[str]) -> None:
    Screen().message(SAID)
    err.print(SAID)
    out.print(SAID)
    print_table(Table(header=("[dim]", "said"), rows=(("[/]", SAID),)), title="[red]")
    shown = capsys.readouterr()
    assert shown.err.count(SAID) == 2
    assert shown.out.count(SAID) == 2
    assert all(word in shown.out for word in ("[dim]", "[/]", "[red]"))


def test_a_search_does_not_end_for_want_of_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(err, "file", Full())
    with pytest.raises(OSError, match="No space left"):
        err.print(SAID)
    Screen().message(SAID)
