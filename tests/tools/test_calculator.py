"""The calculator: right on what string tricks get wrong, silent on nonsense, bounded on
everything.
"""

import math
import re
import string
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatling.tools.calculator import (
    MAX_CHARACTERS,
    MAX_DEPTH,
    MAX_DIGITS,
    MAX_OPERATIONS,
    calculate,
)


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("12+7", "19"),
        ("1,234 + 1", "1235"),
        ("1,234,567.5*2", "2469135"),
        ("2 + 3 * 4", "14"),
        ("(2 + 3) * 4", "20"),
        ("((((1))))", "1"),
        ("-3", "-3"),
        ("--3", "3"),
        ("2--3", "5"),
        ("-2**2", "-4"),
        ("2**-1", "0.5"),
        ("2**3**2", "512"),
        ("2**0.5", "1.41421356237"),
        ("4**0.5", "2"),
        ("1.05**100", "131.501257846"),
        ("7/2", "3.5"),
        ("6/2", "3"),
        ("10/3", "3.33333333333"),
        ("1/3*3", "1"),
        ("7//2", "3"),
        ("-7//2", "-4"),
        ("-7%3", "2"),
        ("7.5%2", "1.5"),
        ("0.1+0.2", "0.3"),
        ("0.3%0.1", "0"),
        (".5+5.", "5.5"),
        ("1e3+1", "1001"),
        ("1234567890123.5+0", "1234567890123.5"),
        ("1/8/10000000000", "1.25e-11"),
        ("  12 *\t3 \n", "36"),
        ("'medieval'.count('e')", "2"),
        ("'medieval'.count('eval')", "1"),
        ("'a,b,c'.count(',')", "2"),
        ('"strawberry".count("r")', "3"),
        ("'strawberry'.count('r') + 1", "4"),
        ("'eval(1)'.count('(')", "1"),
        (r"'it\'s'.count('\'')", "1"),
        ("'' . count ( 'a' )", "0"),
        ("'été'.count('é')", "2"),
    ],
)
def test_value(expression: str, value: str) -> None:
    assert calculate(expression) == value


@pytest.mark.parametrize(
    "expression",
    [
        "",
        " ",
        "1/0",
        "1//0",
        "1%0",
        "0**-1",
        "(-8)**0.5",
        "1 2",
        "1,23",
        "1,2345",
        "12,345,6",
        "1+",
        "*1",
        "()",
        "(1",
        "1)",
        "1..2",
        "1.2.3",
        "x",
        "__import__('os')",
        "abs(1)",
        "1;2",
        "'a'",
        "'a'+'b'",
        "'a'*9",
        "'a'.upper()",
        "'a'.count(1)",
        "1.count('a')",
        "'a'.count('a'",
        "'a'.count('a').count('b')",
        "'abc",
        "１+１",
        "٣+1",
        "1 if 1 else 2",
        "50%",
        "2^3",
        "1e999",
        "9**9**9",
        "10**100",
        "2**1000",
        "2**-5000",
        "lambda: 1",
        "\x00",
        "\ud800",
        "1" * (MAX_DIGITS + 1),
        "1+" * MAX_CHARACTERS + "1",
    ],
)
def test_nonsense_is_none(expression: str) -> None:
    assert calculate(expression) is None


def test_bounds_are_where_they_are_stated() -> None:
    assert calculate("9" * MAX_DIGITS) == "9" * MAX_DIGITS
    assert calculate("9" * MAX_DIGITS + "+1") is None
    assert calculate("1" + " " * (MAX_CHARACTERS - 1)) == "1"
    assert calculate("1" + " " * MAX_CHARACTERS) is None
    assert calculate("1" + "+1" * MAX_OPERATIONS) == str(MAX_OPERATIONS + 1)
    assert calculate("1" + "+1" * (MAX_OPERATIONS + 1)) is None
    assert calculate("(" * (MAX_DEPTH - 1) + "1" + ")" * (MAX_DEPTH - 1)) == "1"
    assert calculate("(" * MAX_DEPTH + "1" + ")" * MAX_DEPTH) is None


_alphabet = st.text(
    alphabet="0123456789+-*/%().,'\"\\ \tecount" + "é\ud800x", max_size=MAX_CHARACTERS + 8
)
_pieces = [
    "9",
    "1,234",
    "0.1",
    ".5",
    "1e9",
    "**",
    "*",
    "//",
    "/",
    "%",
    "+",
    "-",
    "(",
    ")",
    "'ab'",
    ".count(",
    '"a"',
    " ",
]
_snippets = st.lists(st.sampled_from(_pieces), max_size=80).map("".join)


@settings(max_examples=600, deadline=None)
@given(st.one_of(st.text(max_size=300), _alphabet, _snippets))
def test_never_raises_and_stays_bounded(expression: str) -> None:
    started = time.perf_counter()
    value = calculate(expression)
    assert time.perf_counter() - started < 0.5
    if value is not None:
        assert re.fullmatch(r"-?[0-9]{1,100}(\.[0-9]+)?(e-[0-9]+)?", value)
        assert len(value) <= MAX_DIGITS + 32
        # what it says, it can read
        assert float(calculate(value) or "nan") == pytest.approx(float(value))


_numbers = st.one_of(st.integers(0, 10**6).map(str), st.decimals(0, 1000, places=2).map(str))
_expressions = st.recursive(
    _numbers,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["+", "-", "*", "/", "//", "%"]), inner).map(
            lambda t: f"({t[0]} {t[1]} {t[2]})"
        ),
        inner.map(lambda e: f"-{e}"),
    ),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(_expressions)
def test_agrees_with_exact_python(expression: str) -> None:
    from fractions import Fraction

    # Python itself, on exact fractions, is the independent reference; the text comes from our own
    # strategy
    try:
        exact = eval(
            re.sub(r"[0-9.]+", lambda m: f"Fraction('{m[0]}')", expression), {"Fraction": Fraction}
        )
    except ZeroDivisionError:
        assert calculate(expression) is None
        return
    value = calculate(expression)
    if value is None:
        assert len(expression) > MAX_CHARACTERS
    else:
        assert math.isclose(float(value), float(exact), rel_tol=1e-11, abs_tol=1e-300)


@given(
    st.text(alphabet=string.ascii_letters + ", ()+", max_size=40),
    st.text(alphabet="aelv,(", min_size=1, max_size=2),
)
def test_counts_like_str_count(haystack: str, needle: str) -> None:
    assert calculate(f"'{haystack}'.count('{needle}')") == str(haystack.count(needle))
