/** Pixels for a layout: nodes by their upper left corner, edges as curves between the sides that face each other. */
import type { Layout } from "./layout";

export const NODE = { width: 140, height: 44 };
const GAP = { right: 36, down: 30, across: 12 };
const PAD = 4;
/** Below this width a graph always runs downwards, so that it scrolls the way a phone does. */
const NARROW_PX = 640;

export type Direction = "right" | "down";

interface Point {
  x: number;
  y: number;
}

function extent(layout: Layout, direction: Direction) {
  const [along, across] = direction === "right" ? [NODE.width, NODE.height] : [NODE.height, NODE.width];
  const length = layout.numLayers * (along + GAP[direction]) - GAP[direction] + 2 * PAD;
  const breadth = layout.breadth * (across + GAP.across) - GAP.across + 2 * PAD;
  return direction === "right" ? { width: length, height: breadth } : { width: breadth, height: length };
}

/** Rightwards where that fits the width; else downwards if that is narrower. */
export function directionFor(layout: Layout, width: number): Direction {
  if (width < NARROW_PX) return "down";
  const right = extent(layout, "right").width;
  return right <= width || right <= extent(layout, "down").width ? "right" : "down";
}

export function draw(layout: Layout, direction: Direction) {
  const isRight = direction === "right";
  const place = (layer: number, slot: number): Point => {
    return isRight
      ? { x: PAD + layer * (NODE.width + GAP.right), y: PAD + slot * (NODE.height + GAP.across) }
      : { x: PAD + slot * (NODE.width + GAP.across), y: PAD + layer * (NODE.height + GAP.down) };
  };
  /** Where edges meet a node: on the side of its parents (0) or of its children (1). */
  const port = (layer: number, slot: number, side: 0 | 1): Point => {
    const { x, y } = place(layer, slot);
    return isRight
      ? { x: x + NODE.width * side, y: y + NODE.height / 2 }
      : { x: x + NODE.width / 2, y: y + NODE.height * side };
  };
  const curve = (a: Point, b: Point): string => {
    const middle = { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 };
    return isRight
      ? `C${middle.x},${a.y} ${middle.x},${b.y} ${b.x},${b.y}`
      : `C${a.x},${middle.y} ${b.x},${middle.y} ${b.x},${b.y}`;
  };
  const paths = layout.routes.map(({ from, to, points }) => {
    // A way-point is crossed straight, from its near side to its far one.
    const stops = points.flatMap(({ layer, slot }, at) => {
      if (at === 0) return [port(layer, slot, 1)];
      return at === points.length - 1 ? [port(layer, slot, 0)] : [port(layer, slot, 0), port(layer, slot, 1)];
    });
    const curves = stops.slice(1).map((stop, at) => curve(stops[at] ?? stop, stop));
    return { from, to, path: stops[0] ? `M${stops[0].x},${stops[0].y} ${curves.join(" ")}` : "" };
  });
  const places = new Map(layout.places.map(({ id, layer, slot }) => [id, place(layer, slot)]));
  return { paths, at: (id: string): Point => places.get(id) ?? { x: 0, y: 0 }, ...extent(layout, direction) };
}
