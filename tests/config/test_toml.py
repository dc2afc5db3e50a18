import errno
import os
from pathlib import Path

import pytest

from kdnas.config.study import StudyConfig
from kdnas.config.toml import MAX_BYTES, read_toml, validate, validate_json
from kdnas.errors import ConfigError, TeacherError
from kdnas.spaces.space import SpaceConfig

STUDY = """
name = "tiny"
space = "mlp_small"
env = { name = "mpe/simple_spread" }
teacher = { checkpoint = "spread_teacher" }
"""

SPACE = """
name = "small"

[groups.default]
bits = ["float", "w4a8i8"]

[[groups.default.bases]]
hidden = [64, 64]
prune = [0.5, 0.75]

[[groups.default.bases]]
hidden = [32]
prune = [0]
"""

SEARCH = "anchors, free_groups, front, patience_s, propose, reduction, sampler, seed, trials, workers"
"""Keys of `[search]`."""

def complaints(path: Path, model: type) -> list[str]:
    """The lines of the error, without the file's name, which each must begin with."""
    with pytest.raises(ConfigError) as raised:
        read_toml(path, model)
    lines = str(raised.value).splitlines()
    assert all(line.startswith(f"{path}: ") for line in lines)
    return [line.removeprefix(f"{path}: ") for line in lines]


@pytest.fixture
def study(tmp_path):
    """Complaints about a study file that has these lines too."""

    def write(more, base=STUDY):
        path = tmp_path / "study.toml"
        path.write_text(base + more, encoding="utf-8")
        return complaints(path, StudyConfig)

    return write


@pytest.fixture
def space(tmp_path):
    """Complaints about a space file in which one text is replaced by another."""

    def write(old, new):
        assert old in SPACE
        path = tmp_path / "space.toml"
        path.write_text(SPACE.replace(old, new, 1), encoding="utf-8")
        return complaints(path, SpaceConfig)

    return write


def test_reads_a_study(tmp_path):
    (tmp_path / "study.toml").write_text(STUDY + "[search]\ntrials = 7\n")
    study = read_toml(tmp_path / "study.toml", StudyConfig)
    assert (study.name, study.search.trials, study.env.name) == ("tiny", 7, "mpe/simple_spread")


def test_reads_a_space(tmp_path):
    (tmp_path / "space.toml").write_text(SPACE)
    space = read_toml(tmp_path / "space.toml", SpaceConfig)
    assert [base.hidden for base in space.groups["default"].bases] == [(64, 64), (32,)]
    assert space.groups["default"].bases[1].prune == (0.0,)  # a whole number where a share is wanted


# Misspelt keys: file, table, key, and the nearest that is known.


def test_misspelt_key_at_the_top(study):
    assert study("descripton = 'x'") == [
        "descripton: unknown key; did you mean 'description'? (known: budget, description, distill, env, evaluation, "
        "modules, name, observe, refine, search, space, target, teacher)"
    ]


def test_misspelt_table(study):
    (line,) = study("[serch]\ntrials = 3\n")
    assert line.startswith("serch: unknown key; did you mean 'search'?")


def test_misspelt_key_in_a_table(study):
    (line,) = study("[search]\ntrails = 3\n")
    assert line == f"[search] trails: unknown key; did you mean 'trials'? (known: {SEARCH})"


def test_misspelt_key_in_a_nested_table(study):
    base = STUDY.replace("teacher = { checkpoint = ", "[teacher]\ncheckpoint = ").replace('teacher" }', 'teacher"')
    (line,) = study("[teacher.train]\ncoppies = 3\n", base)
    assert line.startswith("[teacher.train] coppies: unknown key; did you mean 'copies'? (known: clip, copies, ")


def test_misspelt_key_in_an_array_of_tables(space):
    assert space("hidden = [32]\n", "hidden = [32]\nprunning = 3\n") == [
        "[groups.default.bases[1]] prunning: unknown key; did you mean 'prune'? (known: family, hidden, "
        "inputs, prune, round_to)"
    ]


def test_misspelt_key_in_a_table_under_a_free_name(space):
    assert space("bits = ", "bit = ") == [
        "[groups.default] bit: unknown key; did you mean 'bits'? (known: bases, bits, mixed)"
    ]


def test_a_misspelt_needed_key_is_both_missing_and_unknown(space):
    assert space("hidden = [64, 64]", "hiden = [64, 64]") == [
        "[groups.default.bases[0]] hidden: is missing",
        "[groups.default.bases[0]] hiden: unknown key; did you mean 'hidden'? (known: family, hidden, inputs, prune, "
        "round_to)",
    ]


def test_a_key_like_no_other_lists_what_is_known(study):
    assert study("[search]\nxyzzy = 3\n") == [f"[search] xyzzy: unknown key; known: {SEARCH}"]


def test_every_complaint_has_its_line(study):
    assert [
        line.partition(":")[0] for line in study("[search]\ntrails = 3\nworkers = -1\n[target]\nnme = 'onnx'\n")
    ] == [
        "[search] workers",
        "[search] trails",
        "[target] nme",
    ]


# Wrong values.


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        ("[search]\ntrials = 'many'", "[search] trials: must be a whole number, but got 'many'"),
        ("[search]\ntrials = true", "[search] trials: must be a whole number, but got True"),
        ("[search]\ntrials = 1.5", "[search] trials: must be a whole number, but got 1.5"),
        ("[search]\ntrials = 0", "[search] trials: must be greater than or equal to 1, but got 0"),
        ("[search]\nseed = -1", "[search] seed: must be greater than or equal to 0, but got -1"),
        ("[distill]\nnormalise = 'no'", "[distill] normalise: must be true or false, but got 'no'"),
        ("[distill]\nlearning_rate = nan", "[distill] learning_rate: must be a finite number, but got nan"),
        ("[distill]\nlearning_rate = 0", "[distill] learning_rate: must be greater than 0, but got 0"),
        ("[target]\nname = 3", "[target] name: must be text, in quotes, but got 3"),
        ("budget = 'latency<2ms'", "budget: must be a list, in [ ], but got 'latency<2ms'"),
        ("budget = ['flops<2k', 3]", "budget[1]: must be text, in quotes, but got 3"),
        ("search = 3", "[search]: must be a table, but got 3"),
    ],
)
def test_a_wrong_value_says_what_would_do(study, more, complaint):
    assert study(more) == [complaint]


def test_missing_keys_and_tables(study):
    assert study("description = 'x'", base="") == [
        "name: is missing",
        "space: is missing",
        "[env]: is missing",
        "[teacher]: is missing",
    ]


def test_a_rule_between_keys_names_their_table(study):
    base = STUDY.replace('env = { name = "mpe/simple_spread" }', 'env = { name = "a", factory = "b:c" }')
    assert study("", base) == [
        "[env]: give either name (a built-in or plugin environment) or factory (module:function)"
    ]


@pytest.mark.parametrize(
    ("groups", "complaint"),
    [
        ("3", "[env] groups: must be text, in quotes or must be a table, but got 3"),
        ("{ drone = 'a' }", "[env.groups] drone: must be a list, in [ ], but got 'a'"),
        ("{ drone = ['a', 3] }", "[env.groups] drone[1]: must be text, in quotes, but got 3"),
    ],
)
def test_a_key_of_two_types_complains_once(study, groups, complaint):
    assert study("", STUDY.replace('spread" }\n', f'spread", groups = {groups} }}\n', 1)) == [complaint]


def test_a_long_value_is_cut(study):
    # repr of 200 letters is 202 characters, of which 77 are shown.
    (line,) = study(f"[search]\ntrials = '{'x' * 200}'")
    assert line == "[search] trials: must be a whole number, but got '" + "x" * 76 + "..."


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("[0.5, 0.75]", "[0.5, 1.0]", "[groups.default.bases[0]] prune[1]: must be less than 1, but got 1.0"),
        ("[0.5, 0.75]", "[]", "[groups.default.bases[0]] prune: must have at least 1 item, not 0"),
        (
            "[0.5, 0.75]",
            "[0.5, 0.5]",
            "[groups.default.bases[0]] prune: each choice must stand once, but 0.5 stands twice",
        ),
        ("[32]", "[0]", "[groups.default.bases[1]] hidden[0]: must be greater than or equal to 1, but got 0"),
        (
            '"w4a8i8"',
            '"w4"',
            "[groups.default] bits[1]: bits 'w4': write 'float' or for example 'w4a8i8' (weights, activations, inputs)",
        ),
        (
            '"w4a8i8"',
            '"w9a8i8"',
            "[groups.default] bits[1]: bits: each must be 2 to 8, or 32 for float, but got (8, 9, 8)",
        ),
        ('"w4a8i8"', '"float"', "[groups.default] bits: each choice must stand once, but 'float' stands twice"),
    ],
)
def test_a_wrong_value_inside_lists(space, old, new, complaint):
    assert space(old, new) == [complaint]


# Files that cannot be read.


def test_not_toml(tmp_path):
    path = tmp_path / "study.toml"
    path.write_text("name = tiny\n")
    (line,) = complaints(path, StudyConfig)
    assert line == "is not TOML: Invalid value (at line 1, column 8)"


@pytest.mark.parametrize(
    "content",
    [b"\xff\xfe\x00name", b"x = " + b"[" * 5000, b"x = " + b"9" * 5000],
    ids=["no text", "nested too deeply", "a number of 5000 digits"],
)
def test_bytes_that_are_no_toml(tmp_path, content):
    path = tmp_path / "study.toml"
    path.write_bytes(content)
    (line,) = complaints(path, StudyConfig)
    assert line.startswith("is not TOML: ")


def test_missing_file(tmp_path):
    assert complaints(tmp_path / "absent.toml", StudyConfig) == ["cannot be read: No such file or directory"]


def test_a_folder_is_no_file(tmp_path):
    assert complaints(tmp_path, StudyConfig) == ["cannot be read: Is a directory"]


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    path = tmp_path / "study.toml"
    path.write_text(STUDY)

    def refuse(*_, **__):  # chmod would not stop root, as whom CI runs
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "read_text", refuse)
    assert complaints(path, StudyConfig) == ["cannot be read: Permission denied"]


def test_too_large_a_file(tmp_path):
    path = tmp_path / "study.toml"
    path.write_bytes(b"#" * (MAX_BYTES + 1))
    # 2^20 + 1 = 1,048,577
    assert complaints(path, StudyConfig) == ["is 1,048,577 bytes long; no study or space file is so large"]


def test_the_largest_file_is_read(tmp_path):
    path = tmp_path / "study.toml"
    path.write_bytes(STUDY.encode().ljust(MAX_BYTES, b"\n"))
    assert read_toml(path, StudyConfig).name == "tiny"


# Tables and documents that are no files.


def test_tables_are_checked_under_a_given_name():
    with pytest.raises(ConfigError, match=r"^command line: name: must be text, in quotes, but got 3$"):
        validate({"name": 3, "groups": {}}, SpaceConfig, where="command line")


def test_json_raises_errors_of_its_readers_kind():
    with pytest.raises(TeacherError) as raised:
        validate_json('{"name": "x", "groups": {"a": {"basis": []}}}', SpaceConfig, where="f.json", error=TeacherError)
    assert str(raised.value).splitlines() == [
        "f.json: [groups.a] bases: is missing",
        "f.json: [groups.a] basis: unknown key; did you mean 'bases'? (known: bases, bits, mixed)",
    ]


def test_what_is_no_json(tmp_path):
    with pytest.raises(ConfigError, match=r"^f\.json: invalid JSON: "):
        validate_json('{"name": "x', SpaceConfig, where="f.json")


def test_json_arrays_are_lists():
    text = '{"name": "x", "groups": {"a": {"bases": [{"hidden": [8], "prune": [0.5]}]}}}'
    assert validate_json(text, SpaceConfig, where="f.json").groups["a"].bases[0].hidden == (8,)
