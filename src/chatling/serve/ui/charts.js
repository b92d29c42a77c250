// A line chart as SVG: two axes, one curve, the value under the pointer.

import { t } from "./common.js";

const NS = "http://www.w3.org/2000/svg";
const WIDTH = 420, HEIGHT = 200, LEFT = 52, RIGHT = 8, TOP = 10, BOTTOM = 24;

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

// Round numbers that span low..high: about `wanted` of them.
export function ticks(low, high, wanted = 4) {
  const rough = (high - low) / wanted || Math.abs(high) || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough);
  const first = Math.floor(low / step) * step;
  const found = [];
  for (let value = first; value < high + step * 0.999; value += step) found.push(Number(value.toPrecision(12)));
  return found;
}

// A figure with the curve of `points` = [[step, value], …], which go up in steps.
export class Chart {
  constructor(title) {
    this.node = document.createElement("figure");
    this.node.className = "chart";
    const caption = document.createElement("figcaption");
    this.title = document.createElement("span");
    this.output = document.createElement("output");
    this.svg = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img" });
    caption.append(this.title, this.output);
    this.node.append(caption, this.svg);
    this.titled = title;
    this.svg.addEventListener("pointermove", (event) => this.point(event));
    this.svg.addEventListener("pointerleave", () => this.rest());
  }

  draw(points) {
    this.points = points;
    this.title.textContent = t(this.titled);
    const values = points.map(([, value]) => value).sort((a, b) => a - b);
    // The first steps' heights would flatten all the rest, so the scale leaves out the highest fiftieth.
    const scale = ticks(values[0], values[Math.floor((values.length - 1) * 0.98)]);
    const steps = [points[0][0], points.at(-1)[0]];
    const [first, last] = steps;
    this.x = (step) => LEFT + (last > first ? (step - first) / (last - first) : 0.5) * (WIDTH - LEFT - RIGHT);
    this.y = (value) => HEIGHT - BOTTOM - ((value - scale[0]) / (scale.at(-1) - scale[0] || 1)) * (HEIGHT - TOP - BOTTOM);
    const inside = (value) => Math.max(TOP - 4, Math.min(HEIGHT - BOTTOM, this.y(value)));
    const lines = scale.flatMap((value) => [
      svg("line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: this.y(value), y2: this.y(value) }),
      svg("text", { x: LEFT - 6, y: this.y(value) + 4, "text-anchor": "end" }, figure(value)),
    ]);
    const anchors = last > first ? [[first, "start"], [last, "end"]] : [[first, "middle"]];
    const ends = anchors.map(([step, anchor]) => svg("text", { x: this.x(step), y: HEIGHT - 6, "text-anchor": anchor }, step.toLocaleString("en")));
    const path = points.map(([step, value], i) => `${i ? "L" : "M"}${this.x(step).toFixed(1)} ${inside(value).toFixed(1)}`).join("");
    this.cross = svg("line", { class: "cross", y1: TOP, y2: HEIGHT - BOTTOM, visibility: "hidden" });
    this.dot = svg("circle", { class: "dot", r: 3.5, visibility: "hidden" });
    const curve = points.length > 1 ? svg("path", { class: "curve", d: path }) : svg("circle", { class: "dot", r: 3, cx: this.x(first), cy: inside(points[0][1]) });
    this.svg.replaceChildren(...lines, ...ends, curve, this.cross, this.dot);
    this.inside = inside;
    this.rest();
  }

  point(event) {
    const box = this.svg.getBoundingClientRect();
    const at = ((event.clientX - box.left) / box.width) * WIDTH;
    const nearest = this.points.reduce((best, point) => (Math.abs(this.x(point[0]) - at) < Math.abs(this.x(best[0]) - at) ? point : best));
    const x = this.x(nearest[0]);
    this.cross.setAttribute("x1", x);
    this.cross.setAttribute("x2", x);
    this.dot.setAttribute("cx", x);
    this.dot.setAttribute("cy", this.inside(nearest[1]));
    for (const node of [this.cross, this.dot]) node.setAttribute("visibility", "visible");
    this.output.textContent = `${figure(nearest[1])} · ${t("step")} ${nearest[0].toLocaleString("en")}`;
  }

  rest() {
    const [step, value] = this.points.at(-1);
    for (const node of [this.cross, this.dot]) node?.setAttribute("visibility", "hidden");
    this.output.textContent = figure(value);
    this.svg.setAttribute("aria-label", `${t(this.titled)}: ${figure(value)}, ${t("step")} ${step}`);
  }
}
