/** What an artifact was made from and what was made from it, as a drawing whose nodes are links. */
import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { useLayoutEffect, useMemo, useRef, useState } from "react";
import { artifactsQuery } from "../../api/queries";
import type { Lineage, LineageNode } from "../../api/types";
import { artifactName, shortDigest } from "../../format";
import { directionFor, draw, NODE } from "./drawing";
import { layoutGraph } from "./layout";

interface LineageGraphProps {
  lineage: Lineage;
  current: string;
}

export function LineageGraph({ lineage, current }: LineageGraphProps) {
  const box = useRef<HTMLDivElement>(null);
  const [width, setWidth] = useState(0);
  const [more, setMore] = useState("");
  const metadata = useMetadata();
  useLayoutEffect(() => {
    if (!box.current) return;
    const sizes = new ResizeObserver(([entry]) => setWidth(entry?.contentRect.width ?? 0));
    sizes.observe(box.current);
    return () => sizes.disconnect();
  }, []);
  const layout = useMemo(() => {
    const ids = lineage.nodes.map(({ digest }) => digest);
    return layoutGraph(ids, lineage.edges);
  }, [lineage]);
  const drawing = useMemo(() => draw(layout, directionFor(layout, width)), [layout, width]);
  const here = drawing.at(current);

  const see = () => setMore(box.current ? hiddenSides(box.current) : "");
  // A graph wider than the page opens at its beginning, or where the artifact is that the page is about.
  useLayoutEffect(() => {
    if (!box.current) return;
    const isSeen = here.x + NODE.width <= width;
    box.current.scrollLeft = isSeen ? 0 : here.x + NODE.width / 2 - width / 2;
    setMore(hiddenSides(box.current));
  }, [here.x, width]);

  return (
    <div className="lineage" ref={box} data-more={more || undefined} onScroll={see}>
      {width > 0 ? (
        <svg
          width={drawing.width}
          height={drawing.height}
          role="group"
          aria-label="Lineage, from sources to results"
        >
          {drawing.paths.map(({ from, to, path }) => (
            <path
              key={`${from}>${to}`}
              d={path}
              className="lineage-edge"
              data-near={from === current || to === current || undefined}
            />
          ))}
          {lineage.nodes.map((node) => (
            <NodeLink
              key={node.digest}
              node={node}
              metadata={metadata.get(node.digest)}
              isCurrent={node.digest === current}
              {...drawing.at(node.digest)}
            />
          ))}
        </svg>
      ) : null}
    </div>
  );
}

/** On which sides the graph goes on beyond what is seen: they fade out. */
function hiddenSides({ scrollLeft, scrollWidth, clientWidth }: Element): string {
  const sides = { left: scrollLeft > 1, right: scrollLeft + clientWidth < scrollWidth - 1 };
  return Object.entries(sides)
    .flatMap(([side, isHidden]) => (isHidden ? [side] : []))
    .join(" ");
}

type Metadata = Record<string, unknown>;

/** The lineage names digests; what has no alias is told apart by what its metadata says. */
function useMetadata(): ReadonlyMap<string, Metadata> {
  const artifacts = useQuery(artifactsQuery).data;
  return useMemo(() => new Map(artifacts?.map(({ digest, metadata }) => [digest, metadata])), [artifacts]);
}

interface NodeLinkProps {
  node: LineageNode;
  metadata: Metadata | undefined;
  isCurrent: boolean;
  x: number;
  y: number;
}

function NodeLink({ node, metadata, isCurrent, x, y }: NodeLinkProps) {
  const name = artifactName(metadata ? { ...node, metadata } : node);
  return (
    <foreignObject x={x} y={y} width={NODE.width} height={NODE.height} className="lineage-place">
      <Link
        to="/models/$digest"
        params={{ digest: node.digest }}
        className="lineage-node"
        aria-current={isCurrent ? "page" : undefined}
        title={`${name} (${node.kind}, ${shortDigest(node.digest)})`}
      >
        <span className="clip">{name}</span>
        <span className="clip">{node.kind}</span>
      </Link>
    </foreignObject>
  );
}
