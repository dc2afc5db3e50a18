"""The contract of a student family: see `kdnas.students.family.Family`."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn

from kdnas import plugins
from kdnas.compress.prune import prune
from kdnas.compress.quantize import quantize, training_twin
from kdnas.envs.entities import Entities, EntitySet
from kdnas.envs.spec import AgentSpec
from kdnas.errors import StudentError
from kdnas.policies.actions import Discrete
from kdnas.profiling.flops import count_macs
from kdnas.profiling.memory import bops, memory_bytes
from kdnas.spaces.spec import FLOAT_BITS, Bits, StudentSpec
from kdnas.students.family import PLACE_BYTES, Family, LayerShape, Selective
from kdnas.students.student import Student
from kdnas.students.weights import read_tensors, rebuild_student, student_tensors, write_tensors
from kdnas.testing.contract import contract, weights_of

SPACES = AgentSpec(
    observation_size=7,
    actions=Discrete(4),
    entities=Entities(
        own=(0,),
        sets=(
            EntitySet(name="pairs", members=((1, 2), (3, 4))),
            EntitySet(name="singles", members=((5,), (6,))),
        ),
    ),
)
EIGHT = Bits(input=8, weight=8, activation=8)
ROWS, STEPS = 16, 16
INPUTS = 3
"""Of the seven, for families that can do without some."""
SAME = 1e-4
"""Largest difference between outputs that are the same but for the order of float sums."""
CLOSE = 0.25
"""Largest error of 8-bit logits, as a share of how much the float ones vary."""


def check_family(family: Family, *, base: Sequence[int] = (16, 12), hidden: Sequence[int] = (9, 5)) -> None:
    """Build, prune, quantize, save and rebuild students of a family, as a search does.

    Args:
        family: the object that is registered under `kdnas.students`.
        base: widths of a dense network of it.
        hidden: widths to which that one is pruned; as many, and none larger.

    Raises:
        AssertionError: networks of other widths than their spec's, `layers` that are not those of the network, random
            numbers from elsewhere than the generator, bits of each layer that are neither priced nor refused, a pruned
            or quantized network that cannot be trained, or whose saved weights do not bring it back to the last bit, or
            one that does without inputs and keeps others.
    """
    name = getattr(family, "name", type(family).__name__)
    with contract(f"family {name!r}"):
        registered = plugins.load("kdnas.students", name)
        assert type(registered) is type(family), (
            f"kdnas.students has {type(registered).__name__} under this name, and student folders are read by name"
        )
        dense = StudentSpec(family=name, base=tuple(base), hidden=tuple(base))
        pruned = replace(dense, hidden=tuple(hidden))
        for spec in (dense, pruned):
            _check_build(family, spec)
            _check_layers(family, spec)
        _check_lineage(family, dense, pruned)
        if isinstance(family, Selective):
            _check_inputs(family, dense, replace(pruned, inputs=INPUTS))


def _build(family: Family, spec: StudentSpec, seed: int = 0) -> nn.Module:
    return family.build(spec, SPACES, torch.Generator().manual_seed(seed))


def _observations() -> Tensor:
    """Whole episodes (ROWS, STEPS, V)."""
    return torch.randn(ROWS, STEPS, SPACES.observation_size, generator=torch.Generator().manual_seed(1))


def _check_build(family: Family, spec: StudentSpec) -> None:
    network = _build(family, spec)
    student = Student(spec, SPACES, network)
    outputs, following = student.step(_observations()[:, 0], student.begin(ROWS))
    shape = tuple(outputs.shape)
    assert shape == (ROWS, SPACES.actions.outputs), f"{spec}: {ROWS} observations give {shape}, not a row each"
    remembered = 0 if following is None else following.shape[-1]
    assert remembered == student.hidden_size, f"{spec}: it remembers {remembered} numbers, not {student.hidden_size}"
    _check_units(family, spec, network)
    same = weights_of(network) == weights_of(_build(family, spec))
    assert same, f"{spec}: built twice from one seed, it has other weights; draw from the generator that is given"
    assert weights_of(network) != weights_of(_build(family, spec, seed=1)), f"{spec}: the seed changes nothing"
    quantized = _build(family, replace(spec, bits=EIGHT))
    assert weights_of(quantized) == weights_of(network), f"{spec}: build() makes a float network, whatever the bits"


def _check_units(family: Family, spec: StudentSpec, network: nn.Module) -> None:
    units = family.units(spec, SPACES)
    if units is None:
        widths = tuple(getattr(layer, "out_features", None) for layer in family.prunable(network))
        said = f"{spec}: the outputs of prunable() are {widths} wide, the spec says {spec.hidden}"
        assert widths == spec.hidden, said
        return
    ranked = {each.layer for each in units}
    assert ranked == set(range(len(spec.hidden))), f"{spec}: units() are of the hidden layers {sorted(ranked)}, not all"
    shapes = {name: tuple(parameter.shape) for name, parameter in network.named_parameters()}
    for each in units:
        for place in each.places:
            size = (*shapes.get(place.parameter, ()), *(0, 0))[place.axis]
            fits = place.start + spec.hidden[each.layer] <= size
            have = shapes.get(place.parameter, "not there")
            assert fits, f"{spec}: units() has {place}, but that parameter is {have}"


def _check_layers(family: Family, spec: StudentSpec) -> None:
    network = _build(family, spec)
    layers = family.layers(spec, SPACES)
    shapes = [tuple(parameter.shape) for parameter in network.parameters()]
    odd = [shape for shape in shapes if len(shape) not in (1, 2)]
    assert not odd, f"{spec}: layers() speaks of matrices and biases, and the network has parameters of shape {odd[0]}"
    real = sorted(shape for shape in shapes if len(shape) == 2)
    told = sorted((layer.rows, layer.columns) for layer in layers)
    assert told == real, f"{spec}: layers() has the matrices {told}, the network {real}"
    biases = sorted(shape[0] for shape in shapes if len(shape) == 1)
    told_biases = sorted(layer.rows for layer in layers if layer.bias)
    assert told_biases == biases, f"{spec}: layers() has biases of {told_biases} numbers, the network of {biases}"
    macs, counted = sum(layer.macs for layer in layers), count_macs(network, Student(spec, SPACES, network).probe())
    assert macs == counted, f"{spec}: layers() multiply {macs} times, the network {counted} times"
    floats = all((layer.weight_bits, layer.input_bits, layer.output_bits) == (FLOAT_BITS,) * 3 for layer in layers)
    assert floats, f"{spec}: a float layer has {FLOAT_BITS} bits everywhere"
    assert not any(layer.scales for layer in layers), f"{spec}: a float layer stores no scales"
    _check_quantized_layers(family, spec, layers)
    _check_formats(family, spec)


def _check_quantized_layers(family: Family, spec: StudentSpec, layers: Sequence[LayerShape]) -> None:
    quantized = family.layers(replace(spec, bits=EIGHT), SPACES)
    shapes = [[(layer.rows, layer.columns, layer.bias) for layer in each] for each in (layers, quantized)]
    assert shapes[0] == shapes[1], f"{spec}: its layers change their shape with the bits"
    for what, price in [("memory", memory_bytes), ("BOPs", bops)]:
        costs = [price(each) for each in (quantized, layers)]
        assert costs[0] < costs[1], f"{spec}: at 8 bits its {what} is {costs[0]}, in float {costs[1]}"


def _check_formats(family: Family, spec: StudentSpec) -> None:
    """Bits of each layer and scales that are powers of two are priced, or refused in a sentence."""
    network, narrow = _build(family, spec), (4,) * (len(spec.hidden) - 1)
    mixed = Bits(input=8, weight=(8, 4, *narrow), activation=(8, *narrow))
    for bits in (mixed, replace(EIGHT, power_of_two=True)):
        own, refused = replace(spec, bits=bits), []
        for ask in (lambda each: family.layers(each, SPACES), lambda each: family.quantize(network, each)):
            try:
                ask(own)
            except StudentError:
                refused.append(ask)
        assert len(refused) in (0, 2), f"{own}: layers() and quantize() both refuse such bits, or neither of them"
        if not refused:
            costs = [memory_bytes(family.layers(replace(spec, bits=each), SPACES)) for each in (bits, EIGHT)]
            assert costs[0] < costs[1], (
                f"{own}: its memory is {costs[0]}, that of 8 bits everywhere {costs[1]}; price the bits that each "
                "layer has and the scales that are powers of two, or refuse such specs, as common_bits() does"
            )


def _check_lineage(family: Family, dense: StudentSpec, pruned: StudentSpec) -> None:
    """Dense, pruned, quantized: each from the one before, each trained, saved and rebuilt."""
    observations = _observations()
    ancestor = Student(dense, SPACES, _build(family, dense))
    before = weights_of(ancestor.network)
    small = prune(ancestor, pruned, family, lambda student: student(observations).square().mean())
    assert weights_of(ancestor.network) == before, f"{dense}: pruning a copy changed the original"
    shapes = [
        {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
        for network in (small.network, _build(family, pruned))
    ]
    assert shapes[0] == shapes[1], f"{pruned}: pruned it has the tensors {shapes[0]}, built {shapes[1]}"
    kept = weights_of(small.network)
    integer = quantize(small, replace(pruned, bits=EIGHT), family, [observations])
    assert weights_of(small.network) == kept, f"{pruned}: quantize() changed the float network"
    addresses = [{tensor.data_ptr() for tensor in each.network.parameters()} for each in (small, integer)]
    assert not addresses[0] & addresses[1], f"{pruned}: the quantized network shares memory with the float one"
    for student in (ancestor, small, integer):
        _check_steps(student.eval())
    _check_close(small, integer)
    _check_twin(family, integer)
    for student in (ancestor, small, integer):
        _check_learns(student)
        _check_round_trip(student)


def _check_inputs(family: Family, dense: StudentSpec, fewer: StudentSpec) -> None:
    """A student that is pruned of inputs has the matrices and the table that it is priced at, in float and integers."""
    observations = _observations()
    # Only what is read can matter: the loss is what a student says of the last features.
    seen = torch.cat([torch.zeros_like(observations[..., INPUTS:]), observations[..., -INPUTS:]], -1)
    ancestor = Student(dense, SPACES, _build(family, dense))
    small = prune(ancestor, fewer, family, lambda student: student(seen).square().mean())
    want = tuple(range(SPACES.observation_size))[-INPUTS:]
    assert small.spaces.kept == want, f"{fewer}: the inputs {want} alone matter, and it reads {small.spaces.kept}"
    shapes = [
        {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
        for network in (small.network, family.build(fewer, small.spaces.inputs, torch.Generator().manual_seed(0)))
    ]
    assert shapes[0] == shapes[1], f"{fewer}: pruned it has the tensors {shapes[0]}, built {shapes[1]}"
    integer = quantize(small, replace(fewer, bits=EIGHT), family, [observations])
    for student in (small, integer):
        _check_steps(student.eval())
        _check_round_trip(student)
        every, none = (
            sum(layer.table_bytes for layer in family.layers(spec, small.spaces.inputs))
            for spec in (student.spec, replace(student.spec, inputs=None))
        )
        said = f"{student.spec}: layers() must have {PLACE_BYTES} more bytes of tables for each input that is kept"
        assert every - none == PLACE_BYTES * INPUTS, said


def _check_close(floating: Student, integer: Student) -> None:
    observations = _observations()
    with torch.no_grad():
        expected, got = floating.eval()(observations), integer.eval()(observations)
    assert got.shape == expected.shape, f"{integer.spec}: quantized logits have the shape {tuple(got.shape)}"
    error = float((got - expected).square().mean().sqrt() / expected.std().clamp_min(1e-6))
    assert error < CLOSE, (
        f"{integer.spec}: its logits are off by {error:.2g} of their deviation; quantize() must keep the float weights"
    )


@torch.no_grad()
def _check_steps(student: Student) -> None:
    """Whole episodes are answered as one step after the other."""
    hidden, outputs = student.begin(ROWS), []
    for seen in _observations().unbind(1):
        said, hidden = student.step(seen, hidden)
        outputs.append(said)
    error = float((torch.stack(outputs, 1) - student(_observations())).abs().max())
    assert error < SAME, f"{student.spec}: whole episodes are answered otherwise than their steps, by up to {error:.2g}"
def _check_twin(family: Family, integer: Student) -> None:
    """What is trained in a quantized student's place is that student: its parameters, and its answers."""
    twin = training_twin(integer, family)
    own = {id(parameter) for parameter in integer.network.parameters()}
    strange = [name for name, parameter in twin.network.named_parameters() if id(parameter) not in own]
    assert not strange, f"{integer.spec}: training_twin() has {strange[0]}, which is no parameter of the network"
    _check_learns(twin)
    optimizer = torch.optim.Adam(twin.parameters(), lr=0.01)
    for _ in range(10):
        optimizer.zero_grad()
        twin.train()(_observations()).square().mean().backward()
        optimizer.step()
    with torch.no_grad():
        same = torch.equal(twin.eval()(_observations()), integer.eval()(_observations()))
    assert same, f"{integer.spec}: in evaluation mode training_twin() answers differently from the network"


def _check_learns(student: Student) -> None:
    """A step of a loss reaches every matrix."""
    student.train()
    student.zero_grad()
    student(_observations()).square().mean().backward()
    dead = [
        name
        for name, parameter in student.network.named_parameters()
        if parameter.ndim == 2 and (parameter.grad is None or not parameter.grad.isfinite().all())
    ]
    assert not dead, f"{student.spec}: no finite gradient reaches {', '.join(dead)}"
    student.zero_grad()
    student.eval()


def _check_round_trip(student: Student) -> None:
    with TemporaryDirectory(prefix="kdnas-") as folder:
        path = Path(folder) / "student.safetensors"
        write_tensors(path, student_tensors(student), {})
        tensors, _ = read_tensors(path)
    rebuilt = rebuild_student(student.spec, student.spaces, tensors, where=f"{student.spec} rebuilt")
    with torch.no_grad():
        same = torch.equal(rebuilt(_observations()), student(_observations()))
    assert same, f"{student.spec}: rebuilt from its saved weights it answers differently; keep all it needs in buffers"
