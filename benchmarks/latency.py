"""What a decision costs, of the same network in torch, TorchScript, onnxruntime, NumPy and C, side by side.

    python benchmarks/latency.py

One thread, one observation, from a float32 array to the index of the action. Networks are the 256x256 teacher of
`spread` and students with random weights, quantizers calibrated on random observations; all act alike, or the benchmark
fails. A chunk is `CHUNK_S` of calls in a row; all ways of all bit-widths of a shape take turns chunk by chunk, so that
what else the machine does hits them alike. Of the chunks of a repetition the 50th and 95th percentile are taken, and of
these the median, the lowest and the highest over the repetitions. What C of integers takes to C of floats of the same
shape is compared chunk by chunk, each with the one beside it: the median of these ratios, and its 95 % interval by the
sign test.

`C from Python` is `team.c`, compiled with -O3, through ctypes with its pointers bound once and the action read;
`C alone` is a loop in C around the same function. `tuned` and `BLAS` (that of SciPy) are in `latency.c`.
"""

import ctypes
import json
import platform
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from kdnas.envs.spec import AgentSpec, EnvSpec
from kdnas.export import CExporter
from kdnas.export.c_library import compile_library, find_compiler
from kdnas.export.graph import make_model, open_session
from kdnas.export.piece import trace
from kdnas.policies.actions import Discrete
from kdnas.profiling import OnnxTarget
from kdnas.spaces.space import parse_bits
from kdnas.spaces.spec import StudentSpec
from kdnas.students.family import load_family
from kdnas.students.integer import to_integers
from kdnas.students.student import Student
from kdnas.students.team import Team
from kdnas.study.setup import open_study, read_study

SHAPES = ((16,), (24, 24), (64, 64))
FAMILIES = ("mlp", "mlp_softsign")
BITS = ("float", "w8a8i8", "w4a8i8")
SPACES = AgentSpec(observation_size=18, actions=Discrete(5))
ROWS, CHUNK_S, ROUNDS, REPETITIONS = 64, 5e-4, 60, 7
RESULT = Path(__file__).parent / "results" / "latency.json"

Way = Callable[[int], float]
"""Seconds a decision, of so many in a row."""


def main() -> None:
    """Run the benchmark, print a line a network, write `results/latency.json`."""
    torch.set_num_threads(1)
    rows = measure({"teacher": _teacher()})
    for family in FAMILIES:
        for hidden in SHAPES:
            shape = f"{family} {_shape(hidden)}"
            rows += measure({f"{shape} {bits}": make_student(family, hidden, bits) for bits in BITS})
    result = {
        "command": "python benchmarks/latency.py",
        "rows": rows,
        "protocol": {"chunk_s": CHUNK_S, "chunks": ROUNDS, "repetitions": REPETITIONS, "threads": 1},
        "cpu": OnnxTarget().fingerprint()["cpu"],
        "compiler": subprocess.check_output([str(find_compiler()), "--version"], text=True).splitlines()[0],
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "onnxruntime": OnnxTarget().fingerprint()["version"],
        },
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n")


def make_student(family: str, hidden: tuple[int, ...], bits: str) -> Student:
    """A student with random weights, its quantizers as 40 random batches leave them."""
    generator, known = torch.Generator().manual_seed(0), load_family(family)
    spec = StudentSpec(family=family, base=hidden, hidden=hidden, bits=parse_bits(bits))
    network = known.build(spec.floating, SPACES, generator)
    if spec.bits.quantized:
        network = known.quantize(network, spec).train()
        for _ in range(40):
            network(torch.randn(64, SPACES.observation_size, generator=generator))
    return Student(spec, SPACES, network).eval()


def _teacher() -> Student:
    """The actor of `spread` as a student, which it has the form of."""
    (actor,) = {id(each): each for each in open_study(read_study("spread")).teacher.actors.values()}.values()
    linears = [module for module in actor.modules() if isinstance(module, torch.nn.Linear)]
    student = make_student("mlp", tuple(linear.out_features for linear in linears[:-1]), "float")
    with torch.no_grad():
        for own, taught in zip(student.network.linears, linears, strict=True):
            own.weight.copy_(taught.weight)
            own.bias.copy_(taught.bias)
        probe = torch.randn(100, SPACES.observation_size)
        if not torch.allclose(student(probe), actor(probe), atol=1e-4):
            raise SystemExit("latency: the teacher of spread is no perceptron with ReLU")
    return student


def measure(students: dict[str, Student]) -> list[dict[str, Any]]:
    """Rows of the result, of networks by name that take turns."""
    with TemporaryDirectory() as folder:
        ways: dict[tuple[str, str], Way] = {}
        for at, (name, student) in enumerate(students.items()):
            own = make_ways(student, Path(folder) / str(at), tuned=name == "mlp 18-64-64-5 float")
            ways |= {(way, name): run for way, run in own.items()}
        calls = {}
        for key, run in ways.items():
            run(20)
            calls[key] = max(1, int(CHUNK_S / run(100)))
        ways = {key: ways[key] for key in sorted(ways)}  # one way of all networks, then the next
        spread: dict[tuple[str, str], list[tuple[float, float]]] = {key: [] for key in ways}
        alone: dict[str, list[float]] = {name: [] for name in students}
        for _ in range(REPETITIONS):
            chunks: dict[tuple[str, str], list[float]] = {key: [] for key in ways}
            for _ in range(ROUNDS):
                for key, run in ways.items():
                    chunks[key].append(run(calls[key]))
            for key, seen in chunks.items():
                p50, p95 = np.percentile(seen, [50, 95])
                spread[key].append((float(p50), float(p95)))
            for name in students:
                alone[name] += chunks["C alone", name]
    rows: dict[str, dict[str, Any]] = {name: {"network": name, "ways": {}} for name in students}
    for (way, name), pairs in spread.items():
        first, last = np.array(pairs).T
        rows[name]["ways"][way] = {"p50_s": float(np.median(first)), "lowest_p50_s": float(first.min()),
                                   "highest_p50_s": float(first.max()), "p95_s": float(np.median(last))}  # fmt: skip
    floats = next((name for name in students if name.endswith("float")), None)
    for name, row in rows.items():
        if floats is not None and name != floats:
            row["c_to_float"] = median_ratio(alone[name], alone[floats])
        print(f"{name}: " + ", ".join(f"{way} {1e6 * own['p50_s']:.2f}" for way, own in row["ways"].items()) + " us",
              flush=True)  # fmt: skip
    return list(rows.values())


def median_ratio(some: list[float], others: list[float]) -> dict[str, float]:
    """Of chunks side by side: the median ratio, and the order statistics that hold it in 95 of 100 cases."""
    ratios = np.sort(np.array(some) / np.array(others))
    reach = 0.98 * np.sqrt(len(ratios))  # 1.96 standard deviations of how many of so many fair coins show heads
    low, high = ratios[int(len(ratios) / 2 - reach)], ratios[int(len(ratios) / 2 + reach)]
    return {"median": float(np.median(ratios)), "low": float(low), "high": float(high)}


def make_ways(student: Student, folder: Path, *, tuned: bool) -> dict[str, Way]:
    """Ways of deciding, by name; each has decided on `ROWS` observations as C does on all but one in twenty."""
    seen = np.random.default_rng(0).standard_normal((ROWS, SPACES.observation_size)).astype(np.float32)
    one, tensor = seen[:1].copy(), torch.from_numpy(seen[:1].copy())
    network, scripted = student.network, torch.jit.freeze(torch.jit.trace(student.network, tensor))
    piece = trace(student, student.probe(), group="a")
    session = open_session(make_model({"a": SPACES}, piece.nodes("a"), piece.weights).SerializeToString())
    numpy = _numpy(student)

    def eager(observation: Any) -> int:
        with torch.inference_mode():
            return int(network(torch.from_numpy(observation)).argmax())

    def script(observation: Any) -> int:
        with torch.inference_mode():
            return int(scripted(torch.from_numpy(observation)).argmax())

    def onnx(observation: Any) -> int:
        return int(session.run(["a.action"], {"a.observation": observation})[0][0])

    ways = {way: _python(call, one) for way, call in
            (("torch", eager), ("TorchScript", script), ("onnxruntime", onnx), ("NumPy", numpy))}  # fmt: skip
    team = Team(EnvSpec(name="latency", agents={"a": SPACES}, groups={"g": ("a",)}, state_size=1), {"g": student})
    CExporter().export(team, folder, recorded={"g": seen})
    compile_library(str(find_compiler()), folder, folder / "team.so", prefix="kdnas", trace=False)
    subprocess.run([str(find_compiler()), "-O3", "-march=native", "-shared", "-fPIC",
                    str(Path(__file__).with_name("latency.c")), "-o", str(folder / "loop.so")], check=True)  # fmt: skip
    step, loop = ctypes.CDLL(str(folder / "team.so")).kdnas_g_step, ctypes.CDLL(str(folder / "loop.so"))
    action, at, nothing = ctypes.c_int32(), ctypes.c_void_p(one.ctypes.data), ctypes.c_void_p()
    into = ctypes.byref(action)
    step.restype = None

    def bound(_: Any) -> int:
        step(at, into, nothing)
        return action.value

    ways["C from Python"] = _python(bound, one)
    ways["C alone"] = _alone(loop, step, seen)
    if tuned:
        _fill(loop, student)
        ways["tuned"] = _alone(loop, loop.tuned_step, seen)
        ways["BLAS"] = _alone(loop, loop.blas_step, seen)

    def of(function: Any, row: int) -> int:
        own = np.ascontiguousarray(seen[row])
        function(ctypes.c_void_p(own.ctypes.data), into, nothing)
        return action.value

    functions = [step, *([loop.tuned_step, loop.blas_step] if tuned else [])]
    chosen = [[call(seen[row : row + 1]) for row in range(ROWS)] for call in (eager, script, onnx, numpy)]
    chosen += [[of(function, row) for row in range(ROWS)] for function in functions]
    if (np.array(chosen) == np.array(chosen[4])).mean(1).min() < 0.95:
        raise SystemExit(f"latency: {student.spec} does not act alike in all ways")
    return ways


def _numpy(student: Student) -> Callable[[Any], int]:
    if student.spec.bits.quantized:
        integers = to_integers(student)
        return lambda observation: int(integers.outputs(observation)[0].argmax())
    linears: list[Any] = list(student.network.linears)
    layers = [(linear.weight.detach().numpy().T.copy(), linear.bias.detach().numpy()) for linear in linears]
    signed = student.spec.family == "mlp_softsign"

    def decide(observation: Any) -> int:
        values = observation[0]
        for weights, biases in layers[:-1]:
            values = values @ weights + biases
            values = values / (1 + np.abs(values)) if signed else np.maximum(values, 0)
        return int((values @ layers[-1][0] + layers[-1][1]).argmax())

    return decide


def _python(call: Callable[[Any], int], observation: Any) -> Way:
    def run(calls: int) -> float:
        start = time.perf_counter()
        for _ in range(calls):
            call(observation)
        return (time.perf_counter() - start) / calls

    return run


def _alone(loop: Any, step: Any, seen: Any) -> Way:
    time_step = loop.time_step
    time_step.restype = ctypes.c_double
    time_step.argtypes = [ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_size_t] * 3]
    place = ctypes.cast(step, ctypes.c_void_p)
    return lambda calls: float(time_step(place, seen.ctypes.data, len(seen), seen.shape[1], calls)) * 1e-9


def _fill(loop: Any, student: Student) -> None:
    """Give the networks of `latency.c` their weights, and the BLAS that comes with SciPy."""
    import scipy

    libraries = Path(scipy.__file__).parents[1] / "scipy.libs"
    blas = ctypes.CDLL(str(next(libraries.glob("libscipy_openblas*"))))
    linears: list[Any] = list(student.network.linears)
    tables = [linear.weight.detach().numpy().T for linear in linears]
    tables[-1] = np.pad(tables[-1], ((0, 0), (0, 3)))
    biases = np.concatenate([*(linear.bias.detach().numpy() for linear in linears), np.zeros(3, np.float32)])
    kept = [np.ascontiguousarray(table, np.float32) for table in [*tables, biases]]
    loop.fill(*(ctypes.c_void_p(table.ctypes.data) for table in kept), blas.scipy_cblas_sgemv)


def _shape(hidden: tuple[int, ...]) -> str:
    return "-".join(map(str, (SPACES.observation_size, *hidden, SPACES.actions.outputs)))


if __name__ == "__main__":
    main()
