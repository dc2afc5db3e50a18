"""Plugin points: built-ins register through the same entry points as anyone's package.

| entry-point group | what one is | first user |
|---|---|---|
| `kdnas.environments` | function(**kwargs) -> PettingZoo ParallelEnv, or a batched environment | `kdnas.envs` |
| `kdnas.teachers` | function(spec, **kwargs) -> Teacher | `kdnas.teachers` |
| `kdnas.students` | a student family | `kdnas.students` |
| `kdnas.targets` | function(**kwargs) -> Target | `kdnas.profiling` |
| `kdnas.exporters` | a class without arguments, an `Exporter` | `kdnas.export` |
"""

import importlib
import sys
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from kdnas.errors import PluginError, describe, name_nearest

GROUPS = ("kdnas.environments", "kdnas.exporters", "kdnas.students", "kdnas.targets", "kdnas.teachers")

_EXTRAS = {"mpe2": "mpe"}
"""Packages that only an extra of kdnas brings: import name -> extra."""


def installed(group: str) -> dict[str, EntryPoint]:
    """The entry points of a group by name."""
    if group not in GROUPS:
        raise PluginError(f"{group!r} is not a plugin point: {name_nearest(group, GROUPS)}")
    return {entry.name: entry for entry in entry_points(group=group)}


def load(group: str, name: str) -> Any:
    """Import the plugin `name` of a group.

    Raises:
        PluginError: no plugin of this name is installed, or its import fails.
    """
    found = installed(group)
    if name not in found:
        raise PluginError(f"no plugin {name!r} in {group}: {name_nearest(name, found)}")
    try:
        return found[name].load()
    except Exception as error:  # somebody's package may raise anything while it is imported
        raise explain_import(f"plugin {name!r} of {group}", error) from error


def load_reference(reference: str, folder: Path | None = None) -> Any:
    """Import `module:function` as a study file names it; `folder` (the file's own) is searched first.

    Raises:
        PluginError: the text is not `module:function`, the module cannot be imported, or it lacks the name.
    """
    module_name, colon, attribute = reference.partition(":")
    if not (colon and module_name and attribute) or module_name.startswith("."):
        raise PluginError(f"{reference!r} is not 'module:function'; write for example 'my_project.envs:make'")
    if folder is not None:
        _search_first(folder.resolve(), module_name, reference)
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # a user's module may raise anything while it is imported
        raise explain_import(f"{reference!r}", error) from error
    if not hasattr(module, attribute):
        public = [name for name in vars(module) if not name.startswith("_")]
        raise PluginError(f"module {module_name!r} has no {attribute!r}: {name_nearest(attribute, public)}")
    return getattr(module, attribute)


def explain_import(what: str, error: Exception) -> PluginError:
    """The sentence for an import that failed; names the extra of kdnas that would bring the missing package."""
    package = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    if package in _EXTRAS:
        return PluginError(
            f"{what} needs the package {package!r}; install it with: pip install 'kdnas[{_EXTRAS[package]}]'"
        )
    if isinstance(error, ImportError):
        return PluginError(f"{what} cannot be imported: {error}; install what it needs, or correct the name")
    if isinstance(error, AttributeError):
        return PluginError(f"{what} cannot be imported: {error}; correct the name, or the module that it names")
    return PluginError(f"{what} cannot be imported: {describe(error)}; correct the module that it names")


def _search_first(folder: Path, module_name: str, reference: str) -> None:
    """Put a folder before all others, unless a module of the same name is already there from elsewhere."""
    top = module_name.partition(".")[0]
    own = [path for path in (folder / f"{top}.py", folder / top / "__init__.py") if path.is_file()]
    there = getattr(sys.modules.get(top), "__file__", None)
    if own and top in sys.modules and (there is None or Path(there).resolve() not in own):
        raise PluginError(
            f"{reference!r}: {own[0]} cannot be imported, because a module {top!r} is already loaded from "
            f"{there or 'Python itself'}; give the file another name"
        )
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    importlib.invalidate_caches()  # the file may be younger than Python's memory of its folder
