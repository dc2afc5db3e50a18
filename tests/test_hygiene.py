"""What no review should have to look for: unpickling, global generators, stray prints, files longer than a sitting."""

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

LONGEST = 320
"""Lines of a file that is one sitting."""

PICKLERS = {"_pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "pickle", "shelve"}

OWN_GENERATORS = {"BitGenerator", "Generator", "MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64", "SeedSequence"} | {
    "default_rng"
}
"""What `numpy.random` offers that is not the global generator."""

DRAWS = {"bernoulli", "multinomial", "normal", "poisson", "rand", "randint", "randn", "randperm"}
"""Functions of torch that draw from the global generator unless they are given one."""

FILLS = {"dirac_", "eye_", "constant_", "ones_", "zeros_", "calculate_gain"}
"""Functions of `torch.nn.init` that draw nothing."""

Finding = tuple[int, str]
"""Line, and what stands there."""


def calls(tree: ast.AST) -> Iterator[tuple[ast.Call, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield node, ast.unparse(node.func)


def keywords(call: ast.Call) -> dict[str | None, str]:
    return {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}


def unsafe_loads(tree: ast.AST) -> Iterator[Finding]:
    """`torch.load` without `weights_only=True`, under whatever name it was imported."""
    own = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "torch"
        for alias in node.names
        if alias.name == "load"
    }
    for call, name in calls(tree):
        is_load = name in own or (name.startswith(("torch.", "th.")) and name.endswith(".load"))
        if is_load and keywords(call).get("weights_only") != "True":
            yield call.lineno, f"{name}() without weights_only=True"
        if keywords(call).get("allow_pickle", "False") != "False":
            yield call.lineno, f"{name}(allow_pickle=...)"


def pickling(tree: ast.AST) -> Iterator[Finding]:
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        yield from ((node.lineno, f"import of {name}") for name in names if name.partition(".")[0] in PICKLERS)
    yield from ((call.lineno, "torch.save()") for call, name in calls(tree) if name == "torch.save")


def global_generators(tree: ast.AST) -> Iterator[Finding]:
    """Draws from, and seeds of, the generators of torch, numpy and Python that all code shares."""
    modules = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    for call, name in calls(tree):
        head, _, last = name.rpartition(".")
        numpy_global = head in ("np.random", "numpy.random") and last not in OWN_GENERATORS
        torch_seed = head in ("torch", "torch.random", "torch.cuda") and last in (
            "manual_seed",
            "manual_seed_all",
            "seed",
        )
        torch_draw = head == "torch" and last in DRAWS and "generator" not in keywords(call)
        initial = (
            head.endswith("init") and last.endswith("_") and last not in FILLS and "generator" not in keywords(call)
        )
        python = head == "random" and "random" in modules and last not in ("Random", "SystemRandom")
        if numpy_global or torch_seed or torch_draw or initial or python:
            yield call.lineno, f"{name}() draws from or seeds a global generator"
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module in ("random", "numpy.random"):
            shared = {alias.name for alias in node.names} - OWN_GENERATORS - {"Random", "SystemRandom"}
            yield from ((node.lineno, f"{name} of {node.module} is global") for name in sorted(shared))


def prints(tree: ast.AST) -> Iterator[Finding]:
    yield from ((call.lineno, "print()") for call, name in calls(tree) if name == "print")


def findings(file: Path, rule: Callable[[ast.AST], Iterator[Finding]], source: str | None = None) -> list[str]:
    text = file.read_text(encoding="utf-8") if source is None else source
    shown = file.relative_to(ROOT) if file.is_relative_to(ROOT) else file
    return [f"{shown}:{line}: {said}" for line, said in rule(ast.parse(text, str(file)))]


def pages_findings(page: Path) -> list[str]:
    """Unsafe loads in the Python blocks of a Markdown page; what is no whole Python is read line by line."""
    text = page.read_text(encoding="utf-8")
    said = []
    for block in re.finditer(r"```(?:python|py)[^\n]*\n(.*?)```", text, re.DOTALL):
        source = "\n" * text[: block.start(1)].count("\n") + block[1]
        try:
            said += findings(page, unsafe_loads, source)
        except SyntaxError:
            lines = enumerate(source.splitlines(), start=1)
            said += [
                f"{page.name}:{number}: torch.load() without weights_only=True"
                for number, line in lines
                if "torch.load(" in line and "weights_only=True" not in line
            ]
    return said


def python_files(*folders: str) -> list[Path]:
    return sorted(file for folder in folders for file in (ROOT / folder).glob("**/*.py"))


HOUSE = python_files("kdnas")


def test_there_is_something_to_read():
    assert len(HOUSE) > 20


def test_nothing_is_unpickled():
    files = [*python_files("kdnas", "benchmarks", "tests", "docs", "examples"), *sorted(ROOT.glob("*.py"))]
    assert [said for file in files for said in findings(file, unsafe_loads)] == []
    assert [said for file in HOUSE for said in findings(file, pickling)] == []


def test_no_page_teaches_to_unpickle():
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
    assert [said for page in sorted(pages) for said in pages_findings(page)] == []


def test_no_global_generator():
    assert [said for file in HOUSE for said in findings(file, global_generators)] == []


def test_only_the_command_line_prints():
    silent = [file for file in HOUSE if file.relative_to(ROOT).parts[1] != "cli"]
    assert [said for file in silent for said in findings(file, prints)] == []


def test_a_file_is_one_sitting():
    lengths = {str(file.relative_to(ROOT)): len(file.read_text(encoding="utf-8").splitlines()) for file in HOUSE}
    assert {name: length for name, length in lengths.items() if length > LONGEST} == {}


# The rules themselves.


@pytest.mark.parametrize(
    ("rule", "source"),
    [
        (unsafe_loads, "torch.load(path)"),
        (unsafe_loads, "torch.load(path, weights_only=False)"),
        (unsafe_loads, "torch.load(path, weights_only=safe)"),
        (unsafe_loads, "torch.serialization.load(path)"),
        (unsafe_loads, "from torch import load as read\nread(path)"),
        (unsafe_loads, "np.load(path, allow_pickle=True)"),
        (pickling, "import pickle"),
        (pickling, "def late():\n    from pickle import loads"),
        (pickling, "import torch, cloudpickle as cp"),
        (pickling, "torch.save(net, path)"),
        (global_generators, "torch.manual_seed(0)"),
        (global_generators, "torch.randn(3)"),
        (global_generators, "nn.init.orthogonal_(weight)"),
        (global_generators, "np.random.seed(0)"),
        (global_generators, "np.random.rand(3)"),
        (global_generators, "numpy.random.choice(3)"),
        (global_generators, "import random\nrandom.shuffle(rows)"),
        (global_generators, "from random import shuffle"),
        (prints, "def f():\n    print('x')"),
    ],
)
def test_a_rule_catches(rule, source):
    assert len(findings(Path("planted.py"), rule, source)) == 1


@pytest.mark.parametrize(
    ("rule", "source"),
    [
        (unsafe_loads, "torch.load(path, map_location='cpu', weights_only=True)"),
        (unsafe_loads, "json.load(file)\nnp.load(path, allow_pickle=False)\n'torch.load(path)'"),
        (pickling, "import json\nfrom safetensors.torch import save_file"),
        (global_generators, "torch.Generator().manual_seed(0)\ngenerator.manual_seed(1)"),
        (global_generators, "torch.randn(3, generator=generator)\nnn.init.zeros_(bias)"),
        (global_generators, "nn.init.orthogonal_(weight, 1.0, generator=generator)"),
        (global_generators, "np.random.default_rng(0).normal()\nnp.random.SeedSequence(1)\nself._generator.random()"),
        (global_generators, "random.mean()"),
        (prints, "console.print('x')\nlogger.info('x')"),
    ],
)
def test_a_rule_lets_pass(rule, source):
    assert findings(Path("planted.py"), rule, source) == []


def test_pages_are_read_too(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# T\n```python\nnet = torch.load(path)\n```\ntext\n```python\n>>> torch.load(path)\n```\n")
    assert pages_findings(page) == [
        f"{page}:3: torch.load() without weights_only=True",
        "page.md:7: torch.load() without weights_only=True",
    ]
