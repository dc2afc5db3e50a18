"""Where faults are tried: an undisturbed search for comparison, fresh homes, and small disks of their own."""

import os
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from home import Home, Trial, children, make_home
from verdict import Verdict


class CannotError(Exception):
    """A fault that cannot be injected here; its text says why."""


class TooLateError(Exception):
    """The search had ended before its moment came: another moment must be drawn."""


@dataclass
class Stage:
    """The folder of all homes, and what happened in the undisturbed one."""

    root: Path
    options: dict[str, Any]
    seconds: float = 0.0
    """How long an undisturbed search takes."""
    workers_s: tuple[float, float] = (0.0, 0.0)
    """From when to when there are workers in it."""
    undisturbed: dict[int, Trial] = field(default_factory=dict)
    finished: Path | None = None
    """Folder of the undisturbed search, to be copied."""
    numbers: "count[int]" = field(default_factory=count)

    def rehearse(self) -> str:
        """Search once with nothing injected.

        Raises:
            RuntimeError: not even that ends well.
        """
        with self.home() as home:
            started = time.monotonic()
            process = home.start()
            first = last = 0.0
            while process.poll() is None:
                if children(process.pid):
                    last = time.monotonic() - started
                    first = first or last
                time.sleep(0.1)
            code, said = home.finish(process)
            self.seconds, self.workers_s = time.monotonic() - started, (first, last)
            self.undisturbed = home.read()
            if code:
                raise RuntimeError(f"the undisturbed search ended with exit code {code}:\n{said}")
            self.finished = Path(shutil.copytree(home.folder.parent, self.root / "finished"))
            return said

    @contextmanager
    def home(self, out: Path | None = None, **changes: Any) -> Iterator[Home]:
        """A fresh study folder; gone afterwards, with all its processes."""
        root = self.root / f"{next(self.numbers):03}"
        home = make_home(root, out, **changes)
        yield from self._open(home, root)

    @contextmanager
    def finished_home(self) -> Iterator[Home]:
        """A copy of the undisturbed search, finished."""
        assert self.finished is not None
        root = Path(shutil.copytree(self.finished, self.root / f"{next(self.numbers):03}"))
        yield from self._open(Home(folder=root / "study", out=root / "run"), root)

    def _open(self, home: Home, root: Path) -> Iterator[Home]:
        for name, value in self.options.items():
            setattr(home, name, value)
        home.undisturbed = self.undisturbed
        try:
            yield home
        finally:
            home.close()
            shutil.rmtree(root, ignore_errors=True)

    @contextmanager
    def some_home(self, luck: random.Random, verdict: Verdict) -> Iterator[Home]:
        """Mostly a fresh one; else a finished search, which scores and delivers its front once more."""
        if luck.random() < 0.7:
            with self.home() as home:
                yield home
        else:
            verdict.injected = f"finished before; {verdict.injected}"
            with self.finished_home() as home:
                yield home

    @contextmanager
    def disk(self, mebibytes: int) -> Iterator[Path]:
        """A small disk in memory.

        Raises:
            CannotError: only root may.
        """
        point = self.root / f"disk-{next(self.numbers):03}"
        point.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "kdnas-faults", str(point)]
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        if made.returncode:
            raise CannotError(f"a small disk cannot be mounted: {made.stderr.strip()}")
        try:
            yield point
        finally:
            subprocess.run(["umount", "--lazy", str(point)], check=False)
            point.rmdir()


def bound() -> list[str]:
    """What a command begins with so that read-only folders are that to it, whoever runs it.

    Raises:
        CannotError: root is never refused a file here.
    """
    if os.geteuid():
        return []
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise CannotError("root is refused nothing without setpriv")
    return [setpriv, "--bounding-set", "-dac_override"]


def make_read_only(folder: Path, yes: bool) -> None:
    """Take away, or give back, the right to write in a folder and everything below."""
    for path in [folder, *folder.rglob("*")]:
        with suppress(FileNotFoundError):  # written a moment ago, and renamed
            path.chmod(path.stat().st_mode & 0o555 if yes else path.stat().st_mode | 0o200)


def fill(point: Path) -> Path:
    """Take all that is free on a disk with one file."""
    ballast = point / "ballast"
    with ballast.open("ab", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue
    os.sync()
    return ballast
