"""`kdnas profile`."""

from kdnas.cli.render import command
from kdnas.cli.search import BudgetOption, StudyArgument, TargetOption


@command
def profile(study: StudyArgument = "spread", budget: BudgetOption = None, target: TargetOption = None) -> None:
    """Price the smallest, median and largest candidate and the teacher against a budget; nothing is trained.

    Exit code 2 when no candidate meets the budget, with the limit that blocks and by how much.
    """
    from kdnas.cli.progress import show_preflight
    from kdnas.study.search import profile as run_profile

    show_preflight(run_profile(study, budget=budget, target=target))
