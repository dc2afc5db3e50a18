"""Hard limits on what a team costs, and the costs that they limit."""

from kdnas.budgets.budget import TEAM, Budget, Constraint, parse_budget, parse_constraint
from kdnas.budgets.cost import Cost, TeamCost
from kdnas.budgets.metric import METRICS, Metric

__all__ = ["METRICS", "TEAM", "Budget", "Constraint", "Cost", "Metric", "TeamCost", "parse_budget", "parse_constraint"]
