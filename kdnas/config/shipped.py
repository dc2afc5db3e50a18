"""Where study and space files are found: a path, or the name of a shipped one."""

from pathlib import Path

from kdnas.errors import ConfigError, name_nearest

_PACKAGE = Path(__file__).resolve().parents[1]


def find_study(name: str) -> Path:
    """The study file of a shipped name or a path.

    Raises:
        ConfigError: neither is there; names the shipped ones.
    """
    return _find("studies", "study", name, None)


def find_space(name: str, folder: Path) -> Path:
    """The space file of a shipped name or a path relative to the study file's folder.

    Raises:
        ConfigError: neither is there; names the shipped ones.
    """
    return _find("search_spaces", "space", name, folder)


def shipped(kind: str) -> dict[str, Path]:
    """Name -> file of everything shipped in `studies` or `search_spaces`."""
    # The wheel carries the files inside the package; in a checkout they stand beside it.
    for root in (_PACKAGE / "shipped" / kind, _PACKAGE.parent / kind):
        if root.is_dir():
            return {path.stem: path for path in sorted(root.glob("*.toml"))}
    return {}


def _find(kind: str, noun: str, name: str, folder: Path | None) -> Path:
    known = shipped(kind)
    if name in known:
        return known[name]
    path = (folder or Path()) / name
    if path.is_file():
        return path.resolve()
    if path.suffix == ".toml" or "/" in name:
        raise ConfigError(f"{noun} file {path} is not there; shipped: {', '.join(known)}")
    raise ConfigError(f"no {noun} {name!r}: {name_nearest(name, known)}; or give the path of a .toml file")
