"""Which features never change in the demonstrations, and so tell a student nothing."""

import numpy as np

from kdnas.distill.pool import Pool
from kdnas.teachers.episodes import Episodes


def constant_features(demonstrations: Episodes, pool: Pool) -> tuple[int, ...]:
    """The features of a pool's view that are equal in every decision of its agents, in ascending order.

    They are equal over all groups of the pool: a feature that tells one group from another is none of them. Features
    of a member of a set of entities are left, for all members share one encoder, and so is one feature where all are
    constant. NaN is equal to nothing.

    Example: in simple_spread, whose agents do not talk, the words of the two others: 14, 15, 16 and 17 of 18.
    """
    views = np.concatenate([demonstrations.groups[group].rows.views for group in pool.groups])
    sets = () if pool.spaces.entities is None else pool.spaces.entities.sets
    needed = {feature for each in sets for member in each.members for feature in member}
    same = (views == views[:1]).all(0)
    found = tuple(feature for feature in range(views.shape[1]) if same[feature] and feature not in needed)
    return found[1:] if len(found) == views.shape[1] else found
