"""Damped Gauss-Newton steps on a trained student: what second-order steps would be worth (see `distill.py`).

Only measured here, and no part of kdnas: the documents say what it gained.
"""

import torch
from torch import Tensor
from torch.func import functional_call, jacrev, vmap

from kdnas.distill.classroom import Classroom
from kdnas.distill.lessons import Lessons
from kdnas.distill.memory import LessonMemory
from kdnas.distill.trainer import play_on_policy
from kdnas.students.student import Student

ROWS, PLAY_EVERY = 2048, 15
STEP, DAMPING = 0.3, 0.01
CURVATURE_MEMORY, GRADIENT_MEMORY = 0.95, 0.8
"""Of the running means of the matrix and of the gradient: one batch alone is too noisy for so long a step."""


def refine(student: Student, room: Classroom, demonstrations: Lessons, *, steps: int, seed: int) -> None:
    """Improve a float student without memory in place, by steps that shrink to nothing.

    The generalised Gauss-Newton matrix of the KL is mean_b J_b' (diag(p_b) - p_b p_b') J_b, J the Jacobian (N, P) of
    the logits and p the student's probabilities (Schraudolph 2002, Neural Computation 14:7); it is damped by a share of
    its diagonal (Marquardt 1963). Discrete actions, no masks.
    """
    generator = torch.Generator().manual_seed(seed)
    memory = LessonMemory(demonstrations, room.recipe.memory_rows, generator)
    names, parameters = zip(*student.named_parameters(), strict=True)
    size = sum(parameter.numel() for parameter in parameters)

    def answer(weights: dict[str, Tensor], view: Tensor) -> Tensor:
        return functional_call(student, weights, (view[None],))[0]

    jacobian = vmap(jacrev(answer), in_dims=(None, 0))
    curvature, slope = torch.zeros(size, size), torch.zeros(size)
    student.eval()
    for index in range(steps):
        if index % PLAY_EVERY == 0:
            play_on_policy(student, room, memory, generator)
        lessons = memory.batch(ROWS)
        with torch.no_grad():
            weights = {name: parameter.detach() for name, parameter in zip(names, parameters, strict=True)}
            parts = jacobian(weights, lessons.views)
            columns = torch.cat([parts[name].flatten(2) for name in names], -1)  # (B, N, P)
            own, taught = student(lessons.views).softmax(-1), lessons.parameters.softmax(-1)
            # diag(p) - p p' = L' L with L = diag(sqrt p) - sqrt(p) p'
            root = own.sqrt()[..., None]
            factor = (root * columns - root * torch.einsum("bn,bnp->bp", own, columns)[:, None]).flatten(0, 1)
            curvature.lerp_(factor.T @ factor / ROWS, 1 - CURVATURE_MEMORY)
            slope.lerp_(torch.einsum("bnp,bn->p", columns, own - taught) / ROWS, 1 - GRADIENT_MEMORY)
            matrix = curvature / (1 - CURVATURE_MEMORY ** (index + 1))
            damped = matrix + DAMPING * torch.diag(matrix.diagonal() + 1e-4)
            step = torch.linalg.solve(damped, slope / (1 - GRADIENT_MEMORY ** (index + 1)))
            shares = torch.split(STEP * (1 - index / steps) * step, [parameter.numel() for parameter in parameters])
            for parameter, share in zip(parameters, shares, strict=True):
                parameter.sub_(share.view_as(parameter))
    student.check_finite()
