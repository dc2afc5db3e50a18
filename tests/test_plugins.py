import sys
from importlib.metadata import EntryPoint

import pytest

from kdnas import plugins
from kdnas.errors import PluginError


@pytest.fixture(autouse=True)
def _restore_imports(monkeypatch):
    """Modules and folders that a test brings in are gone after it."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith("plugin_"):
            del sys.modules[name]


@pytest.fixture
def entry(monkeypatch):
    """Installs one entry point, as a package would."""

    def install(value, name="mine", group="kdnas.environments"):
        point = EntryPoint(name=name, value=value, group=group)
        monkeypatch.setattr(plugins, "entry_points", lambda *, group: [point] if group == point.group else [])

    return install


def test_built_ins_register_like_plugins():
    assert {"mpe/simple_spread", "mpe/simple_speaker_listener", "mpe/simple_reference"} <= set(
        plugins.installed("kdnas.environments")
    )
    for group, name in [("students", "mlp"), ("teachers", "checkpoint"), ("targets", "onnx"), ("exporters", "onnx")]:
        assert name in plugins.installed(f"kdnas.{group}")


def test_groups_are_sorted():
    assert list(plugins.GROUPS) == sorted(plugins.GROUPS)


def test_loads_what_the_entry_point_names(entry):
    entry("collections:OrderedDict")
    assert plugins.load("kdnas.environments", "mine").__name__ == "OrderedDict"


def test_unknown_group_names_the_nearest():
    with pytest.raises(PluginError, match=r"'kdnas\.student' is not a plugin point: did you mean 'kdnas\.students'"):
        plugins.installed("kdnas.student")


def test_unknown_plugin_names_the_nearest():
    with pytest.raises(PluginError) as raised:
        plugins.load("kdnas.environments", "mpe/simple_spred")
    assert str(raised.value).startswith(
        "no plugin 'mpe/simple_spred' in kdnas.environments: did you mean 'mpe/simple_spread'? (known: mpe/"
    )


def test_plugin_without_its_package_names_it(entry):
    entry("package_that_nobody_has.envs:make")
    with pytest.raises(PluginError, match=r"plugin 'mine' of kdnas.environments cannot be imported: No module named"):
        plugins.load("kdnas.environments", "mine")


def test_plugin_that_points_at_nothing(entry):
    entry("collections:NoSuchThing")
    with pytest.raises(PluginError, match=r"plugin 'mine' .* cannot be imported: .*NoSuchThing"):
        plugins.load("kdnas.environments", "mine")


def test_missing_package_of_an_extra_names_the_extra():
    error = ModuleNotFoundError("No module named 'mpe2'", name="mpe2.simple_spread_v3")
    assert str(plugins.explain_import("environment 'mpe/simple_spread'", error)) == (
        "environment 'mpe/simple_spread' needs the package 'mpe2'; install it with: pip install 'kdnas[mpe]'"
    )


def test_reference_is_found_in_the_studys_folder(tmp_path):
    (tmp_path / "plugin_env.py").write_text("def make():\n    return 42\n")
    assert plugins.load_reference("plugin_env:make", tmp_path)() == 42
    assert plugins.load_reference("plugin_env:make", tmp_path)() == 42  # and is there the second time


def test_reference_without_a_folder_is_an_ordinary_import():
    assert plugins.load_reference("pathlib:Path").__name__ == "Path"


def test_two_studies_with_a_module_of_one_name_are_not_mixed_up(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
        (folder / "plugin_env.py").write_text(f"def make():\n    return {folder.name!r}\n")
    assert plugins.load_reference("plugin_env:make", first)() == "first"
    with pytest.raises(PluginError) as raised:
        plugins.load_reference("plugin_env:make", second)
    assert str(raised.value) == (
        f"'plugin_env:make': {second / 'plugin_env.py'} cannot be imported, because a module 'plugin_env' is already "
        f"loaded from {first / 'plugin_env.py'}; give the file another name"
    )


def test_a_file_named_like_pythons_own_module_is_refused(tmp_path):
    (tmp_path / "json.py").write_text("def make(): ...\n")
    with pytest.raises(PluginError, match=r"a module 'json' is already loaded from .*; give the file another name"):
        plugins.load_reference("json:make", tmp_path)


@pytest.mark.parametrize("reference", ["", "module", "module:", ":function", ".module:function"])
def test_text_that_is_no_reference(reference):
    with pytest.raises(PluginError) as raised:
        plugins.load_reference(reference)
    assert str(raised.value) == f"{reference!r} is not 'module:function'; write for example 'my_project.envs:make'"


def test_module_without_the_name_names_the_nearest(tmp_path):
    (tmp_path / "plugin_near.py").write_text("def make_env(): ...\n_hidden = 1\n")
    with pytest.raises(PluginError) as raised:
        plugins.load_reference("plugin_near:make_enf", tmp_path)
    assert str(raised.value) == "module 'plugin_near' has no 'make_enf': did you mean 'make_env'? (known: make_env)"


def test_module_that_is_not_there():
    with pytest.raises(PluginError) as raised:
        plugins.load_reference("plugin_absent:make")
    assert str(raised.value) == (
        "'plugin_absent:make' cannot be imported: No module named 'plugin_absent'; "
        "install what it needs, or correct the name"
    )


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("def make(:", "SyntaxError: invalid syntax (plugin_broken.py, line 1)"),
        ("\n1 / 0", "ZeroDivisionError: division by zero ({path}, line 2)"),
        ("raise ValueError('two\\nlines')", "ValueError: two lines ({path}, line 1)"),
    ],
)
def test_module_that_fails_while_it_is_imported(tmp_path, source, said):
    path = tmp_path / "plugin_broken.py"
    path.write_text(source)
    with pytest.raises(PluginError) as raised:
        plugins.load_reference("plugin_broken:make", tmp_path)
    assert str(raised.value) == (
        f"'plugin_broken:make' cannot be imported: {said.format(path=path)}; correct the module that it names"
    )
