import torch
from torch import nn

from kdnas.compress.units import choose_units, cut_units, unit_importance
from kdnas.students.family import Place

ROWS = (Place(parameter="a", axis=0, start=1), Place(parameter="b", axis=0))


def test_importance_by_hand() -> None:
    a, b = nn.Parameter(torch.tensor([[9.0, 9.0], [1.0, -2.0], [3.0, 0.5]])), nn.Parameter(torch.tensor([-4.0, 5.0]))
    a.grad, b.grad = torch.tensor([[9.0, 9.0], [1.0, 1.0], [2.0, -2.0]]), torch.tensor([0.5, 0.1])
    # Unit 0: |1| + |-2| + |-4 * 0.5| = 5. Unit 1: |6| + |-1| + |5 * 0.1| = 7.5. Row 0 of `a` belongs to none.
    assert unit_importance({"a": a, "b": b}, ROWS, 2).tolist() == [5.0, 7.5]
    b.grad = None
    assert unit_importance({"a": a, "b": b}, ROWS, 2).tolist() == [3.0, 7.0]


def test_the_lowest_of_equals_stay_and_the_order_too() -> None:
    assert choose_units(torch.tensor([1.0, 3.0, 1.0, 2.0, 1.0]), 3).tolist() == [0, 1, 3]
    assert choose_units(torch.zeros(4), 2).tolist() == [0, 1]


def test_entries_of_units_that_go_are_cut_on_both_axes() -> None:
    columns = (Place(parameter="a", axis=1, start=1),)
    tensors = {"a": torch.arange(12.0).reshape(3, 4), "b": torch.tensor([7.0, 8.0]), "c": torch.zeros(2)}
    left = cut_units(tensors, [(ROWS, torch.tensor([1]), 2), (columns, torch.tensor([0, 2]), 3)])
    # Rows 0 (nobody's) and 2 (unit 1), columns 0 (nobody's), 1 and 3.
    assert left["a"].tolist() == [[0.0, 1.0, 3.0], [8.0, 9.0, 11.0]]
    assert left["b"].tolist() == [8.0]
    assert left["c"].data_ptr() != tensors["c"].data_ptr()
