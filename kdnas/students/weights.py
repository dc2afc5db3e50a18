"""From tensors to students and back, with every shape compared before anything is used."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from kdnas.envs.spec import AgentSpec
from kdnas.errors import BundleError
from kdnas.spaces.spec import StudentSpec
from kdnas.students.family import load_family
from kdnas.students.student import Normalisation, Student

_FACTS = "kdnas"
"""The one key of a file's metadata."""

MAX_WEIGHTS = 1 << 26
"""A spec of more weights than this is refused before its network is built."""


def student_tensors(student: Student) -> dict[str, Tensor]:
    """The weights and scales of a student's network, ready for safetensors."""
    return {name: tensor.detach().clone().contiguous() for name, tensor in student.network.state_dict().items()}


def team_tensors(students: Mapping[str, Student]) -> dict[str, Tensor]:
    """The same of one student a group, by `GROUP/NAME`."""
    return {
        f"{group}/{name}": tensor
        for group, student in students.items()
        for name, tensor in student_tensors(student).items()
    }


def weights_digest(student: Student) -> str:
    """SHA-256 of a student's weights, with their names, types and shapes."""
    return hashlib.sha256(save(student_tensors(student))).hexdigest()


def write_tensors(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> bytes:
    """Write a safetensors file with facts that JSON can hold; equal contents make equal files.

    It is readable as files usually are; safetensors' own writer keeps it to its owner.

    Raises:
        OSError: as of any file.
    """
    content = save(dict(tensors), metadata={_FACTS: json.dumps(facts, sort_keys=True)})  # more keys come in any order
    path.write_bytes(content)
    return content


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and facts of a safetensors file. Nothing in it is executed.

    Raises:
        OSError, SafetensorError, ValueError: it is not there, damaged, or not one that `write_tensors` wrote.
    """
    with safe_open(path, framework="pt") as opened:
        facts = _facts(opened)
        return {name: opened.get_tensor(name) for name in opened.keys()}, facts  # noqa: SIM118


def read_facts(path: Path) -> dict[str, Any]:
    """The facts of a safetensors file alone, which are at its beginning.

    Raises:
        OSError, SafetensorError, ValueError: as `read_tensors`.
    """
    with safe_open(path, framework="pt") as opened:
        return _facts(opened)


def _facts(opened: Any) -> dict[str, Any]:
    try:
        facts = json.loads((opened.metadata() or {}).get(_FACTS, "null"))
    except RecursionError as error:
        raise ValueError(f"its {_FACTS!r} facts are nested too deeply") from error
    if not isinstance(facts, dict):
        raise ValueError(f"it holds no {_FACTS!r} facts")
    return facts


def rebuild_student(
    spec: StudentSpec,
    spaces: AgentSpec,
    tensors: Mapping[str, Tensor],
    *,
    normalisation: Normalisation | None = None,
    where: str,
) -> Student:
    """A student of a spec with the given weights, in evaluation mode; `where` begins each complaint.

    Raises:
        BundleError: tensors that are not those of the spec, or that hold NaN or infinity.
    """
    family = load_family(spec.family)
    inputs = spaces.inputs
    if spec.inputs != (inputs.observation_size if spaces.pruned else None):
        raise BundleError(
            f"{where}: the spec {spec} is not one of a student that reads {inputs.observation_size} features and is "
            f"pruned of {len(spaces.pruned)}"
        )
    weights = sum(layer.rows * layer.columns for layer in family.layers(spec, inputs))
    if weights > MAX_WEIGHTS:
        raise BundleError(f"{where}: the spec {spec} has {weights:,} weights; a student has {MAX_WEIGHTS:,} at most")
    if normalisation is not None:
        lengths = {len(normalisation.shift), len(normalisation.scale)}
        if lengths != {inputs.observation_size}:
            raise BundleError(f"{where}: the normalisation is not one of {inputs.observation_size} features")
    if (held := sum(tensor.numel() for tensor in tensors.values())) < weights:  # before memory is taken for them
        raise BundleError(
            f"{where}: the weights are not those of the spec {spec}: it has {weights:,}, and here are {held:,} numbers"
        )
    network = family.build(spec.floating, inputs, torch.Generator().manual_seed(0))
    if spec.bits.quantized:
        network = family.quantize(network, spec)
    want = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    # A fresh quantizer does not list the scale that it has not learned yet: one number, which strict loading asks for.
    have = {name: tuple(tensor.shape) for name, tensor in tensors.items() if name in want or tensor.ndim}
    if want != have:
        names = sorted(name for name in want.keys() | have.keys() if want.get(name) != have.get(name))
        raise BundleError(
            f"{where}: the weights are not those of the spec {spec}: {names[0]!r} is {have.get(names[0], 'missing')}, "
            f"the spec wants {want.get(names[0], 'no such tensor')}"
        )
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise BundleError(f"{where}: {name!r} holds NaN or infinity; the file is damaged")
    try:
        network.load_state_dict(dict(tensors))
    except RuntimeError as error:
        first = " ".join(str(error).split())
        raise BundleError(f"{where}: the weights are not those of the spec {spec}: {first}") from error
    return Student(spec, spaces, network, normalisation).eval()
