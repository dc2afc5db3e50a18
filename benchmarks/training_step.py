"""What a training step costs, as a multiple of the bare step of the same network in plain torch.

    python benchmarks/training_step.py

Bare is forward, KL, backward and fused Adam on 1,024 rows that lie side by side, one thread. `float` and `w4a8i8` are
steps of kdnas' own training, from the drawing of the rows to the check for NaN; on-policy episodes are not counted.
`brevitas` is the bare step of the quantized network as brevitas makes it, which nothing here is trained on. The ways
take turns, so that what else the machine does hits them alike; ratios are of the shortest times.
"""

import json
import platform
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import nn

from kdnas.compress import quantize, training_twin
from kdnas.config.study import DistillTable
from kdnas.distill import open_classroom
from kdnas.distill.memory import LessonMemory
from kdnas.distill.teaching import Teaching
from kdnas.distill.trainer import train
from kdnas.profiling import OnnxTarget
from kdnas.spaces.space import parse_bits
from kdnas.spaces.spec import StudentSpec
from kdnas.students import Student, load_family
from kdnas.study.setup import open_study, read_study
from kdnas.study.tasks import record_demonstrations

SHAPES = ((24, 24), (64, 64))
STEPS, TURNS = 100, 15
GOALS = {"float": 1.3, "w4a8i8": 3 * 1.3}
"""Bare steps that a step may cost: a float one 1.3, a quantization-aware one three float ones."""
RESULT = Path(__file__).parent / "results" / "training_step.json"


def main() -> None:
    """Run the benchmark, print a line a shape, write `results/training_step.json`."""
    torch.set_num_threads(1)
    rows = []
    for hidden in SHAPES:
        shape, times = step_times(hidden)
        ratios = {way: took / times["bare"] for way, took in times.items() if way != "bare"}
        print(f"{shape}: bare {1e6 * times['bare']:.0f} us, "
              + ", ".join(f"{way} {ratio:.2f}x" for way, ratio in ratios.items()))  # fmt: skip
        rows.append({"shape": shape, "bare_step_s": times["bare"], "ratios": ratios})
    result = {
        "steps": rows,
        "goals": GOALS,
        "cpu": OnnxTarget().fingerprint()["cpu"],
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
    }
    RESULT.write_text(json.dumps(result, indent=2) + "\n")


def step_times(hidden: tuple[int, ...]) -> tuple[str, dict[str, float]]:
    """The shape of the network, and seconds of the shortest mean step of `STEPS` in each way."""
    setup = open_study(read_study("spread"))
    pool, family, generator = setup.pools["agent_0"], load_family("mlp"), torch.Generator().manual_seed(0)
    recipe = DistillTable(demonstration_episodes=400, on_policy_rounds=0)
    with TemporaryDirectory() as folder:
        episodes = record_demonstrations(setup, Path(folder)).episodes(list(setup.spec.groups))
        room = open_classroom(setup.env, setup.teacher, pool, recipe, episodes, copies=256, max_steps=25, seed=0)
        lessons = room.lessons(episodes)
    memory = LessonMemory(lessons, recipe.memory_rows, generator)
    floating = StudentSpec(family="mlp", base=hidden, hidden=hidden)
    integer = StudentSpec(family="mlp", base=hidden, hidden=hidden, bits=parse_bits("w4a8i8"))
    dense = Student(floating, pool.spaces, family.build(floating, pool.spaces, generator))
    seen = [memory.batch(recipe.batch).views for _ in range(40)]
    slow = quantize(dense, integer, family, seen)
    pupils = {"float": dense, "w4a8i8": training_twin(quantize(dense, integer, family, seen), family)}

    def trained(pupil: Student) -> Callable[[], None]:
        teaching = Teaching(room, pupil, generator)

        def run() -> None:
            train(pupil, room, memory, teaching, steps=STEPS, on_policy_rounds=0, learning_rate=1e-4, seed=0)

        return run

    own = family.build(floating, pool.spaces, generator)
    ways = {"bare": bare_steps(own, lessons.views, lessons.parameters)}
    ways |= {name: trained(pupil) for name, pupil in pupils.items()}
    ways["brevitas"] = bare_steps(slow, lessons.views, lessons.parameters)
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(TURNS):
        for way, run in ways.items():
            start = time.perf_counter()
            run()
            best[way] = min(best[way], (time.perf_counter() - start) / STEPS)
    sizes = (pool.spaces.observation_size, *hidden, pool.spaces.actions.outputs)
    return "-".join(map(str, sizes)), best


def bare_steps(network: nn.Module, views: torch.Tensor, logits: torch.Tensor) -> Callable[[], None]:
    """`STEPS` steps as anybody would write them."""
    network.train()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4, fused=True)

    def run() -> None:
        for step in range(STEPS):
            rows = slice(64 * step, 64 * step + 1024)
            said, taught = network(views[rows]).log_softmax(-1), logits[rows].log_softmax(-1)
            optimizer.zero_grad()
            (taught.exp() * (taught - said)).sum(-1).mean().backward()
            optimizer.step()

    return run


if __name__ == "__main__":
    main()
