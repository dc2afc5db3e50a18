"""Which terms of the loss a student and its teacher allow."""

from kdnas.config.study import LossTable
from kdnas.errors import ConfigError
from kdnas.policies.actions import ActionSpace, Box


def check_terms(
    loss: LossTable,
    group: str,
    *,
    actions: ActionSpace,
    other_agents: int,
    hidden_layer: bool,
    q_temperature: float | None,
) -> None:
    """Refuse a loss that cannot be computed for a group's students, before anything is recorded or trained.

    Args:
        loss: `[distill.loss]`.
        group: the group, for the sentence.
        actions: of its agents.
        other_agents: agents of the whole team but one.
        hidden_layer: whether roles can be taken from its teacher (`kdnas.teachers.roles.has_roles`).
        q_temperature: of its teacher's `Reading`.

    Raises:
        ConfigError: no term has a weight, or one that has it needs what is not there.
    """
    if not any((loss.kl, loss.cross_entropy, loss.relation, loss.role, loss.q)):
        raise ConfigError(
            "distill.loss: every weight is 0, so nothing would be learned; give kl, cross_entropy, relation, role or q "
            "a weight above 0"
        )
    where = f"the students of group {group!r}"
    if loss.cross_entropy and isinstance(actions, Box):
        raise ConfigError(
            f"distill.loss.cross_entropy = {loss.cross_entropy}: {where} have continuous actions, for which it is the "
            "same as kl up to a constant; set cross_entropy = 0 and use kl"
        )
    if loss.relation and not other_agents:
        raise ConfigError(
            f"distill.loss.relation = {loss.relation}: {where} have no other agent to relate to; set relation = 0"
        )
    if loss.role and not hidden_layer:
        raise ConfigError(
            f"distill.loss.role = {loss.role}: the teacher of group {group!r} has no nn.Linear, so no hidden layer "
            "that roles can be taken from; set role = 0"
        )
    if loss.q and q_temperature is None:
        raise ConfigError(
            f"distill.loss.q = {loss.q}: the teacher of group {group!r} says no action values; set q = 0, or give its "
            "Reading a q_temperature if its network does say them"
        )
