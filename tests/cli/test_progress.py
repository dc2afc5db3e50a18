"""`kdnas.cli.progress`: what the terminal shows is what was said."""

import pytest

from kdnas.cli.progress import Screen
from kdnas.cli.render import err, out, print_table
from kdnas.report.tables import Table

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
