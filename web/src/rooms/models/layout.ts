/**
 * Layered layout of a small directed acyclic graph (after Sugiyama, Tagawa and Toda 1981): edges that a longer way
 * implies are left out, longest-path layers, narrow way-points where an edge passes through a layer, barycentre sweeps
 * against crossings, and places as near to the neighbours' as the order allows (least squares, by pooling adjacent
 * violators). Meant for about fifty nodes. An edge that would close a cycle is drawn but does not count for layers.
 */

export interface Place {
  id: string;
  layer: number;
  /** Place across the layer from 0, in widths of a node with its gap. */
  slot: number;
}

export interface Route {
  from: string;
  to: string;
  /** Layer and slot of every point on the way, ends included. */
  points: { layer: number; slot: number }[];
}

export interface Layout {
  places: Place[];
  routes: Route[];
  numLayers: number;
  /** Slots that the broadest layer takes. */
  breadth: number;
}

type Edge = readonly [string, string];
type Neighbours = ReadonlyMap<string, readonly string[]>;

const SWEEPS = 12;
const WAYPOINT_WIDTH = 0.3;
const isWaypoint = (id: string) => id.includes(">");

export function layoutGraph(ids: readonly string[], edges: readonly Edge[]): Layout {
  const known = new Set(ids);
  const real = edges.filter(([from, to]) => known.has(from) && known.has(to) && from !== to);
  const kept = withoutImplied(real);
  const { layers, links, chains } = withWaypoints(ids, kept, layersOf(ids, kept));
  const before = neighboursBy(links, 1);
  const after = neighboursBy(links, 0);
  for (let sweep = 0; sweep < SWEEPS; sweep++)
    sortLayers(layers, sweep % 2 === 0 ? before : after, sweep % 2 === 0);
  const slots = placeLayers(layers, before, after);
  const layerOf = new Map(layers.flatMap((layer, number) => layer.map((id) => [id, number] as const)));
  const least = Math.min(0, ...slots.values());
  const at = (id: string) => ({ layer: layerOf.get(id) ?? 0, slot: (slots.get(id) ?? 0) - least });
  return {
    places: ids.map((id) => ({ id, ...at(id) })),
    routes: chains.map((chain) => ({ from: chain[0] ?? "", to: chain.at(-1) ?? "", points: chain.map(at) })),
    numLayers: layers.length,
    breadth: 1 + Math.max(0, ...ids.map((id) => at(id).slot)),
  };
}

/** For each node its neighbours at the other end (0: the edge's beginning given, 1: its end given). */
function neighboursBy(links: readonly Edge[], end: 0 | 1): Map<string, string[]> {
  const found = new Map<string, string[]>();
  for (const link of links) {
    const list = found.get(link[end]);
    if (list) list.push(link[1 - end] ?? "");
    else found.set(link[end], [link[1 - end] ?? ""]);
  }
  return found;
}

/** Edges without those between nodes that a longer way connects too. */
function withoutImplied(edges: readonly Edge[]): Edge[] {
  const children = neighboursBy(edges, 0);
  const reaches = (from: string, to: string, seen: Set<string>): boolean =>
    (children.get(from) ?? []).some((child) => {
      if (child === to) return true;
      if (seen.has(child)) return false;
      seen.add(child);
      return reaches(child, to, seen);
    });
  return edges.filter(
    ([from, to]) =>
      !(children.get(from) ?? []).some((child) => child !== to && reaches(child, to, new Set([from]))),
  );
}

/** Layer of each node: one more than the deepest of its parents; a source stands right before its first use. */
function layersOf(ids: readonly string[], edges: readonly Edge[]): Map<string, number> {
  const parents = neighboursBy(edges, 1);
  const children = neighboursBy(edges, 0);
  const layers = new Map<string, number>();
  const open = new Set<string>();
  const depth = (id: string): number => {
    const known = layers.get(id);
    if (known !== undefined) return known;
    if (open.has(id)) return -1;
    open.add(id);
    const layer = 1 + Math.max(-1, ...(parents.get(id) ?? []).map(depth));
    open.delete(id);
    layers.set(id, layer);
    return layer;
  };
  for (const id of ids) depth(id);
  for (const id of ids) {
    const uses = (children.get(id) ?? []).map((child) => layers.get(child) ?? 0);
    if (!parents.has(id) && uses.length > 0) layers.set(id, Math.max(0, Math.min(...uses) - 1));
  }
  return layers;
}

/** Layers with a way-point wherever an edge crosses one, the links between neighbours, and each edge as its chain. */
function withWaypoints(ids: readonly string[], edges: readonly Edge[], layerOf: ReadonlyMap<string, number>) {
  const layer = (id: string) => layerOf.get(id) ?? 0;
  const layers: string[][] = Array.from({ length: 1 + Math.max(0, ...ids.map(layer)) }, () => []);
  for (const id of ids) layers[layer(id)]?.push(id);
  const links: Edge[] = [];
  const chains = edges.map(([from, to]) => {
    const chain = [from];
    for (let number = layer(from) + 1; number < layer(to); number++) {
      const waypoint = `${from}>${to}@${number}`;
      layers[number]?.push(waypoint);
      chain.push(waypoint);
    }
    chain.push(to);
    for (let step = 1; step < chain.length; step++) links.push([chain[step - 1] ?? "", chain[step] ?? ""]);
    return chain;
  });
  return { layers, links, chains };
}

/** One sweep: order each layer by the mean rank of its neighbours in the layer swept before. */
function sortLayers(layers: string[][], neighbours: Neighbours, isDown: boolean): void {
  const order = isDown ? layers : layers.toReversed();
  order.forEach((layer, number) => {
    const previous = order[number - 1];
    if (!previous) return;
    const ranks = new Map(previous.map((id, at) => [id, at / previous.length]));
    const own = new Map(layer.map((id, at) => [id, at / layer.length]));
    const weight = (id: string) => meanOf(neighbours.get(id), ranks) ?? own.get(id) ?? 0;
    const weights = new Map(layer.map((id) => [id, weight(id)]));
    layer.sort((a, b) => (weights.get(a) ?? 0) - (weights.get(b) ?? 0));
  });
}

function meanOf(ids: readonly string[] | undefined, values: ReadonlyMap<string, number>): number | null {
  const found = (ids ?? []).flatMap((id) => values.get(id) ?? []);
  return found.length === 0 ? null : found.reduce((sum, value) => sum + value, 0) / found.length;
}

/** Slots for ordered layers: sweep down and up, each layer as near to its neighbours as its order allows. */
function placeLayers(
  layers: readonly string[][],
  before: Neighbours,
  after: Neighbours,
): Map<string, number> {
  const slots = new Map<string, number>();
  for (const layer of layers) {
    const offsets = offsetsOf(layer);
    const middle = (offsets.at(-1) ?? 0) / 2;
    layer.forEach((id, at) => {
      slots.set(id, (offsets[at] ?? 0) - middle);
    });
  }
  for (let sweep = 0; sweep < SWEEPS; sweep++) {
    const isDown = sweep % 2 === 0;
    const order = isDown ? layers : layers.toReversed();
    for (const layer of order.slice(1)) {
      const offsets = offsetsOf(layer);
      const wanted = layer.map((id, at) => {
        const mean = meanOf((isDown ? before : after).get(id), slots);
        return (mean ?? slots.get(id) ?? 0) - (offsets[at] ?? 0);
      });
      rising(wanted).forEach((value, at) => {
        slots.set(layer[at] ?? "", value + (offsets[at] ?? 0));
      });
    }
  }
  return slots;
}

/** How far at least each one of a layer stands from the first. */
function offsetsOf(layer: readonly string[]): number[] {
  let offset = 0;
  return layer.map((id, at) => {
    const previous = layer[at - 1];
    if (previous !== undefined)
      offset += isWaypoint(id) || isWaypoint(previous) ? 0.5 + WAYPOINT_WIDTH / 2 : 1;
    return offset;
  });
}

/** The nearest sequence that never falls (isotonic regression by pooling adjacent violators). */
function rising(values: readonly number[]): number[] {
  const pools: { sum: number; count: number }[] = [];
  for (const value of values) {
    let pool = { sum: value, count: 1 };
    for (
      let last = pools.at(-1);
      last && last.sum / last.count > pool.sum / pool.count;
      last = pools.at(-1)
    ) {
      pools.pop();
      pool = { sum: last.sum + pool.sum, count: last.count + pool.count };
    }
    pools.push(pool);
  }
  return pools.flatMap(({ sum, count }) => Array.from({ length: count }, () => sum / count));
}
