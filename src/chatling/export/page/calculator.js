// chatling's calculator: the same small language, exact fractions, the same bounds. Never eval.
"use strict";

const MOST = { characters: 256, depth: 32, operations: 64, bits: 1024 };
const LARGEST = 10n ** 100n;
const TOKEN = /[ \t\r\n]*(?:(?<number>(?:(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,3})?)(?![\p{L}\p{N}_.,])|(?<string>'(?:[^'\\]|\\['"\\])*'|"(?:[^"\\]|\\['"\\])*")|(?<sign>\*\*|\/\/|[-+*\/%()]|\.[ \t]*count[ \t]*\())/yu;

class Nonsense extends Error {}
const nonsense = () => { throw new Nonsense(); };
const bits = (n) => (n < 0n ? -n : n).toString(2).length * (n !== 0n);
const floorDivide = (a, b) => a / b - (a % b !== 0n && (a < 0n) !== (b < 0n) ? 1n : 0n);

function fraction(n, d = 1n) {
  if (d === 0n) nonsense();
  if (d < 0n) { n = -n; d = -d; }
  let a = n < 0n ? -n : n, b = d;
  while (b) [a, b] = [b, a % b];
  return { n: n / a, d: d / a };
}

// the exact value of a float
function ofFloat(value) {
  if (!Number.isFinite(value)) nonsense();
  let exponent = 0;
  while (!Number.isInteger(value)) { value *= 2; exponent++; }
  return fraction(BigInt(value), 1n << BigInt(exponent));
}

// the float nearest to a fraction
function toFloat({ n, d }) {
  if (n === 0n) return 0;
  const sign = n < 0n ? -1 : 1;
  if (n < 0n) n = -n;
  const shift = Math.min(66 - (bits(n) - bits(d)), 1074);  // 2 ** -1074 is the smallest float
  const [above, below] = shift >= 0 ? [n << BigInt(shift), d] : [n, d << BigInt(-shift)];
  const rest = above % below;
  let whole = above / below;
  if (whole >= 1n << 53n) { if (rest) whole |= 1n; }  // sticky, so that Number() rounds once
  else if (2n * rest > below || (2n * rest === below && whole % 2n)) whole++;  // a subnormal float
  return sign * Number(whole) * 2 ** Math.min(-shift, 900) * 2 ** Math.max(0, -shift - 900);
}

function bounded(value) {
  if ((value.n < 0n ? -value.n : value.n) >= LARGEST * value.d) nonsense();
  return bits(value.d) <= MOST.bits ? value : ofFloat(toFloat(value));
}

function power(base, exponent) {
  const most = Math.max(bits(base.n), bits(base.d));
  const size = exponent.n < 0n ? -exponent.n : exponent.n;
  if (exponent.d === 1n && size * BigInt(most) <= BigInt(MOST.bits)) {
    const [n, d] = [base.n ** size, base.d ** size];
    return exponent.n < 0n ? fraction(d, n) : fraction(n, d);
  }
  const value = Math.pow(toFloat(base), toFloat(exponent));
  if (value === 0 && base.n !== 0n) nonsense();
  return ofFloat(value);
}

const OPERATORS = {
  "+": (a, b) => fraction(a.n * b.d + b.n * a.d, a.d * b.d),
  "-": (a, b) => fraction(a.n * b.d - b.n * a.d, a.d * b.d),
  "*": (a, b) => fraction(a.n * b.n, a.d * b.d),
  "/": (a, b) => fraction(a.n * b.d, a.d * b.n),
  "//": (a, b) => (b.n === 0n ? nonsense() : fraction(floorDivide(a.n * b.d, a.d * b.n))),
  "%": (a, b) => OPERATORS["-"](a, OPERATORS["*"](b, OPERATORS["//"](a, b))),
  "**": power,
};

function tokensOf(text) {
  if ([...text].length > MOST.characters) nonsense();
  text = text.replace(/[ \t\r\n]+$/, "");
  const tokens = [];
  TOKEN.lastIndex = 0;
  while (TOKEN.lastIndex < text.length) {
    const match = TOKEN.exec(text) ?? nonsense();
    let [kind, word] = Object.entries(match.groups).find(([, value]) => value !== undefined);
    if (kind === "string") word = word.slice(1, -1).replace(/\\(.)/gs, "$1");
    else if (kind === "sign" && word.startsWith(".")) word = ".count(";
    tokens.push([kind, word]);
  }
  return [...tokens, ["end", ""]];
}

function numberOf(text) {
  const [mantissa, exponent = "0"] = text.replaceAll(",", "").toLowerCase().split("e");
  const [whole, part = ""] = mantissa.split("."), scale = Number(exponent) - part.length;
  const digits = BigInt(whole + part || "0");
  return bounded(scale >= 0 ? fraction(digits * 10n ** BigInt(scale)) : fraction(digits, 10n ** BigInt(-scale)));
}

function evaluate(tokens) {
  let at = 0, depth = 0, operations = 0;
  const peek = (...signs) => tokens[at][0] === "sign" && signs.includes(tokens[at][1]);
  const take = (kind, sign) => {
    const [found, text] = tokens[at];
    if (found !== kind || (sign !== undefined && sign !== text)) nonsense();
    at++;
    if (sign === undefined && kind === "sign" && ++operations > MOST.operations) nonsense();
    return text;
  };
  const apply = (sign, left, right) => bounded(OPERATORS[sign](left, right));
  const chain = (operand, ...signs) => {
    let value = operand();
    while (peek(...signs)) value = apply(take("sign"), value, operand());
    return value;
  };
  const sum = () => chain(product, "+", "-");
  const product = () => chain(signed, "*", "/", "//", "%");
  const signed = () => {
    if (++depth > MOST.depth) nonsense();
    let value;
    if (peek("-", "+")) {
      const minus = take("sign") === "-", operand = signed();
      value = minus ? fraction(-operand.n, operand.d) : operand;
    } else {
      value = atom();
      if (peek("**")) value = apply(take("sign"), value, signed());
    }
    depth--;
    return value;
  };
  const atom = () => {
    const [kind, text] = tokens[at];
    if (kind === "number") { at++; return numberOf(text); }
    if (kind === "string") {
      take("string");
      if (!peek(".count(")) nonsense();
      take("sign");
      const letters = take("string");
      take("sign", ")");
      const found = letters === "" ? [...text].length + 1 : text.split(letters).length - 1;
      return fraction(BigInt(found));
    }
    take("sign", "(");
    const value = sum();
    take("sign", ")");
    return value;
  };
  const value = sum();
  take("end");
  return value;
}

// a fraction to so many significant digits, half to even, without trailing zeros
function textOf({ n, d }) {
  if (d === 1n) return String(n);
  const minus = n < 0n ? "-" : "";
  if (minus) n = -n;
  const whole = String(n / d).length, precision = Math.max(12, whole + 2);
  // n / d = digits * 10 ** -scale with `precision` digits
  let scale = precision - String(n / d).length * (n >= d);
  if (n < d) { let small = n; while (small * 10n < d) { small *= 10n; scale++; } }
  let digits = (n * 10n ** BigInt(scale)) / d;
  const rest = 2n * ((n * 10n ** BigInt(scale)) % d);
  if (rest > d || (rest === d && digits % 2n)) digits++;
  while (scale > 0 && digits % 10n === 0n) { digits /= 10n; scale--; }
  const text = String(digits), exponent = text.length - 1 - scale;
  if (exponent < -9) {
    return `${minus}${text[0]}${text.length > 1 ? "." + text.slice(1) : ""}e${exponent}`;
  }
  if (scale <= 0) return minus + text + "0".repeat(-scale);
  const padded = text.padStart(scale + 1, "0");
  return `${minus}${padded.slice(0, -scale)}.${padded.slice(-scale)}`;
}

// The value of an expression as a person writes it, or null for nonsense.
function calculate(text) {
  try {
    return textOf(evaluate(tokensOf(text)));
  } catch (error) {
    if (error instanceof Nonsense || error instanceof RangeError) return null;
    throw error;
  }
}

if (typeof module !== "undefined") module.exports.calculate = calculate;
