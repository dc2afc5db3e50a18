"""What a step of quantization-aware training costs, as a multiple of the float step of the same network.

    python benchmarks/qat_step.py

A step is forward, KL, backward and fused Adam on 1,024 rows, one thread, w4a8i8. The three ways to train take turns, so
that what else the machine does hits them alike; the ratio is of the shortest times.
"""

import json
import platform
import time
from pathlib import Path

import torch
from torch import nn

from kdnas.compress import quantize, training_twin
from kdnas.distill.losses import divergence
from kdnas.envs.spec import AgentSpec
from kdnas.policies.actions import Discrete
from kdnas.profiling import OnnxTarget
from kdnas.spaces.space import parse_bits
from kdnas.spaces.spec import StudentSpec
from kdnas.students import Student, load_family

SPACES = AgentSpec(observation_size=18, actions=Discrete(5))
SHAPES = ((24, 24), (64, 64))
ROWS, STEPS, TURNS = 1024, 40, 25
GOAL = 3.0
"""Float steps that a quantization-aware one may cost."""
RESULT = Path(__file__).parent / "results" / "qat_step.json"


def main() -> None:
    """Run the benchmark, print a line a shape, write `results/qat_step.json`."""
    torch.set_num_threads(1)
    rows = []
    for hidden in SHAPES:
        times = step_times(hidden)
        ratios = {way: times[way] / times["float"] for way in ("twin", "brevitas")}
        shape = "-".join(map(str, (18, *hidden, 5)))
        print(f"{shape}: float {1e6 * times['float']:.0f} us, twin {ratios['twin']:.2f}x (goal {GOAL:g}x), "
              f"brevitas {ratios['brevitas']:.2f}x")  # fmt: skip
        rows.append({"shape": shape, "float_step_s": times["float"], "ratios": ratios})
    result = {
        "steps": rows,
        "goal": GOAL,
        "cpu": OnnxTarget().fingerprint()["cpu"],
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
    }
    RESULT.write_text(json.dumps(result, indent=2) + "\n")


def step_times(hidden: tuple[int, ...]) -> dict[str, float]:
    """Seconds of the shortest mean step of `STEPS`, for `float`, `twin` and `brevitas`."""
    family, generator = load_family("mlp"), torch.Generator().manual_seed(0)
    floating = StudentSpec(family="mlp", base=hidden, hidden=hidden)
    integer = StudentSpec(family="mlp", base=hidden, hidden=hidden, bits=parse_bits("w4a8i8"))
    dense = Student(floating, SPACES, family.build(floating, SPACES, generator))
    seen = [torch.randn(ROWS, 18, generator=generator) for _ in range(40)]
    logits = torch.randn(ROWS, 5, generator=generator)
    pupils: dict[str, nn.Module] = {
        "float": dense,
        "twin": training_twin(quantize(dense, integer, family, seen), family),
        "brevitas": quantize(dense, integer, family, seen),
    }
    optimizers = {way: torch.optim.Adam(pupil.parameters(), lr=1e-4, fused=True) for way, pupil in pupils.items()}
    best = dict.fromkeys(pupils, float("inf"))
    for _ in range(TURNS):
        for way, pupil in pupils.items():
            pupil.train()
            start = time.perf_counter()
            for step in range(STEPS):
                optimizers[way].zero_grad()
                divergence(SPACES.actions, pupil(seen[step % len(seen)]), logits, None, 1.0).mean().backward()
                optimizers[way].step()
            best[way] = min(best[way], (time.perf_counter() - start) / STEPS)
    return best


if __name__ == "__main__":
    main()
