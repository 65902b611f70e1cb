"""Keep studies in SQLite or PostgreSQL through Optuna, and wait where the database is away for a while."""

from __future__ import annotations

import importlib.util
import re
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import unquote, unquote_plus

from hwdb import InputError

if TYPE_CHECKING:
    import optuna

T = TypeVar("T")
#: Seconds that a database may be away, and between two tries. Chosen: a restart takes some seconds.
PATIENCE_S, PAUSE_S = 120.0, 0.5
#: Where a password stands: after the user, up to the last @; or as a value of the query.
_PASSWORDS = (
    re.compile(r"(?:^(?!\w+:/)|//?)[^:/@]*:(.+)@"),
    re.compile(r"[?&](?:ssl)?pass(?:word|wd)?=([^&]+)", re.IGNORECASE),
)
#: Characters of a part of a password that is hidden by itself. Chosen: a shorter one is as likely a part of a word.
LEAST_PART = 3
#: Scheme of a URL of PostgreSQL without a driver.
POSTGRES = "postgresql://"


def url_of(storage: str) -> str:
    """Return the URL of a storage: a URL as it is, a file name as that of an SQLite database; "" for memory.

    >>> url_of("studies.db")
    'sqlite:///studies.db'
    """
    if not storage or "://" in storage:
        return _with_driver(storage.replace("postgres://", POSTGRES, 1) if storage.startswith("postgres:") else storage)
    if not Path(storage).resolve().parent.is_dir():
        raise InputError(hidden(f"--storage {storage}: its folder does not exist; make it, or name another", storage))
    return f"sqlite:///{storage}"


def _with_driver(url: str) -> str:
    """Return a URL of PostgreSQL with the driver that is installed; other URLs as they are."""
    if not url.startswith("postgresql"):
        return url
    if importlib.util.find_spec("psycopg") is not None:
        return url.replace(POSTGRES, "postgresql+psycopg://", 1)
    if importlib.util.find_spec("psycopg2") is None:
        raise InputError("--storage of PostgreSQL needs a driver; install perfmodel[postgres]")
    return url


def hidden(text: str, storage: str) -> str:
    """Return a text for a message without the passwords of a storage, however they are written in it.

    storage: what the user gave, which need be no URL that can be read.

    >>> hidden("postgresql://me:pw@host/x is away (pw)", "postgresql://me:pw@host/x")
    'postgresql://me:***@host/x is away (***)'
    """
    found = {match for pattern in _PASSWORDS for match in pattern.findall(storage)}
    # a driver may show a password decoded, or as the part of it that it took for a host or a port
    said = found | {unquote(one) for one in found} | {unquote_plus(one) for one in found}
    said |= {part for one in found for part in re.split(r"[/?#@:]", one) if len(part) >= LEAST_PART}
    for one in sorted(said, key=len, reverse=True):
        text = text.replace(one, "***")
    return text


def opened(storage: str) -> optuna.storages.BaseStorage:
    """Open a storage, and make its tables where they are missing; raise `InputError` where that is not possible."""
    import optuna
    import sqlalchemy.exc

    url = url_of(storage)
    if not url:
        return optuna.storages.InMemoryStorage()
    try:
        # a connection that a restart of the database has ended is noticed before it is used
        return optuna.storages.RDBStorage(url, engine_kwargs={"pool_pre_ping": True})
    except (sqlalchemy.exc.SQLAlchemyError, ImportError, RuntimeError, ValueError) as error:
        said = str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
        raise InputError(hidden(f"--storage {storage}: cannot be used: {said}", storage)) from None


def closed(place: optuna.storages.BaseStorage) -> None:
    """End the connections of this thread and its pool to a storage."""
    import optuna

    if isinstance(place, optuna.storages.RDBStorage):
        place.remove_session()
        place.engine.dispose()


def patient(action: Callable[[], T]) -> T:
    """Do something with the database; where it is away, try again until `PATIENCE_S` is over.

    `action` may be done twice where the answer of the first time was lost.
    """
    import optuna
    import sqlalchemy.exc

    away = (optuna.exceptions.StorageInternalError, sqlalchemy.exc.OperationalError, sqlalchemy.exc.InterfaceError)
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            return action()
        except away as error:
            if time.monotonic() > end:
                said = str(error.__cause__ or error).strip().partition("\n")[0]
                raise InputError(f"the database of the study is away: {said}; start it and add --resume") from None
            time.sleep(PAUSE_S)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence Optuna's log and its warnings about parts that are new or go; both are restored afterwards."""
    import optuna

    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        optuna.logging.set_verbosity(level)
