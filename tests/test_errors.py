from kdnas import errors
from kdnas.errors import KdnasError, describe, name_nearest


def test_one_tree():
    kinds = [thing for thing in vars(errors).values() if isinstance(thing, type) and issubclass(thing, Exception)]
    assert len(kinds) > 5
    assert all(issubclass(kind, KdnasError) for kind in kinds)


def test_nearest_name():
    assert name_nearest("flop", ["bops", "flops"]) == "did you mean 'flops'? (known: bops, flops)"
    assert name_nearest("xyz", ["bops"]) == "known: bops"
    assert name_nearest("xyz", []) == "none is known"


def test_nearest_name_whatever_its_case():
    assert name_nearest("FLOPS", ["bops", "flops"]) == "did you mean 'flops'? (known: bops, flops)"
    assert name_nearest("kib", ["KiB", "B"]) == "did you mean 'KiB'? (known: B, KiB)"


def test_an_error_of_other_peoples_code_in_one_line():
    try:
        raise ValueError("no fuel\n  left")
    except ValueError as error:
        raised = error
    line = test_an_error_of_other_peoples_code_in_one_line.__code__.co_firstlineno + 2
    assert describe(raised) == f"ValueError: no fuel left ({__file__}, line {line})"
    assert describe(ValueError()) == "ValueError"  # neither text nor traceback
