"""A GRU cell over many steps at once: its recurrence forwards, and its gradient back through time.

PyTorch records a dozen small operations for each step and differentiates each of them, `torch.gru` too. Here a step
forwards is six calls and a step backwards three, in place; what is no recurrence is one operation on all steps.
"""

from typing import Any

import torch
from torch import Tensor


def recur(inputs: Tensor, hidden: Tensor, reading: tuple[Tensor, Tensor], recalling: tuple[Tensor, Tensor]) -> Tensor:
    """States (T, H, K) of K tracks after each of T steps, with gradients to all that is given.

    Time comes first and tracks come last, so that each gate of each step is one block of memory. The cell is that of
    `kdnas.students.gru.Recurrent`.

    inputs (T, F, K); hidden (H, K), the state before the first step; reading: W (3H, F) and its bias (3H,), recalling:
    U (3H, H) and its bias, the rows of both reset, update, new.
    """
    states: Tensor = _Recurrence.apply(inputs, hidden, *reading, *recalling)  # type: ignore[no-untyped-call]
    return states


class _Recurrence(torch.autograd.Function):
    """`recur`. Let a be what is inside the gates' sigmoid and tanh, and d = dL/dh' of a loss L at one step; then

        dL/da_n = d (1 - z) (1 - n^2)    dL/da_r = dL/da_n (U_n h) r (1 - r)    dL/da_z = d (h - n) z (1 - z)
        dL/dh = d z + U' (dL/da_r, dL/da_z, r dL/da_n)

    where all factors but d are known before the way back begins.
    """

    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, hidden: Tensor, read: Tensor, read_bias: Tensor, recall: Tensor, recall_bias: Tensor
    ) -> Tensor:
        (steps, _, tracks), units = inputs.shape, len(hidden)
        added = read_bias.clone()
        added[: 2 * units] += recall_bias[: 2 * units]
        gates = torch.baddbmm(added[:, None], read.expand(steps, -1, -1), inputs)  # (T, 3H, K), in the end r, z and n
        states, recalled = inputs.new_empty(steps + 1, units, tracks), inputs.new_empty(steps, units, tracks)
        states[0] = hidden
        own, own_new = recall[: 2 * units], recall[2 * units :]
        own_bias = recall_bias[2 * units :, None].expand(units, tracks)
        reset, update, new = gates.view(steps, 3, units, tracks).unbind(1)
        h = states[0]
        for a, r, z, n, u, following in zip(
            gates[:, : 2 * units].unbind(), reset.unbind(), update.unbind(), new.unbind(), recalled.unbind(),
            states[1:].unbind(), strict=True,
        ):  # fmt: skip
            a.addmm_(own, h).sigmoid_()
            torch.addmm(own_bias, own_new, h, out=u)
            n.addcmul_(r, u).tanh_()
            h = torch.lerp(n, h, z, out=following)
        ctx.save_for_backward(inputs, read, recall, states, gates, recalled)
        return states[1:]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        inputs, read, recall, states, gates, recalled = ctx.saved_tensors
        steps, units, tracks = recalled.shape
        reset, update, new = gates.view(steps, 3, units, tracks).unbind(1)
        slope = torch.addcmul(new.new_ones(()), new, new, value=-1).mul_(1 - update)  # of a_n
        slopes = torch.empty_like(gates).view(steps, 3, units, tracks)  # of a_r, a_z, and a_n times r
        torch.mul(slope, reset, out=slopes[:, 2])
        torch.mul(slopes[:, 2], (1 - reset).mul_(recalled), out=slopes[:, 0])
        torch.mul((states[:-1] - new).mul_(update), 1 - update, out=slopes[:, 1])
        back = torch.empty_like(states)  # dL/dh before each step: first what is said of it, then what follows of it
        back[0], back[1:] = 0, gradient
        d = back[-1]
        for factor, z, earlier in zip(
            reversed(slopes.unbind()), reversed(update.unbind()), reversed(back[:-1].unbind()), strict=True
        ):  # fmt: skip
            earlier.addcmul_(d, z).addmm_(recall.T, factor.mul_(d).flatten(0, 1))
            d = earlier
        inward = slopes.flatten(1, 2)
        to_recall, to_recall_bias = torch.bmm(inward, states[:-1].mT).sum(0), inward.sum((0, 2))
        torch.mul(slope, back[1:], out=slopes[:, 2])
        to_read, to_read_bias = torch.bmm(inward, inputs.mT).sum(0), inward.sum((0, 2))
        return read.T @ inward, back[0], to_read, to_read_bias, to_recall, to_recall_bias
