"""Act with an exported student where only torch, numpy, brevitas, safetensors and pydantic are installed.

    python act.py RUN/students/0007

Run by `.ci/run` in such an environment, not by pytest. Agents and the sizes of what they observe come from
`student.json`.
"""

import json
import sys
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

import kdnas

ABSENT = ("fvcore", "mpe2", "onnx", "onnxruntime", "optuna", "pettingzoo", "rich", "torch_pruning", "typer")
"""What a search needs and a student must not."""


def main(folder: Path) -> None:
    present = [name for name in ABSENT if find_spec(name) is not None]
    if present:
        sys.exit(f"this environment proves nothing: it has {', '.join(present)}")
    card = json.loads((folder / "student.json").read_text(encoding="utf-8"))
    spaces = {agent: group["spaces"] for group in card["groups"].values() for agent in group["agents"]}
    generator = np.random.default_rng(0)
    student = kdnas.load_student(folder)

    single = {agent: generator.normal(size=size["observation_size"]) for agent, size in spaces.items()}
    actions = student.act(single)
    check(set(actions) == set(spaces), f"acts for {sorted(actions)} and not for {sorted(spaces)}")
    for agent, action in actions.items():
        check(allowed(action, spaces[agent]["actions"]), f"{agent} answers {action!r}")

    student.reset()  # students may remember
    batches = {agent: np.stack([single[agent]] * 3) for agent in spaces}
    for agent, chosen in student.act(batches).items():
        alike = chosen.shape == (3, *np.shape(actions[agent])) and np.allclose(chosen, actions[agent], atol=1e-5)
        check(alike, f"{agent} answers {chosen} in a batch, else {actions[agent]}")

    for agent, size in spaces.items():
        counts = size["actions"]["counts"]  # none of continuous actions, which have no mask
        for only in product(*map(range, counts)) if counts else ():
            mask = np.concatenate([np.arange(count) == one for count, one in zip(counts, only, strict=True)])
            student.reset()
            chosen = np.reshape(student.act({agent: single[agent]}, masks={agent: mask})[agent], -1)
            check(chosen.tolist() == list(only), f"{agent} answers {chosen} where only {only} is legal")
    print(f"{folder}: {len(spaces)} agents acted: {actions}")


def allowed(action: Any, space: dict[str, Any]) -> bool:
    """Whether an action is one of those that the card names."""
    if space["kind"] == "discrete":
        return type(action) is int and 0 <= action < space["counts"][0]
    if space["kind"] == "multi-discrete":
        return action.shape == (len(space["counts"]),) and all((action >= 0) & (action < space["counts"]))
    low, high = (np.array(space[bound], np.float32) for bound in ("low", "high"))  # None, no bound, becomes NaN
    return action.shape == low.shape and not ((action < low) | (action > high)).any()


def check(holds: bool, otherwise: str) -> None:
    if not holds:
        sys.exit(otherwise)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
