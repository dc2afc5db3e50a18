"""The card of a student folder: `student.json` for people."""

from typing import Any

from kdnas.config.numbers import format_features
from kdnas.spaces.spec import StudentSpec
from kdnas.students.card import StudentCard
from kdnas.units import format_quantity


def render_card(card: StudentCard) -> str:
    """A Markdown page on what the team is, what it keeps, what it costs, and how to use it."""
    cost, teacher = card.cost, card.cost["teacher"]
    retention, returned = card.score["retention"], card.score["return"]
    lines = [
        f"# Student team of {card.environment}, trial {card.trial}",
        "",
        f"Retention {_percent(retention)} of the teacher's return above random play "
        f"(95 % interval {_percent(retention['low'])} to {_percent(retention['high'])}, "
        f"{retention['episodes']} episodes on {card.score['seeds']} seeds); return {returned['mean']:.3f} "
        f"[{returned['low']:.3f}, {returned['high']:.3f}], mean over agents.",
        "",
        *_refinement(card),
        "| team sum, one decision each | student | teacher | times fewer |",
        "|---|---|---|---|",
        _row("FLOPs", cost["flops"], teacher["flops"], "count"),
        _row("MACs", cost["macs"], teacher["macs"], "count"),
        _row("parameters", cost["params"], teacher["params"], "count"),
        _row("memory", cost["memory_bytes"], teacher["memory_bytes"], "memory"),
        *(
            _row(f"latency {share} (sum of agents)", cost["latency_s"][share], teacher["latency_s"][share], "time")
            for share in ("p50", "p95", "p99")
        ),
        *(
            _row(f"{name} (sum of agents)", cost[f"{name}_bytes"], teacher[f"{name}_bytes"], "memory")
            for name in ("flash", "ram")
            if cost[f"{name}_bytes"]
        ),
        "",
        "Memory is the packed weights at their bit-width, biases, scales and activations; a file that stores fewer "
        "than 8 bits in bytes is larger.",
        "",
        f"Measured on {card.target.name} ({_environment(card)}). {card.target.note}",
        "",
        "| group | agents | student | observations | actions |",
        "|---|---|---|---|---|",
        *(
            f"| {group} | {', '.join(entry.agents)} | {StudentSpec.from_json(entry.spec)} | "
            f"{entry.spaces.observation_size} | {entry.spaces.actions.space.outputs} |"
            for group, entry in card.groups.items()
        ),
        "",
        *_unread(card),
        *(
            f"`{', '.join(artifact.files)}` chooses the same action as the students on {artifact.agreed_rows:,} of "
            f"{artifact.checked_rows:,} recorded observations (largest difference of a logit {artifact.max_error:.2g}; "
            f"ties go to the lowest index).{' ' * bool(artifact.note)}{artifact.note}"
            for artifact in card.artifacts
        ),
        "",
        "```python",
        "import kdnas",
        "",
        'team = kdnas.load_student("path/of/this/folder")',
        f"team.act({{{_example(card)}}})",
        "```",
        "",
        f"Made by kdnas {card.kdnas_version}. Weights SHA-256 `{card.hashes.weights}`.",
        "",
    ]
    return "\n".join(lines)


def _percent(value: Any) -> str:
    return f"{100 * float(value['mean'] if isinstance(value, dict) else value):.1f} %"


def _row(name: str, student: float, teacher: float, dimension: Any) -> str:
    both = (student, teacher)
    shown = [f"{value:,}" if dimension == "count" else format_quantity(value, dimension) for value in both]
    return f"| {name} | {' | '.join(shown)} | {teacher / student:.1f} |" if student else f"| {name} | - | - | - |"


def _environment(card: StudentCard) -> str:
    return ", ".join(f"{name} {value}" for name, value in card.target.fingerprint.items())


def _unread(card: StudentCard) -> list[str]:
    """What is shown to the students and not read; nothing where they read all."""
    lines = []
    for what, unread in (
        ("never changed in the demonstrations", {g: entry.spaces.constant for g, entry in card.groups.items()}),
        ("mattered least", {group: entry.spaces.pruned for group, entry in card.groups.items()}),
    ):
        if told := [f"{format_features(own)} of {group}" for group, own in unread.items() if own]:
            lines += [f"Features that {what} are not read: {'; '.join(told)}.", ""]
    return lines


def _refinement(card: StudentCard) -> list[str]:
    """What was done after the search, and how good the search's estimate was; nothing where nothing was."""
    lines = []
    if card.refinements:
        done = "; ".join(str(refinement) for refinement in card.refinements)
        lines = [f"After the search the students were trained on together: {done}.", ""]
    if (hindsight := card.hindsight) is None:
        return lines
    added = ""
    if (more := hindsight.refinement) is not None:
        added = f"; refinement added {100 * more.mean:.1f} points ({100 * more.low:+.1f} to {100 * more.high:+.1f})"
    return [
        *lines,
        f"The search chose the team by an estimate of {_percent(hindsight.search.mean)} for the weights that it "
        f"trained; on the final seeds these keep {_percent(hindsight.final.mean)}{added}.",
        "",
    ]


def _example(card: StudentCard) -> str:
    return ", ".join(
        f'"{agent}": [0.0] * {entry.spaces.observation_size}'
        for entry in card.groups.values()
        for agent in entry.agents
    )
