"""The Optuna study of a run. Only the coordinator opens it."""

import sqlite3
import warnings
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdnas.errors import RunError
from kdnas.study.room import Room
from kdnas.study.samplers import make_sampler

if TYPE_CHECKING:
    import optuna

OBJECTIVES = ("retention", "flops", "memory")
"""Up, down, down; the last two are team sums."""

_SQLITE = "sqlite:///"

_CALLS = (
    "create_new_study", "get_study_directions", "get_study_id_from_name", "get_study_name_from_id",
    "get_study_system_attrs", "get_study_user_attrs", "set_study_system_attr", "set_study_user_attr", "get_trial",
    "set_trial_state_values", "set_trial_system_attr", "set_trial_user_attr", "_create_new_trial", "_get_trials",
    "_set_trial_param",
)  # fmt: skip
"""What Optuna's cache asks of a database. Each is one transaction, which is undone when it fails."""


def driver_url(url: str) -> str:
    """A storage URL with the driver that kdnas installs; which one SQLAlchemy looks for depends on its version."""
    scheme, colon, rest = url.partition("://")
    return f"postgresql+psycopg2://{rest}" if colon and scheme in ("postgres", "postgresql") else url


def shown_url(url: str) -> str:
    """A URL without its password."""
    head, at, tail = url.rpartition("@")
    return f"{head.split('://')[0]}://...@{tail}" if at else url


@contextmanager
def storage_errors(url: str) -> Iterator[None]:
    """What the storage raises while the block runs, as a sentence.

    Raises:
        RunError: the storage failed; what was told before is kept.
    """
    import optuna
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (SQLAlchemyError, sqlite3.Error, optuna.exceptions.OptunaError) as error:
        raise RunError(f"storage {shown_url(url)}: cannot be used: {_cause(error)}") from error


def open_storage(
    url: str, study_name: str, sampler: str, seed: int, room: Room, *, begun: bool = False
) -> "optuna.Study":
    """Load the study of a run that was begun, or create it. Where the disk is full, every call waits for room.

    SQLite is put into write-ahead-log mode, which kept every told trial on a full disk where the default lost some.

    Raises:
        RunError: the storage cannot be reached or is damaged, or what was begun is not there.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if begun:
        room.keep_trying(_check_whole, url, study_name)
    study = room.keep_trying(_open, url, study_name, room)
    # A continued study draws on with other random numbers than it began with.
    told = len(study.get_trials(deepcopy=False))
    study.sampler = make_sampler(sampler, seed + told)
    return study


def _open(url: str, study_name: str, room: Room) -> "optuna.Study":
    import optuna

    with storage_errors(url), warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        try:
            if url.startswith(_SQLITE):
                with closing(sqlite3.connect(Path(url.removeprefix(_SQLITE)))) as connection:
                    connection.execute("PRAGMA journal_mode=WAL")
            storage = optuna.storages.RDBStorage(url)
            # Optuna looks something up before each parameter of a trial; with that, SQLAlchemy would write those before
            # it one by one, instead of all at once (64 parameters on SQLite: 71 ms a trial, 53 without).
            storage.scoped_session.session_factory.configure(autoflush=False)
            storage.scoped_session.remove()
            for name in _CALLS:
                setattr(storage, name, partial(room.keep_trying, getattr(storage, name)))
            study = optuna.create_study(
                storage=storage,
                study_name=study_name,
                directions=["maximize", "minimize", "minimize"],
                load_if_exists=True,
            )
            study.set_metric_names(list(OBJECTIVES))
        except ImportError as error:
            raise RunError(
                f"storage {shown_url(url)}: its driver is not installed; for PostgreSQL: pip install 'kdnas[postgres]'"
            ) from error
        except (ValueError, RuntimeError) as error:  # tables of another version of Optuna
            raise RunError(f"storage {shown_url(url)}: cannot be used: {_cause(error)}") from error
    return study


def _check_whole(url: str, study_name: str) -> None:
    """Refuse a database that lost something since the run was begun; an empty one would be filled anew.

    Raises:
        RunError: see above.
    """
    if not url.startswith(_SQLITE):
        _load(url, study_name)
        return
    path = Path(url.removeprefix(_SQLITE))
    lost = "is not there"
    if path.exists():
        try:
            with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
                (lost,) = connection.execute("PRAGMA quick_check(1)").fetchone()
                tables = connection.execute("SELECT name FROM sqlite_master WHERE name = 'studies'").fetchall()
                names = connection.execute("SELECT study_name FROM studies").fetchall() if tables else []
        except sqlite3.DatabaseError as error:
            raise _damaged(url, str(error)) from error
        if lost == "ok" and (study_name,) in names:
            return
        lost = "holds no trial of this run" if lost == "ok" else " ".join(lost.split())
    raise _damaged(url, lost)


def _damaged(url: str, how: str) -> RunError:
    return RunError(
        f"storage {url}: is damaged ({how}) although this run was begun; put a copy of it back, or choose another "
        "--out; the folders in students/ are not touched"
    )


def meets(trial: Any, constraints: Collection[str]) -> bool:
    """Whether a stored trial met every constraint when it was asked; one that is not there was not met."""
    known = trial.constraints
    return all(known.get(name, float("inf")) <= 0 for name in constraints)


def read_trials(url: str, study_name: str) -> list[Any]:
    """The trials of a run, for reading.

    Raises:
        RunError: the storage or the study is not there.
    """
    with storage_errors(url):
        return _load(url, study_name).get_trials(deepcopy=False)


def read_study_id(url: str, study_name: str) -> int:
    """Number of a run's study in its storage, as the dashboard's addresses have it.

    Raises:
        RunError: the storage or the study is not there.
    """
    return _load(url, study_name)._study_id


def _load(url: str, study_name: str) -> "optuna.Study":
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if url.startswith(_SQLITE) and not Path(url.removeprefix(_SQLITE)).exists():
        raise RunError(f"storage {url}: is not there; repeat the search in a new --out")
    try:
        return optuna.load_study(storage=url, study_name=study_name)
    except KeyError as error:
        raise RunError(f"storage {shown_url(url)}: has no study {study_name!r}; was it deleted?") from error
    except Exception as error:  # drivers raise their own kinds
        raise RunError(f"storage {shown_url(url)}: cannot be read: {_cause(error)}") from error


def _cause(error: BaseException) -> str:
    """The first line of what began it: Optuna and SQLAlchemy wrap what the driver said."""
    while error.__cause__ is not None:
        error = error.__cause__
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
