"""What must hold after a fault: what was told is there as it was, nothing is left behind, the search ends well."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from home import END, Home, Trial


@dataclass
class Verdict:
    """What was injected, and what held."""

    fault: str
    injected: str = ""
    skipped: bool = False
    """It cannot be injected here."""
    held: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    def check(self, what: str, holds: bool, otherwise: str = "") -> bool:
        (self.held if holds else self.broken).append(what if holds or not otherwise else f"{what}: {otherwise}")
        return holds

    @property
    def line(self) -> str:
        held = ", ".join(dict.fromkeys(self.held)) or "nothing"
        text = f"{self.fault:<22} {self.injected:<46} {'held' if not self.broken else 'BROKEN'}: {held}"
        return text + "".join(f"\n    DID NOT HOLD  {one}" for one in self.broken)


def told(trials: Mapping[int, Trial]) -> dict[int, Trial]:
    """The trials that have ended."""
    return {number: trial for number, trial in trials.items() if trial.state in END}


def check_told(verdict: Verdict, before: Mapping[int, Trial], after: Mapping[int, Trial]) -> None:
    """Every trial that had ended before is the same after."""
    if not told(before):
        return
    changed = [number for number, trial in told(before).items() if after.get(number) != trial]
    verdict.check("told trials unchanged", not changed, f"{changed[:5]} of {len(told(before))}")


def check_sentence(verdict: Verdict, code: int, said: str, *parts: str) -> None:
    """The search was refused or given up in one sentence with exit code 2."""
    lines = [line for line in said.splitlines() if line.startswith("error: ")]
    good = code == 2 and len(lines) == 1 and "Traceback" not in said and all(part in lines[0] for part in parts)
    verdict.check("one sentence", good, f"exit code {code}, {' '.join(said[-600:].split())}")


def check_folders(verdict: Verdict, home: Home, *, some: bool = True) -> None:
    """Every student folder that is there can be loaded, and nothing half written lies about."""
    import kdnas

    problems = []
    folders = sorted(path for path in (home.out / "students").glob("*") if not path.name.endswith(".part"))
    for folder in folders:
        try:
            kdnas.load_student(folder)
        except Exception as error:
            problems.append(f"{folder.name}: {error}")
    loadable = not problems and (bool(folders) or not some)
    verdict.check("student folders loadable", loadable, "; ".join(problems) or "none")


def check_end(
    verdict: Verdict, home: Home, before: Mapping[int, Trial], ended: tuple[int, str], *, fails: bool = False
) -> None:
    """A search has ended as if nothing had happened, or, with `fails`, but for trials that cannot be had."""
    code, said = ended
    after = home.read()
    verdict.check("search completes", code == 0 and "Traceback" not in said, f"exit code {code}, {said[-1500:]}")
    check_told(verdict, before, after)
    states = [trial.state for trial in after.values()]
    verdict.check("none RUNNING", "RUNNING" not in states, str(states))
    counted = [one for one in told(after).values() if not one.attribute.get("interrupted")]
    cut_off = [one for one in after.values() if one.attribute.get("interrupted")]
    again = {one.attribute.get("repeats"): one.params for one in after.values()}
    if cut_off:
        verdict.check(
            "cut-off trials asked again",
            all(again.get(one.number) == one.params for one in cut_off),
            str([one.number for one in cut_off if again.get(one.number) != one.params]),
        )
    failed = [one for one in counted if one.state == "FAIL"]
    verdict.check("as many trials as asked", len(counted) == home.trials, f"{len(counted)}: {states}")
    verdict.check(
        "no trial lost" if not fails else "a trial ended as FAIL with its cause",
        bool(failed) == fails and all(one.attribute.get("reason") for one in failed),
        f"{[(one.number, one.attribute.get('reason')) for one in failed]}",
    )
    check_scores(verdict, home, after)
    check_folders(verdict, home)
    left = [str(path.relative_to(home.out)) for path in home.out.rglob("*.part*")]
    verdict.check("nothing half written", not left, ", ".join(left))


def check_scores(verdict: Verdict, home: Home, trials: Mapping[int, Trial]) -> None:
    """The same team has the same objectives as in the undisturbed search, to the last bit."""
    theirs = {team(one): one.values for one in home.undisturbed.values() if one.values}
    ours = {team(one): one.values for one in trials.values() if one.values}
    other = [name for name in ours.keys() & theirs.keys() if ours[name] != theirs[name]]
    if ours.keys() & theirs.keys():
        verdict.check("same scores as undisturbed", not other, "; ".join(other))


def team(trial: Trial) -> str:
    return str(trial.attribute.get("candidate"))
