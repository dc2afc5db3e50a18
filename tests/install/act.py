"""Act with an exported student where only torch, numpy, brevitas, safetensors and pydantic are installed.

    python act.py RUN/students/0007

Run by `.ci/run` in such an environment, not by pytest. Agents and the sizes of what they observe come from
`student.json`.
"""

import json
import sys
from importlib.util import find_spec
from pathlib import Path

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
        check(type(action) is int and 0 <= action < spaces[agent]["action_count"], f"{agent} answers {action!r}")

    batches = {agent: np.stack([single[agent]] * 3) for agent in spaces}
    for agent, chosen in student.act(batches).items():
        check(chosen.tolist() == [actions[agent]] * 3, f"{agent} answers {chosen} in a batch, else {actions[agent]}")

    for agent, size in spaces.items():
        for action in range(size["action_count"]):
            mask = np.arange(size["action_count"]) == action
            chosen = student.act({agent: single[agent]}, masks={agent: mask})[agent]
            check(chosen == action, f"{agent} answers {chosen} where only {action} is legal")
    print(f"{folder}: {len(spaces)} agents acted: {actions}")


def check(holds: bool, otherwise: str) -> None:
    if not holds:
        sys.exit(otherwise)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
