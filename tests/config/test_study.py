import pytest
from pydantic import BaseModel, ValidationError

from kdnas.config import study as module
from kdnas.config.study import EnvTable, StudyConfig, TeacherTable
from kdnas.config.toml import validate
from kdnas.errors import ConfigError

LEAST = {"name": "x", "space": "s", "env": {"factory": "m:f"}, "teacher": {"checkpoint": "t"}}


def refusal(**tables) -> str:
    with pytest.raises(ConfigError) as raised:
        validate(LEAST | tables, StudyConfig, where="f")
    return str(raised.value)


def test_four_keys_are_enough():
    study = validate(LEAST, StudyConfig, where="f")
    assert study.budget == ()
    assert study.env.groups == "per-agent"
    assert study.target.name == "onnx"
    assert (study.search.trials, study.search.seed, study.search.workers) == (60, 0, 0)
    assert (study.evaluation.search_episodes, study.evaluation.final_episodes) == (256, 500)


def test_groups_may_be_a_rule_or_a_table():
    assert EnvTable(name="e", groups="by-kind").groups == "by-kind"
    table = validate(LEAST | {"env": {"name": "e", "groups": {"drone": ["a", "b"]}}}, StudyConfig, where="f")
    assert table.env.groups == {"drone": ("a", "b")}


@pytest.mark.parametrize("env", [{}, {"name": "e", "factory": "m:f"}])
def test_one_environment(env):
    assert (
        refusal(env=env) == "f: [env]: give either name (a built-in or plugin environment) or factory (module:function)"
    )


@pytest.mark.parametrize("teacher", [{}, {"checkpoint": "t", "factory": "m:f"}, {"factory": "m:f", "name": "n"}])
def test_one_teacher(teacher):
    assert refusal(teacher=teacher) == (
        "f: [teacher]: give one of checkpoint (a folder), factory (module:function) and name (a plugin)"
    )


@pytest.mark.parametrize("source", ["checkpoint", "factory", "name"])
def test_each_source_of_a_teacher_is_enough_alone(source):
    assert getattr(TeacherTable(**{source: "t"}), source) == "t"


def test_it_is_frozen():
    study = validate(LEAST, StudyConfig, where="f")
    with pytest.raises(ValidationError):
        study.name = "y"


def test_what_is_dumped_is_read_back():
    study = validate(LEAST | {"search": {"trials": 3}, "budget": ["flops<2k"]}, StudyConfig, where="f")
    assert StudyConfig.model_validate(study.model_dump()) == study
    assert StudyConfig.model_validate_json(study.model_dump_json()) == study


def test_every_table_is_strict():
    tables = [thing for thing in vars(module).values() if isinstance(thing, type) and issubclass(thing, BaseModel)]
    for table in tables:
        if table is not BaseModel:
            assert table.model_config.get("extra") == "forbid", table
            assert table.model_config.get("frozen"), table


@pytest.mark.parametrize(
    ("tables", "sentence"),
    [
        (
            {"teacher": {"checkpoint": "t", "train": {"gamma": 1.1}}},
            "[teacher.train] gamma: must be less than or equal to 1",
        ),
        (
            {"teacher": {"checkpoint": "t", "train": {"hidden": [64, 0]}}},
            "[teacher.train] hidden[1]: must be greater than",
        ),
        (
            {"teacher": {"checkpoint": "t", "train": {"entropy": [-0.1]}}},
            "[teacher.train] entropy[0]: must be greater than",
        ),
        ({"distill": {"temperature": 0.0}}, "[distill] temperature: must be greater than 0"),
        ({"evaluation": {"final_episodes": 0}}, "[evaluation] final_episodes: must be greater than or equal to 1"),
        ({"search": {"workers": -1}}, "[search] workers: must be greater than or equal to 0"),
    ],
)
def test_values_outside_their_range(tables, sentence):
    assert refusal(**tables).startswith(f"f: {sentence}")
