"""What binds a front, in sentences."""

from kdnas.study.limits import Limit


def describe_limit(limit: Limit) -> str:
    """One sentence on a limit of the budget.

    Example: `flops<5% binds: the front's most expensive student (trial 7) uses 98 % of it; 41 of 60 rejected candidates
    broke only it`.
    """
    used = f"the front's most expensive student (trial {limit.trial}) uses {_percent(limit.used)} of it"
    if limit.binds:
        verdict = "binds"
    elif limit.binds_with_others:
        verdict = "binds together with others"
    else:
        verdict = "leaves room"
        if not limit.reached:
            used += f", and others that were tried up to {_percent(limit.tried)}"
    if not limit.rejected:
        kept_out = "no candidate was rejected"
    elif not limit.broke:
        kept_out = f"none of {limit.rejected} rejected candidates broke it"
    elif not limit.broke_only:
        kept_out = f"{limit.broke} of {limit.rejected} rejected candidates broke it, all of them others too"
    else:
        kept_out = f"{limit.broke_only} of {limit.rejected} rejected candidates broke only it"
    return f"{limit.text} {verdict}: {used}; {kept_out}"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
