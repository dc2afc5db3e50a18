import pytest
from pydantic import BaseModel, ValidationError

from kdnas.config import refine
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
    assert study.distill.rungs == (0.11, 0.33, 1.0)


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


def test_a_checkpoint_takes_no_arguments():
    assert refusal(teacher={"checkpoint": "t", "kwargs": {"x": 1}}) == (
        "f: [teacher]: kwargs are for factory and name; a checkpoint takes none"
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
    things = [*vars(module).values(), *vars(refine).values()]
    tables = [thing for thing in things if isinstance(thing, type) and issubclass(thing, BaseModel)]
    for table in tables:
        if table is not BaseModel:
            # A table whose keys are names of the user's choice says what stands under them instead.
            named = "__pydantic_extra__" in table.__annotations__
            assert table.model_config.get("extra") == ("allow" if named else "forbid"), table
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
        (
            {"teacher": {"checkpoint": "t", "train": {"entropy": []}}},
            "[teacher.train] entropy: must have at least 1 item",
        ),
        ({"evaluation": {"final_episodes": 1}}, "[evaluation] final_episodes: must be greater than or equal to 2"),
        ({"search": {"seed": 2**31}}, "[search] seed: must be less than or equal to 2147483647"),
        ({"search": {"workers": -1}}, "[search] workers: must be greater than or equal to 0"),
        ({"search": {"reduction": 1}}, "[search] reduction: must be greater than or equal to 2"),
        ({"search": {"reduction": 2.5}}, "[search] reduction: must be a whole number, but got 2.5"),
        ({"search": {"free_groups": -1}}, "[search] free_groups: must be greater than or equal to 0"),
        ({"search": {"sampler": "cmaes"}}, "[search] sampler: "),
        ({"evaluation": {"first_episodes": 0}}, "[evaluation] first_episodes: must be greater than or equal to 1"),
        ({"distill": {"rungs": [0.0, 1.0]}}, "[distill] rungs[0]: must be greater than 0"),
        ({"distill": {"rungs": [0.5, 1.5]}}, "[distill] rungs[1]: must be less than or equal to 1"),
        ({"distill": {"rungs": []}}, "[distill] rungs: must have at least 1 item, not 0"),
    ],
)
def test_values_outside_their_range(tables, sentence):
    assert refusal(**tables).startswith(f"f: {sentence}")


@pytest.mark.parametrize("rungs", [[0.5, 0.25, 1.0], [0.5, 0.5, 1.0], [0.25, 0.5]])
def test_rungs_rise_to_one(rungs):
    assert refusal(distill={"rungs": rungs}) == (
        f"f: [distill]: rungs must rise, and the last must be 1.0, but got {rungs}"
    )
    study = validate(LEAST | {"distill": {"rungs": [*sorted(set(rungs) - {1.0}), 1.0]}}, StudyConfig, where="f")
    assert study.distill.rungs[-1] == 1.0


def observed(**tables) -> dict:
    study = validate(LEAST | {"observe": {"default": tables}}, StudyConfig, where="f")
    assert validate(study.model_dump(), StudyConfig, where="dump") == study
    return study.observe["default"]


def test_features_are_indices_and_ranges():
    assert observed(keep=["0-3", 7]).keep == (0, 1, 2, 3, 7)
    assert observed(drop="5-5").drop == (5,)
    assert observed(drop=[0]).keep is None


def test_entities_are_tables_by_name():
    others = {"members": ["2-3", [4, 5]], "position": [0, 1]}
    entities = {"own": "0-1", "others": others, "own_kind": {"members": [[6]]}}
    table = observed(entities=entities, nearest={"others": 1}, radius=2).entities
    assert table.own == (0, 1)
    assert list(table.sets) == ["others", "own_kind"]
    assert table.sets["others"].members == ((2, 3), (4, 5))
    assert (table.sets["others"].position, table.sets["own_kind"].position) == ((0, 1), None)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"keep": [1], "drop": [2]}, "]: give either keep (the features that are seen) or drop (those that are not)"),
        ({"keep": ["3-1"]}, "] keep: a range goes up, and ends below 65536, but got '3-1'"),
        ({"keep": ["0-999999999"]}, "] keep: a range goes up, and ends below 65536, but got '0-999999999'"),
        ({"keep": ["a"]}, "] keep: write a feature as 7 and a range as '4-5', both ends in it, but got 'a'"),
        ({"keep": []}, "] keep: must have at least 1 item, not 0"),
        ({"keep": [True]}, "] keep[0]: must be a whole number, but got True"),
        ({"noisy": 1.0}, "] noisy: unknown key; did you mean 'noise'? (known: drop, entities, keep,"),
        ({"radius": "x"}, "] radius: must be a number or must be a table, but got 'x'"),
        (
            {"entities": {"others": {"members": ["1-2"], "positoin": [0]}}},
            ".entities.others] positoin: unknown key; did you mean 'position'? (known: members, position)",
        ),
    ],
)
def test_an_observe_table_is_strict(table, said):
    assert refusal(observe={"default": table}).startswith(f"f: [observe.default{said}")
