"""The calculator that the model may call: a parser for a small language of sums and letter counts;
never `eval`.

    sum     := product (("+" | "-") product)*
    product := signed (("*" | "/" | "//" | "%") signed)*
    signed  := ("-" | "+") signed | power
    power   := atom ("**" signed)?
    atom    := number | "(" sum ")" | string ".count(" string ")"

Numbers may carry thousands commas. Arithmetic is exact (fractions), so 0.1 + 0.2 is 0.3 and 1 / 3 *
3 is 1; only roots and fractions too long to keep pass through a float.
"""

import decimal
import math
import operator
import re
from collections.abc import Callable
from fractions import Fraction

MAX_CHARACTERS = 256
MAX_DEPTH = 32
MAX_OPERATIONS = 64
MAX_DIGITS = 100  # before the point, of every intermediate and the final result
SIGNIFICANT_DIGITS = 12  # of a result with a fraction
MAX_EXACT_BITS = 1024  # of a numerator or denominator; more becomes a float

_TOKEN = re.compile(
    r"""[ \t\r\n]*(?:
    (?P<number>(?:(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?)(?![\w.,])
    |(?P<string>'(?:[^'\\]|\\['"\\])*'|"(?:[^"\\]|\\['"\\])*")
    |(?P<sign>\*\*|//|[-+*/%()]|\.[ \t]*count[ \t]*\()
    )""",
    re.VERBOSE,
)


class _Nonsense(Exception):
    """The expression is not in the language, or leaves its bounds."""


def calculate(expression: str) -> str | None:
    """The value of an expression as a person writes it, or None for nonsense, division by zero or
    what is too large.

    Never raises. The result has at most MAX_DIGITS digits before the point; work is bounded by
    MAX_CHARACTERS, MAX_DEPTH, MAX_OPERATIONS and MAX_EXACT_BITS.
    """
    try:
        return _text(_Parser(_tokens(expression)).result())
    except (_Nonsense, ZeroDivisionError, OverflowError, ValueError):
        return None


def _tokens(expression: str) -> list[tuple[str, str]]:
    """(kind, text) pairs: numbers, strings with quotes and escapes taken off, signs."""
    if len(expression) > MAX_CHARACTERS:
        raise _Nonsense
    expression, tokens, at = expression.rstrip(" \t\r\n"), [], 0
    while at < len(expression):
        match = _TOKEN.match(expression, at)
        if match is None or match.lastgroup is None:
            raise _Nonsense
        kind, text, at = match.lastgroup, match[match.lastgroup], match.end()
        if kind == "string":
            text = re.sub(r"\\(.)", r"\1", text[1:-1])
        elif kind == "sign" and text.startswith("."):
            text = ".count("
        tokens.append((kind, text))
    return tokens


class _Parser:
    """Evaluates while it parses; every intermediate value is bounded as soon as it exists."""

    def __init__(self, tokens: list[tuple[str, str]]):
        self.tokens = [*tokens, ("end", "")]
        self.at = self.depth = self.operations = 0

    def result(self) -> Fraction:
        value = self.sum()
        self.take("end")
        return value

    def peek(self, *signs: str) -> bool:
        kind, text = self.tokens[self.at]
        return kind == "sign" and text in signs

    def take(self, kind: str, sign: str | None = None) -> str:
        found, text = self.tokens[self.at]
        if found != kind or sign not in (None, text):
            raise _Nonsense
        self.at += 1
        if sign is None and kind == "sign":
            self.operations += 1
            if self.operations > MAX_OPERATIONS:
                raise _Nonsense
        return text

    def sum(self) -> Fraction:
        return self.chain(self.product, "+", "-")

    def product(self) -> Fraction:
        return self.chain(self.signed, "*", "/", "//", "%")

    def chain(self, operand: Callable[[], Fraction], *signs: str) -> Fraction:
        """Operands joined by any of the signs, from the left."""
        value = operand()
        while self.peek(*signs):
            value = _apply(self.take("sign"), value, operand())
        return value

    def signed(self) -> Fraction:
        self.depth += 1  # every recursion passes here, so this bounds the stack
        if self.depth > MAX_DEPTH:
            raise _Nonsense
        if self.peek("-", "+"):
            value = -self.signed() if self.take("sign") == "-" else self.signed()
        else:
            value = self.atom()
            if self.peek("**"):
                value = _apply(self.take("sign"), value, self.signed())
        self.depth -= 1
        return value

    def atom(self) -> Fraction:
        kind, text = self.tokens[self.at]
        if kind == "number":
            self.at += 1
            return _bounded(Fraction(text.replace(",", "")))
        if kind == "string":
            haystack = self.take("string")
            if not self.peek(".count("):
                raise _Nonsense
            self.take("sign")
            needle = self.take("string")
            self.take("sign", ")")
            return Fraction(haystack.count(needle))
        self.take("sign", "(")
        value = self.sum()
        self.take("sign", ")")
        return value


def _power(base: Fraction, exponent: Fraction) -> Fraction:
    """Exact when the exponent is whole and the result short, judged before anything is computed;
    else a float.
    """
    bits = max(base.numerator.bit_length(), base.denominator.bit_length())
    if exponent.denominator == 1 and abs(exponent.numerator) * bits <= MAX_EXACT_BITS:
        return Fraction(base**exponent.numerator)
    value = math.pow(base, exponent)
    if value == 0 and base != 0:  # underflow would call a non-zero number zero
        raise _Nonsense
    return Fraction(value)


_OPERATORS: dict[str, Callable[[Fraction, Fraction], Fraction | int]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "//": operator.floordiv,
    "%": operator.mod,
    "**": _power,
}


def _apply(sign: str, left: Fraction, right: Fraction) -> Fraction:
    return _bounded(Fraction(_OPERATORS[sign](left, right)))


def _bounded(value: Fraction) -> Fraction:
    if abs(value) >= 10**MAX_DIGITS:
        raise _Nonsense
    return value if value.denominator.bit_length() <= MAX_EXACT_BITS else Fraction(float(value))


def _text(value: Fraction) -> str:
    if value.denominator == 1:
        return str(value.numerator)
    precision = max(SIGNIFICANT_DIGITS, len(str(abs(value.numerator) // value.denominator)) + 2)
    with decimal.localcontext(prec=precision):
        rounded = (
            decimal.Decimal(value.numerator) / decimal.Decimal(value.denominator)
        ).normalize()
    # A long row of zeros is harder to read than an exponent.
    return (
        str(rounded).replace("E", "e")
        if abs(rounded) < decimal.Decimal("1e-9")
        else format(rounded, "f")
    )
