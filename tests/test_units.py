import math

import pytest

from kdnas.errors import BudgetError
from kdnas.units import FACTORS, Quantity, format_quantity, parse_quantity


@pytest.mark.parametrize(
    ("text", "dimension", "value"),
    [
        ("2ms", "time", 0.002),  # 2 x 1e-3
        ("250us", "time", 0.00025),
        ("250µs", "time", 0.00025),  # MICRO SIGN
        ("250\u03bcs", "time", 0.00025),  # GREEK SMALL LETTER MU: what a Greek keyboard types
        ("40ns", "time", 4e-8),
        ("1.5s", "time", 1.5),
        ("4KiB", "memory", 4096.0),  # 4 x 1024
        ("4kB", "memory", 4000.0),
        ("1.5MiB", "memory", 1572864.0),  # 1.5 x 1024 x 1024
        ("512B", "memory", 512.0),
        ("512", "memory", 512.0),  # bare bytes
        ("2k", "count", 2000.0),
        ("2K", "count", 2000.0),
        ("1.128k", "count", 1128.0),
        ("3M", "count", 3e6),
        ("1e3k", "count", 1e6),  # an exponent and a unit
        ("1128", "count", 1128.0),
        (" 2 ms ", "time", 0.002),
        (".5k", "count", 500.0),
        ("2.k", "count", 2000.0),
        ("-2k", "count", -2000.0),  # a quantity may be negative; a limit may not
        ("0.95", "ratio", 0.95),
    ],
)
def test_reads_base_units(text, dimension, value):
    quantity = parse_quantity(text, dimension)
    assert quantity.value == pytest.approx(value, rel=1e-15)
    assert not quantity.relative


def test_a_percentage_is_a_share():
    assert parse_quantity("5%", "count") == Quantity(value=0.05, relative=True)
    assert parse_quantity("95 %", "ratio") == Quantity(value=0.95, relative=True)
    assert parse_quantity("5%", "time") == Quantity(value=0.05, relative=True)  # needs no unit of time


def test_m_is_a_million_and_ms_a_thousandth():
    assert parse_quantity("2M", "count").value / parse_quantity("2ms", "time").value == pytest.approx(1e9)


@pytest.mark.parametrize(
    ("text", "dimension", "sentence"),
    [
        ("2", "time", "'2' needs a unit of time; write for example 2ms"),
        ("", "time", "'' is not NUMBER[UNIT]; write for example 2ms"),
        ("ms", "time", "'ms' is not NUMBER[UNIT]; write for example 2ms"),
        ("nan", "count", "'nan' is not NUMBER[UNIT]; write for example 2k"),
        ("inf", "memory", "'inf' is not NUMBER[UNIT]; write for example 4KiB"),
        ("2 k b", "count", "'2 k b' is not NUMBER[UNIT]; write for example 2k"),
        ("2MS", "time", "'MS' is not a unit of time: did you mean 'ms'? (known: %, ms, ns, s, us, µs)"),
        (
            "4kib",
            "memory",
            "'kib' is not a unit of memory: did you mean 'KiB'? (known: %, B, GB, GiB, KiB, MB, MiB, kB)",
        ),
        ("2m", "count", "'m' is not a unit of count: did you mean 'M'? (known: %, G, K, M, k)"),
        ("2ms", "count", "'ms' is a unit of time, not a unit of count: known: %, G, K, M, k"),
        ("2k", "memory", "'k' is a unit of count, not a unit of memory: known: %, B, GB, "),
        ("2k", "ratio", "'k' is a unit of count, not a unit of ratio: known: %"),
    ],
)
def test_refuses_with_a_sentence(text, dimension, sentence):
    with pytest.raises(BudgetError) as raised:
        parse_quantity(text, dimension)
    assert str(raised.value).startswith(sentence)


@pytest.mark.parametrize(
    ("value", "dimension", "text"),
    [
        (0.0021, "time", "2.1 ms"),
        (1.5, "time", "1.5 s"),
        (8.6e-6, "time", "8.6 us"),
        (0.00099999999, "time", "1 ms"),  # 999.99999 us rounds to four figures as 1000 us
        (4e-10, "time", "0.4 ns"),
        (0, "time", "0 s"),
        (3712, "memory", "3.625 KiB"),  # 3712 / 1024
        (1023, "memory", "1023 B"),
        (1024, "memory", "1 KiB"),
        (1048575, "memory", "1 MiB"),  # 1023.999 KiB
        (0, "memory", "0 B"),
        (1128, "count", "1128"),
        (9999, "count", "9999"),
        (9999.9, "count", "10 k"),
        (12300, "count", "12.3 k"),
        (141312, "count", "141.3 k"),
        (999999, "count", "1 M"),
        (2.5e9, "count", "2.5 G"),
        (0, "count", "0"),
        (0.5, "count", "0.5"),
        (-20_000, "count", "-20 k"),
        (0.9531, "ratio", "95.3 %"),
        (math.nan, "time", "nan s"),
        (math.inf, "count", "inf"),
    ],
)
def test_writes_for_people(value, dimension, text):
    assert format_quantity(value, dimension) == text


@pytest.mark.parametrize(
    ("value", "dimension"), [(0.0021, "time"), (8.6e-6, "time"), (4096, "memory"), (123_000, "count"), (0.953, "ratio")]
)
def test_what_is_written_can_be_read(value, dimension):
    assert parse_quantity(format_quantity(value, dimension), dimension).value == pytest.approx(value)


def test_binary_and_decimal_units_differ():
    # 1 GiB = 1024^3 = 1,073,741,824 bytes, 7.4 % more than 1 GB.
    assert FACTORS["memory"]["GiB"] == 1_073_741_824
    assert FACTORS["memory"]["GB"] == 1_000_000_000
