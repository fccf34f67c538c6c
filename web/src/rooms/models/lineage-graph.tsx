/** What an artifact was made from and what was made from it, as a drawing whose nodes are links. */
import { Link } from "@tanstack/react-router";
import { useLayoutEffect, useMemo, useRef, useState } from "react";
import type { Lineage, LineageNode } from "../../api/types";
import { artifactName, shortDigest } from "../../format";
import { type Layout, layoutGraph } from "./layout";

const NODE = { width: 148, height: 44 };
const GAP = { along: 44, across: 14 };
/** Below this width the graph runs downwards, so that it scrolls the way a phone does. */
const NARROW_PX = 640;

interface LineageGraphProps {
  lineage: Lineage;
  current: string;
}

export function LineageGraph({ lineage, current }: LineageGraphProps) {
  const box = useRef<HTMLDivElement>(null);
  const [width, setWidth] = useState(0);
  useLayoutEffect(() => {
    if (!box.current) return;
    const sizes = new ResizeObserver(([entry]) => setWidth(entry?.contentRect.width ?? 0));
    sizes.observe(box.current);
    return () => sizes.disconnect();
  }, []);
  const layout = useMemo(
    () =>
      layoutGraph(
        lineage.nodes.map(({ digest }) => digest),
        lineage.edges,
      ),
    [lineage],
  );
  const isDown = width < NARROW_PX;
  const drawing = useMemo(() => draw(layout, isDown), [layout, isDown]);

  return (
    <div className="lineage" ref={box}>
      {width > 0 ? (
        <svg
          width={drawing.width}
          height={drawing.height}
          role="group"
          aria-label="Lineage, from sources to results"
        >
          {drawing.paths.map(({ key, path, from, to }) => (
            <path
              key={key}
              d={path}
              className="lineage-edge"
              data-near={from === current || to === current || undefined}
            />
          ))}
          {lineage.nodes.map((node) => (
            <NodeLink
              key={node.digest}
              node={node}
              isCurrent={node.digest === current}
              {...drawing.at(node.digest)}
            />
          ))}
        </svg>
      ) : null}
    </div>
  );
}

interface NodeLinkProps {
  node: LineageNode;
  isCurrent: boolean;
  x: number;
  y: number;
}

function NodeLink({ node, isCurrent, x, y }: NodeLinkProps) {
  // What has no name goes by its kind: a digest says nothing at a glance.
  const [name, below] =
    node.names.length > 0 ? [artifactName(node), node.kind] : [node.kind, shortDigest(node.digest)];
  return (
    <foreignObject x={x} y={y} width={NODE.width} height={NODE.height} className="lineage-place">
      <Link
        to="/models/$digest"
        params={{ digest: node.digest }}
        className="lineage-node"
        aria-current={isCurrent ? "page" : undefined}
        title={`${artifactName(node)} (${node.kind}, ${shortDigest(node.digest)})`}
      >
        <span className="clip">{name}</span>
        <span className="clip">{below}</span>
      </Link>
    </foreignObject>
  );
}

/** Pixels for a layout: nodes by their upper left corner, edges as curves between the sides that face each other. */
function draw(layout: Layout, isDown: boolean) {
  const size = isDown
    ? { along: NODE.height, across: NODE.width }
    : { along: NODE.width, across: NODE.height };
  const step = { along: size.along + GAP.along * (isDown ? 0.7 : 1), across: size.across + GAP.across };
  const pad = 4;
  const place = (layer: number, slot: number) => {
    const along = pad + layer * step.along;
    const across = pad + (slot + (layout.breadth - 1) / 2) * step.across;
    return isDown ? { x: across, y: along } : { x: along, y: across };
  };
  const port = (layer: number, slot: number, side: 0 | 0.5 | 1) => {
    const { x, y } = place(layer, slot);
    return isDown
      ? { x: x + NODE.width / 2, y: y + NODE.height * side }
      : { x: x + NODE.width * side, y: y + NODE.height / 2 };
  };
  const curve = (a: { x: number; y: number }, b: { x: number; y: number }) => {
    const [mx, my] = [(a.x + b.x) / 2, (a.y + b.y) / 2];
    return isDown ? `C${a.x},${my} ${b.x},${my} ${b.x},${b.y}` : `C${mx},${a.y} ${mx},${b.y} ${b.x},${b.y}`;
  };
  const paths = layout.routes.map(({ from, to, points }) => {
    // A way-point is crossed straight, from its near side to its far one.
    const stops = points.flatMap(({ layer, slot }, at) => {
      if (at === 0) return [port(layer, slot, 1)];
      return at === points.length - 1 ? [port(layer, slot, 0)] : [port(layer, slot, 0), port(layer, slot, 1)];
    });
    const [start] = stops;
    const path = stops.slice(1).map((stop, at) => curve(stops[at] ?? stop, stop));
    return { key: `${from}>${to}`, from, to, path: start ? `M${start.x},${start.y} ${path.join(" ")}` : "" };
  });
  const places = new Map(layout.places.map(({ id, layer, slot }) => [id, place(layer, slot)]));
  const along = 2 * pad + layout.numLayers * step.along - (step.along - size.along);
  const across = 2 * pad + layout.breadth * step.across - GAP.across;
  return {
    paths,
    at: (id: string) => places.get(id) ?? { x: 0, y: 0 },
    width: isDown ? across : along,
    height: isDown ? along : across,
  };
}
