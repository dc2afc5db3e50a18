"""Weights of few bits are moved by whole steps: what gradients cannot do once every weight is an integer.

Training through the rounding of 4-bit weights loses what settling them has won: they swing between two integers. Here a
step is taken only if it is worth it. Which ones may be is guessed from a second-order model of the divergence with the
diagonal of the Fisher matrix (LeCun et al. 1989, Optimal Brain Damage; Nagel et al. 2020, arXiv 2004.10568, on why
the nearest integer is not the best), and each guess is tried.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from kdnas.distill.lessons import Lessons
from kdnas.distill.losses import divergence, own_policy
from kdnas.distill.memory import LessonMemory
from kdnas.distill.teaching import Teaching
from kdnas.policies.distribution import log_prob, sample
from kdnas.students.fake_quant import FakeQuantMlp
from kdnas.students.student import Student

MOST_BITS = 4
"""Of weights; steps of wider ones are too small to matter."""
ROWS, TRIES = 8192, 32
"""Decisions that a round looks at, and steps that it tries on them."""
WORTH = 2e-5
"""Divergence that a step has to save: less may be chance of these rows."""
TUNE_EVERY, TUNE_STEPS, TUNE_LEARNING_RATE = 20, 200, 2e-3
"""Rounds after which scales and biases are trained again, and for how long."""


def flip_weights(student: Student, memory: LessonMemory, teaching: Teaching, *, rounds: int, batch: int) -> int:
    """Improve the integers of a settled twin in place.

    Args:
        student: whose network is a `FakeQuantMlp`.
        memory: of the rows that it is compared with its teacher on.
        teaching: the loss for scales and biases in between.
        rounds: each tries `TRIES` single steps on `ROWS` rows, the most promising first.
        batch: rows of a training step in between.

    Returns:
        How many steps were taken.
    """
    network = student.network
    assert isinstance(network, FakeQuantMlp)
    taken = 0
    for index in range(rounds):
        taken += _round(student, network, memory.batch(ROWS))
        if (index + 1) % TUNE_EVERY == 0 or index == rounds - 1:
            _tune(student, network, memory, teaching, batch)
    student.eval()
    return taken


def _round(student: Student, network: FakeQuantMlp, lessons: Lessons) -> int:
    actions = student.spaces.actions
    seen = student.read(lessons.views)
    with torch.no_grad():
        rows = [network.weight_scale(index) for index in range(len(network.linears))]
        weights = [network.weight(index, scale).clone() for index, scale in enumerate(rows)]
        scales = [scale.expand_as(weight) for scale, weight in zip(rows, weights, strict=True)]

    def distance(outputs: Tensor) -> Tensor:
        return divergence(actions, outputs, lessons.parameters, lessons.masks, 1.0).mean()

    guesses = _guess(student, network, seen, weights, scales, lessons)
    taken = 0
    with torch.no_grad():
        least = distance(_sums(network, seen, weights)[-1])
        for layer, place, way in guesses:
            weight = weights[layer].view(-1)
            step = way * scales[layer].reshape(-1)[place]
            weight[place] += step
            now = distance(_sums(network, seen, weights)[-1])
            if now < least - WORTH:
                least, taken = now, taken + 1
            else:
                weight[place] -= step
        for linear, weight, scale in zip(network.linears, weights, scales, strict=True):
            assert isinstance(linear.weight, Tensor)
            linear.weight.copy_((weight / scale).round() * scale)
    return taken


def _guess(
    student: Student,
    network: FakeQuantMlp,
    seen: Tensor,
    weights: Sequence[Tensor],
    scales: Sequence[Tensor],
    lessons: Lessons,
) -> list[tuple[int, int, int]]:
    """(layer, place, 1 or -1) of the steps that the model says to save most, d = g s + h s^2 / 2 of each.

    g is the gradient of the divergence, h the diagonal of the Fisher matrix of the student's own policy, s the step.
    """
    actions = student.spaces.actions
    leaves = [weight.clone().requires_grad_() for weight in weights]
    inputs: list[Tensor] = []
    sums = _sums(network, seen, leaves, inputs)
    outputs = sums[-1]
    far = divergence(actions, outputs, lessons.parameters, lessons.masks, 1.0).mean()
    slopes = torch.autograd.grad(far, leaves, retain_graph=True)
    policy = own_policy(actions, outputs, lessons.parameters, lessons.masks)
    generator = torch.Generator().manual_seed(0)
    drawn = sample(actions, policy.detach(), generator)
    errors = torch.autograd.grad(log_prob(actions, policy, drawn).sum(), sums)
    found: list[tuple[float, int, int, int]] = []
    for layer, (slope, scale, weight) in enumerate(zip(slopes, scales, weights, strict=True)):
        curvature = errors[layer].square().T @ inputs[layer].square() / len(outputs)
        integers = (weight / scale).round()
        for way in (1, -1):
            saved = way * slope * scale + 0.5 * curvature * scale.square()
            saved = saved.masked_fill((integers + way).abs() > network.weight_limits[layer], torch.inf).flatten()
            best = saved.topk(min(TRIES, len(saved)), largest=False)
            found += [
                (value, layer, place, way)
                for value, place in zip(best.values.tolist(), best.indices.tolist(), strict=True)
                if value < 0
            ]
    return [guess[1:] for guess in sorted(found)[:TRIES]]


def _sums(
    network: FakeQuantMlp, seen: Tensor, weights: Sequence[Tensor], inputs: list[Tensor] | None = None
) -> list[Tensor]:
    """What each layer sums up with other weights; its inputs, without their gradient, join a list."""
    sums: list[Tensor] = []
    for index, weight in enumerate(weights):
        read = network.read(index, sums[-1] if sums else seen)
        if inputs is not None:
            inputs.append(read.detach())
        sums.append(functional.linear(read, weight, network.bias(index, network.weight_scale(index))))
    return sums


def _tune(student: Student, network: FakeQuantMlp, memory: LessonMemory, teaching: Teaching, batch: int) -> None:
    """Train scales and biases around the integers that there are."""
    weights = {id(linear.weight) for linear in network.linears}
    free = [parameter for parameter in student.parameters() if id(parameter) not in weights]
    optimizer = torch.optim.Adam(free, lr=TUNE_LEARNING_RATE, fused=True)
    network.hold()
    student.train()
    for step in range(TUNE_STEPS):
        for setting in optimizer.param_groups:
            setting["lr"] = TUNE_LEARNING_RATE * (1 - step / TUNE_STEPS)
        optimizer.zero_grad()
        teaching.loss(memory, batch).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    network.settle(1.0)
