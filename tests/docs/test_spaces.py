"""The page of search spaces: its file is one, its formats are read, and it names what is shipped."""

import re
import tomllib
from pathlib import Path

from kdnas.config.shipped import shipped
from kdnas.config.toml import validate
from kdnas.spaces import BaseTable, MixedTable, SpaceConfig, make_space, parse_bits

PAGE = (Path(__file__).resolve().parents[2] / "docs/spaces.md").read_text(encoding="utf-8")


def test_its_file_is_a_space():
    found = re.search(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    space = make_space(validate(tomllib.loads(found[1]), SpaceConfig, where="page"), ["scout", "drone"])
    # 2 x 2 widths, 2 shares that are all inputs here, and 3 + 2^5 formats, of which w8a8i8 is in both.
    assert len(space.groups["drone"].parameters) == 4 * (3 + 32 - 1)
    assert [str(spec) for spec in space.groups["scout"].parameters] == ["mlp 24 w8a8i8"]


def test_every_key_has_its_row():
    rows = set(re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE))
    assert {*BaseTable.model_fields, *MixedTable.model_fields} <= rows


def test_formats_are_read():
    rows = re.findall(r"^\| `(float|w\d[\w-]*)` \|", PAGE, re.MULTILINE)
    assert len(rows) == 4
    assert [str(parse_bits(text)) for text in rows] == rows


def test_what_is_shipped_is_named():
    named = PAGE.split("Shipped are ")[1]
    assert sorted(re.findall(r"`(\w+)`", named)) == sorted(shipped("search_spaces"))
