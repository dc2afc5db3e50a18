"""`CStudent`: one group's student as C tables and the body of a function, and what that function computes, in NumPy."""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kdnas.errors import StudentError
from kdnas.export.c_deepset import FloatDeepSetC, IntegerDeepSetC
from kdnas.export.c_gru import FloatGruC, IntegerGruC
from kdnas.export.c_mlp import FloatMlpC, IntegerMlpC
from kdnas.export.c_network import Network, Table
from kdnas.policies.actions import Box
from kdnas.policies.arrays import Floats
from kdnas.policies.distribution import squash_map
from kdnas.students.deepset import DeepSet
from kdnas.students.gru import Gru
from kdnas.students.integer import student_inputs, to_integers
from kdnas.students.integer_deepset import IntegerDeepSet
from kdnas.students.integer_gru import IntegerGru
from kdnas.students.integer_mlp import IntegerMlp
from kdnas.students.mlp import Mlp
from kdnas.students.student import Student

TRACK = 16
"""Steps of an episode of a recurrent student whose rows are compared: its state begins again after so many."""

_FORMS: dict[type, Callable[[Any], Network]] = {
    Mlp: FloatMlpC,
    IntegerMlp: IntegerMlpC,
    Gru: FloatGruC,
    IntegerGru: IntegerGruC,
    DeepSet: FloatDeepSetC,
    IntegerDeepSet: IntegerDeepSetC,
}
"""Float networks and integer forms, of whatever family, by their type."""


class CStudent:
    """The C of one group: it reads an observation and writes outputs.

    Its vectors lie in one array in turns at its two ends, so that it is as long as the largest pair of neighbours.

    Raises:
        StudentError: a student of a family that has no C form, that is quantized and not calibrated, or with NaN
            weights.
    """

    def __init__(self, student: Student, name: str) -> None:
        student.check_finite()
        self.student, self.name = student, name
        form: Any = to_integers(student) if student.spec.bits.quantized else student.network
        if type(form) not in _FORMS:
            raise StudentError(
                f"student {student.spec}: {type(form).__name__} has no form in C; export the team as onnx, or let the "
                f"family build and quantize to {', '.join(each.__name__ for each in _FORMS)}"
            )
        self.network = _FORMS[type(form)](form)
        kept = np.array(student.spaces.kept)
        self.read = kept if self.network.index is None else kept[list(self.network.index)]
        """Indices of the observation that the network reads."""

    @property
    def integer(self) -> bool:
        return self.network.integer

    @property
    def recurrent(self) -> bool:
        return self.network.units > 0

    @property
    def tables(self) -> list[Table]:
        own = self.network.tables(self.name)
        if (normalisation := self.student.normalisation) is not None:
            index = range(len(normalisation.shift)) if self.network.index is None else self.network.index
            for what, values in (("shifts", normalisation.shift), ("factors", normalisation.scale)):
                read = np.asarray(values, np.float32)[list(index)]
                own.append(Table(name=f"{self.name}_input_{what}", kind="float", values=read))
        if not self._reads_all:
            own.append(Table(name=f"{self.name}_read", kind="uint16_t", values=self.read.astype(np.uint16)))
        if isinstance(self.student.spaces.actions, Box):
            own += self._bounds(self.student.spaces.actions)
        return own

    @property
    def body(self) -> list[str]:
        """Statements from `observation` and `state` to `live.outputs` and `state`."""
        last = len(self.network.vectors)
        names, lines = [f"layer_{index}" for index in range(last)], []
        for index, (vector, name) in enumerate(zip(self.network.vectors, names, strict=True)):
            first = (last - index) % 2 == 0 or vector.entries == self.live
            place = "live.values" if first else f"live.values + {self.live - vector.entries}"
            kind, place = ("int32_t", "live.sums") if vector.wide else (self.network.value, place)
            lines.append(f"{kind} *const {name} = {place};")
        return lines + self.network.calls(self.name, [*names, "live.outputs"], reading=self._reading)

    @property
    def live(self) -> int:
        """Entries of the array: those of the largest pair of vectors; outputs and sums are as long as 4 integers."""
        word = 4 if self.integer else 1
        sizes = [vector.entries * (word if vector.wide else 1) for vector in self.network.vectors]
        return max(first + second for first, second in pairwise([*sizes, self.student.spaces.actions.outputs * word]))

    @property
    def sums(self) -> int:
        """Entries of the largest vector of sums that lies in the array."""
        return max((vector.entries for vector in self.network.vectors if vector.wide), default=0)

    @property
    def traced(self) -> int:
        """Bytes that a trace writes."""
        return self.network.traced

    def answer(self, views: Floats) -> tuple[NDArray[Any], Floats]:
        """What C computes of views (B, V): its vectors side by side, and its outputs (B, N).

        Views of a recurrent student are tracks of `TRACK` steps, one after the other.
        """
        inputs = student_inputs(self.student, views)
        if not self.recurrent:
            seen, outputs, _ = self.network.step(inputs, None)
            return seen, outputs
        steps = [self.network.step(rows, state)[:2] for rows, state in self._along(inputs)]
        seen, outputs = (_rows(each, len(views)) for each in zip(*steps, strict=True))
        return seen, outputs

    @torch.inference_mode()
    def outputs_in_torch(self, views: Floats) -> Floats:
        """What the student itself says; a recurrent one from the states that C has before each step."""
        rows = views.astype(np.float32)
        if not self.recurrent:
            said: Floats = self.student(torch.from_numpy(rows)).numpy()
            return said
        answers = []
        for seen, (_, state) in zip(
            _tracks(rows).swapaxes(0, 1), self._along(student_inputs(self.student, rows)), strict=True
        ):
            hidden = torch.from_numpy(state.astype(np.float32) * np.float32(self.network.state_step))
            answers.append(self.student.step(torch.from_numpy(seen), hidden)[0].numpy())
        return _rows(answers, len(views))

    def _along(self, inputs: Floats) -> Iterator[tuple[Floats, NDArray[Any]]]:
        """Of each step of all tracks, inputs (K, O) and the states (K, H) before it."""
        tracks = _tracks(inputs)
        state = self.network.begin(len(tracks))
        for step in range(TRACK):
            assert state is not None
            yield tracks[:, step], state
            _, _, state = self.network.step(tracks[:, step], state)

    def _reading(self, index: str) -> str:
        seen = f"observation[{index}]" if self._reads_all else f"observation[{self.name}_read[{index}]]"
        if self.student.normalisation is None:
            return seen
        return f"({seen} - {self.name}_input_shifts[{index}]) * {self.name}_input_factors[{index}]"

    @property
    def _reads_all(self) -> bool:
        return self.network.index is None and len(self.read) == self.student.spaces.observation_size

    def _bounds(self, actions: Box) -> list[Table]:
        if actions.squashed:
            bounds = dict(zip(("reach", "middle"), squash_map(actions), strict=True))
        else:
            most = np.finfo(np.float32).max  # no outputs are beyond, so that it is no bound
            bounds = {
                what: np.clip(np.asarray(bound, np.float32), -most, most)
                for what, bound in (("low", actions.low), ("high", actions.high))
            }
        return [Table(name=f"{self.name}_{what}", kind="float", values=values) for what, values in bounds.items()]


def _tracks(rows: Floats) -> Floats:
    """Rows (B, V) as tracks (K, `TRACK`, V), the last one filled with zeros."""
    missing = -len(rows) % TRACK
    return np.concatenate([rows, np.zeros((missing, rows.shape[1]), rows.dtype)]).reshape(-1, TRACK, rows.shape[1])


def _rows(steps: Sequence[NDArray[Any]], count: int) -> NDArray[Any]:
    """The first rows (B, F) of what was said at each step of all tracks, (K, F)."""
    return np.stack(steps, 1).reshape(-1, steps[0].shape[-1])[:count]
