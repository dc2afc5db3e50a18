"""The page that shows the house shows this one."""

import ast
import re
from pathlib import Path

from kdnas import plugins, testing

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")


def floors_of_the_page() -> dict[str, int]:
    """Room -> floor, of the first picture: a number begins a floor, words alone between wide gaps are rooms."""
    picture = re.search(r"```\n(9 .*?)```", PAGE, re.DOTALL)
    assert picture is not None
    floors, floor = {}, -1
    for line in picture[1].splitlines():
        floor = int(line[0]) if line[0].isdigit() else floor
        columns = [part for part in re.split(r" {2,}", line.lstrip("0123456789").strip()) if not part.startswith("(")]
        floors |= {part: floor for part in columns if re.fullmatch(r"\w+", part)}
    return floors


def test_the_floors_are_those_of_the_layer_test():
    tree = ast.parse((ROOT / "tests/test_layers.py").read_text(encoding="utf-8"))
    assigned = {ast.unparse(node.targets[0]): node.value for node in tree.body if isinstance(node, ast.Assign)}
    assert floors_of_the_page() == ast.literal_eval(assigned["FLOORS"])


def test_every_file_that_it_names_is_there():
    rooms = "|".join(floors_of_the_page())
    # `students/family`, and `study/run_folder, storage` for two files of one room.
    named = re.findall(rf"(?<![\w./])((?:{rooms})/\w+)((?:, [a-z_]+\b(?!/))*)", PAGE)
    files = [path for path, _ in named]
    files += [f"{path.split('/')[0]}/{other}" for path, others in named for other in others.split(", ")[1:]]
    assert len(files) > 30
    assert [name for name in files if not (ROOT / "kdnas" / f"{name}.py").is_file()] == []


def test_every_plugin_point_has_its_row_and_its_check():
    rows = re.findall(r"^\| `(kdnas\.\w+)` \|.*`(check_\w+)` \|$", PAGE, re.MULTILINE)
    assert sorted(group for group, _ in rows) == list(plugins.GROUPS)
    assert sorted(check for _, check in rows) == testing.__all__
