"""Where faults are tried: an undisturbed search for comparison, fresh homes, and small disks of their own."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from home import Home, Trial, children, make_home


class CannotMountError(Exception):
    """This user may not mount a small disk."""


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
    def disk(self, mebibytes: int) -> Iterator[Path]:
        """A small disk in memory.

        Raises:
            CannotMountError: only root may.
        """
        point = self.root / f"disk-{next(self.numbers):03}"
        point.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "kdnas-faults", str(point)]
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        if made.returncode:
            raise CannotMountError(made.stderr.strip() or "mount failed")
        try:
            yield point
        finally:
            subprocess.run(["umount", "--lazy", str(point)], check=False)
            point.rmdir()


def remount(point: Path, mode: str) -> None:
    """Make a small disk `ro` or `rw`."""
    for _ in range(100):  # refused while a file is open for writing
        command = ["mount", "-o", f"remount,{mode}", str(point)]
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        if not made.returncode:
            return
        time.sleep(0.02)
    raise CannotMountError(made.stderr.strip())


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
