// A line chart as SVG: curves over steps, with a cursor and a choice of steps, by pointer and by keys.

import { el, t } from "./common.js";

const NS = "http://www.w3.org/2000/svg";
const WIDTH = 420, HEIGHT = 200, LEFT = 58, RIGHT = 8, TOP = 10, BOTTOM = 24;
const FEW = 30; // points that are marked one by one
const DRAGGED = 6; // units of the drawing that a pointer moves before it chooses steps

function svg(name, attributes, text) {
  const node = document.createElementNS(NS, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  return node;
}

export function figure(value) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e5 || size < 1e-3) return value.toExponential(1).replace("+", "");
  if (size >= 100) return Math.round(value).toLocaleString("en");
  return String(Number(value.toPrecision(4)));
}

// Round numbers that span low..high: about `wanted` of them. Values that differ by rounding alone count as one.
export function ticks(low, high, wanted = 4) {
  const size = Math.max(Math.abs(low), Math.abs(high)), range = high - low > 1e-9 * size ? high - low : 0;
  const rough = range / wanted || size || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough);
  const first = Math.floor(low / step) * step;
  const count = Math.ceil((high - first) / step - 1e-6) + 1;
  return Array.from({ length: Math.max(2, Math.min(count || 2, 20)) }, (_, i) => Number((first + i * step).toPrecision(12)));
}

// Marks for a logarithmic axis, which has only positive values: 1, 2, 5 of each decade, or decades alone where there are many.
export function logTicks(low, high) {
  const decades = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++) decades.push(10 ** power);
  const marks = decades.flatMap((decade) => (decades.length > 4 ? [1] : [1, 2, 5]).map((n) => Number((n * decade).toPrecision(12))));
  const first = marks.findLastIndex((mark) => mark <= low), last = marks.findIndex((mark) => mark >= high);
  const found = marks.slice(Math.max(first, 0), last < 0 ? undefined : last + 1);
  if (found.length > 3 || found.at(-1) / found[0] > 6) return found;
  const plain = ticks(low, high); // less than a decade: marks as on a plain axis tell more
  return plain[0] > 0 ? plain : found;
}

// Heights 0..1 of values, and the marks. The first steps' values would flatten all the rest, so `clip` leaves out the highest fiftieth.
function scale(values, { log, clip }) {
  const sorted = values.toSorted((a, b) => a - b);
  const low = sorted[0], high = sorted[Math.floor((sorted.length - 1) * (clip ? 0.98 : 1))];
  const logarithmic = log && low > 0;
  const marks = logarithmic ? logTicks(low, high) : ticks(low, high);
  const at = logarithmic ? Math.log : (value) => value;
  const from = at(marks[0]), range = at(marks.at(-1)) - from || 1;
  return { marks, logarithmic, height: (value) => (at(value) - from) / range };
}

// The point of a curve that is nearest to a step.
const nearest = (points, step) => points.reduce((best, point) => (Math.abs(point[0] - step) < Math.abs(best[0] - step) ? point : best));

export class Chart {
  // `zoom` is called with [first, last] when the reader chooses steps, and with null for all of them.
  constructor(zoom) {
    this.zoom = zoom;
    this.cursor = null;
    this.title = el("strong");
    this.where = el("span", { class: "hint" });
    this.legend = el("ul", { class: "legend" });
    this.spoken = el("output", { class: "unseen" });
    this.svg = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "application", tabindex: "0", "aria-describedby": "chart-keys" });
    this.band = svg("rect", { class: "band", y: TOP, height: HEIGHT - TOP - BOTTOM, visibility: "hidden" });
    this.cross = svg("line", { class: "cross", y1: TOP, y2: HEIGHT - BOTTOM });
    this.node = el("figure", { class: "chart" }, el("figcaption", {}, el("div", { class: "top" }, this.title, this.where), this.legend), this.svg, this.spoken);
    const on = (name, act) => this.svg.addEventListener(name, act);
    on("pointerdown", (event) => this.grab(event));
    on("pointermove", (event) => this.move(event));
    on("pointerup", () => this.drop());
    on("pointercancel", () => { this.start = undefined; this.point(null); });
    on("pointerleave", () => { if (this.start === undefined) this.point(null); });
    on("dblclick", () => this.zoom(null));
    on("keydown", (event) => this.key(event));
    on("blur", () => this.point(null));
  }

  // `curves` are [{label, points: [[step, value], …], smooth: the same, smoothed, or null}]; `span` are the first and the last step that are shown.
  draw({ title, curves, log, clip, span }) {
    this.span = span;
    const [first, last] = span;
    this.farthest = Math.max(this.farthest ?? 0, last);
    const inView = (points) => points.filter(([step]) => step >= first && step <= last);
    this.curves = curves.map((curve, index) => ({ ...curve, index, points: inView(curve.points), smooth: curve.smooth && inView(curve.smooth) }))
      .filter(({ points }) => points.length);
    this.titled = title;
    this.title.textContent = title;
    this.steps = [...new Set(this.curves.flatMap(({ points }) => points.map(([step]) => step)))].sort((a, b) => a - b);
    this.x = (step) => LEFT + (last > first ? (step - first) / (last - first) : 0.5) * (WIDTH - LEFT - RIGHT);
    const anchors = last > first ? [[first, "start"], [last, "end"]] : [[first, "middle"]];
    const ends = anchors.map(([step, anchor]) => svg("text", { x: this.x(step), y: HEIGHT - 6, "text-anchor": anchor }, step.toLocaleString("en")));
    this.picture = svg("g", { "aria-hidden": "true" });
    this.picture.append(...this.axis({ log, clip }), ...ends, ...this.curves.flatMap((curve) => this.lines(curve)));
    this.svg.replaceChildren(this.picture, this.band, this.cross);
    this.point(this.cursor);
  }

  axis({ log, clip }) {
    const values = this.curves.flatMap(({ points, smooth }) => (smooth ?? points).map(([, value]) => value));
    if (!values.length) return [];
    const { marks, height, logarithmic } = scale(values, { log, clip });
    const y = (value) => HEIGHT - BOTTOM - height(value) * (HEIGHT - TOP - BOTTOM);
    this.inside = (value) => Math.max(TOP - 4, Math.min(HEIGHT - BOTTOM, logarithmic && value <= 0 ? Infinity : y(value)));
    this.note = log && !logarithmic ? t("noLog") : "";
    return marks.flatMap((value) => [
      svg("line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: y(value), y2: y(value) }),
      svg("text", { x: LEFT - 6, y: y(value) + 4, "text-anchor": "end" }, figure(value)),
    ]);
  }

  lines({ points, smooth, index }) {
    const path = (line, kind) => svg("path", { class: `${kind} s${index}`,
      d: line.map(([step, value], i) => `${i ? "L" : "M"}${this.x(step).toFixed(1)} ${this.inside(value).toFixed(1)}`).join("") });
    const shown = smooth ?? points;
    const dots = points.length > FEW ? [] : shown.map(([step, value]) => svg("circle", { class: `dot s${index}`, r: 2.5, cx: this.x(step), cy: this.inside(value) }));
    return [...(smooth ? [path(points, "raw")] : []), path(shown, "curve"), ...dots];
  }

  // Shows the values at a step; those at the end for null.
  point(step) {
    this.cursor = step === null || !this.steps.length ? null : nearest(this.steps.map((each) => [each]), step)[0];
    const at = this.curves.map((curve) => {
      const line = curve.smooth ?? curve.points;
      return { ...curve, found: this.cursor === null ? line.at(-1) : nearest(line, this.cursor) };
    });
    this.legend.replaceChildren(...at.map(({ label, index, found }) =>
      el("li", {}, el("i", { class: `s${index}` }), el("span", { text: label }), el("b", { text: figure(found[1]) }))));
    this.cross.setAttribute("visibility", this.cursor === null ? "hidden" : "visible");
    for (const end of ["x1", "x2"]) this.cross.setAttribute(end, this.x(this.cursor ?? this.span[0]));
    for (const dot of this.svg.querySelectorAll(".at")) dot.remove();
    if (this.cursor !== null) this.svg.append(...at.map(({ index, found }) => svg("circle", { class: `dot at s${index}`, r: 3.5, cx: this.x(found[0]), cy: this.inside(found[1]) })));
    this.where.textContent = this.cursor === null ? this.note ?? "" : `${t("step")} ${this.cursor.toLocaleString("en")}`;
    const values = at.map(({ label, found }) => `${label} ${figure(found[1])}`).join(", ");
    this.svg.setAttribute("aria-label", `${this.titled}: ${values || t("noPoints")}`);
    return `${this.where.textContent}: ${values}`;
  }

  stepAt(event) {
    const box = this.svg.getBoundingClientRect(), [first, last] = this.span;
    const share = (((event.clientX - box.left) / box.width) * WIDTH - LEFT) / (WIDTH - LEFT - RIGHT);
    return first + Math.max(0, Math.min(1, share)) * (last - first);
  }

  grab(event) {
    if (event.button || !event.isPrimary) return;
    this.start = this.stepAt(event);
    this.svg.setPointerCapture(event.pointerId);
  }

  move(event) {
    const step = this.stepAt(event);
    this.point(step);
    if (this.start === undefined) return;
    const [a, b] = [this.start, step].sort((x, y) => x - y);
    this.chosen = this.x(b) - this.x(a) > DRAGGED ? [a, b] : null;
    this.band.setAttribute("visibility", this.chosen ? "visible" : "hidden");
    this.band.setAttribute("x", this.x(a));
    this.band.setAttribute("width", this.x(b) - this.x(a));
  }

  drop() {
    const chosen = this.start === undefined ? null : this.chosen;
    this.start = this.chosen = undefined;
    this.band.setAttribute("visibility", "hidden");
    if (chosen) this.show(...chosen);
  }

  // Chooses steps, if any are left between the two.
  show(first, last) {
    const [from, to] = [Math.max(0, Math.floor(first)), Math.min(this.farthest, Math.ceil(last))];
    if (from < to) this.zoom(from || to < this.farthest ? [from, to] : null);
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || !this.steps.length) return;
    const [first, last] = this.span, { steps } = this;
    const place = steps.indexOf(this.cursor), middle = this.cursor ?? (first + last) / 2, far = Math.max(1, Math.round(steps.length / 10));
    const to = (index) => { this.spoken.textContent = this.point(steps[Math.max(0, Math.min(steps.length - 1, index))]); };
    const keys = {
      ArrowLeft: () => to(place < 0 ? steps.length - 1 : place - 1), ArrowRight: () => to(place < 0 ? 0 : place + 1),
      PageUp: () => to(place - far), PageDown: () => to(place + far), Home: () => to(0), End: () => to(steps.length - 1),
      "+": () => this.show(middle - (last - first) / 4, middle + (last - first) / 4), "-": () => this.show(middle - (last - first), middle + (last - first)),
      0: () => this.zoom(null), Escape: () => this.zoom(null),
    };
    keys["="] = keys["+"];
    if (!keys[event.key]) return;
    event.preventDefault();
    keys[event.key]();
  }
}
