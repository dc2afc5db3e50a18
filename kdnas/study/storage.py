"""The Optuna study of a run. Only the coordinator opens it."""

import sqlite3
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdnas.errors import RunError
from kdnas.study.samplers import make_sampler

if TYPE_CHECKING:
    import optuna

OBJECTIVES = ("retention", "flops", "memory")
"""Up, down, down; the last two are team sums."""

_SQLITE = "sqlite:///"


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


def open_storage(url: str, study_name: str, sampler: str, seed: int) -> "optuna.Study":
    """Create or load the study of a run.

    SQLite is put into write-ahead-log mode, which kept every told trial on a full disk where the default lost some.

    Raises:
        RunError: the storage cannot be reached or is damaged.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with storage_errors(url), warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        try:
            if url.startswith(_SQLITE):
                with closing(sqlite3.connect(Path(url.removeprefix(_SQLITE)))) as connection:
                    connection.execute("PRAGMA journal_mode=WAL")
            study = optuna.create_study(
                storage=optuna.storages.RDBStorage(url),
                study_name=study_name,
                directions=["maximize", "minimize", "minimize"],
                load_if_exists=True,
            )
            study.set_metric_names(list(OBJECTIVES))
            told = len(study.get_trials(deepcopy=False))
        except ImportError as error:
            raise RunError(
                f"storage {shown_url(url)}: its driver is not installed; for PostgreSQL: pip install 'kdnas[postgres]'"
            ) from error
        except (ValueError, RuntimeError) as error:  # tables of another version of Optuna
            raise RunError(f"storage {shown_url(url)}: cannot be used: {_cause(error)}") from error
        # A continued study draws on with other random numbers than it began with.
        study.sampler = make_sampler(sampler, seed + told)
    return study


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
