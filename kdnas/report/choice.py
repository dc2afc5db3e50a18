"""Why a selector means a member of a front, in a sentence."""

from kdnas.study.front import ParetoFront
from kdnas.study.one_se import best_of
from kdnas.study.selector import parse_selector


def describe_choice(front: ParetoFront, selector: str) -> str:
    """Which student a selector means, where it lies, and for the one-standard-error rule among how many it chose.

    Raises:
        BudgetError: the selector cannot be read, or no member meets it.
    """
    chosen, read = front.best(selector), parse_selector(selector)
    said = f"{selector}: trial {chosen.trial}, {chosen.path}"
    if not read.one_se:
        return said
    close = read.candidates(front)
    best = best_of(close)
    score = best.score.retention
    how = f"paired over {score.episodes:,} episodes" if best.parts is not None else "by the interval of the best"
    return f"{said}; {len(close)} of {len(front)} are within one standard error of trial {best.trial}, {how}"
