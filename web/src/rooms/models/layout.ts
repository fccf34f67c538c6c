/**
 * Layered layout of a small directed acyclic graph (after Sugiyama, Tagawa and Toda 1981): longest-path layers, empty
 * way-points where an edge passes through a layer, barycentre sweeps against crossings, then each layer is centred.
 * Meant for about fifty nodes. An edge that would close a cycle is left out of the layering but still drawn.
 */

export interface Place {
  id: string;
  layer: number;
  /** Position in the layer, in slots; layers are centred around 0. */
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
  /** Most slots in one layer. */
  breadth: number;
}

const SWEEPS = 8;

export function layoutGraph(ids: readonly string[], edges: readonly (readonly [string, string])[]): Layout {
  const known = new Set(ids);
  const real = edges.filter(([from, to]) => known.has(from) && known.has(to) && from !== to);
  const layerOf = layersOf(ids, real);
  const { layers, links, chains } = withWaypoints(ids, real, layerOf);
  for (let sweep = 0; sweep < SWEEPS; sweep++) sortLayers(layers, links, sweep % 2 === 0);
  const slotOf = new Map<string, { layer: number; slot: number }>();
  layers.forEach((layer, number) => {
    layer.forEach((id, at) => {
      slotOf.set(id, { layer: number, slot: at - (layer.length - 1) / 2 });
    });
  });
  const at = (id: string) => slotOf.get(id) ?? { layer: 0, slot: 0 };
  return {
    places: ids.map((id) => ({ id, ...at(id) })),
    routes: chains.map((chain) => ({ from: chain[0] ?? "", to: chain.at(-1) ?? "", points: chain.map(at) })),
    numLayers: layers.length,
    breadth: Math.max(1, ...layers.map((layer) => layer.length)),
  };
}

/** Layer of each node: one more than the deepest of its parents. */
function layersOf(
  ids: readonly string[],
  edges: readonly (readonly [string, string])[],
): Map<string, number> {
  const parents = new Map<string, string[]>();
  for (const [from, to] of edges) parents.set(to, [...(parents.get(to) ?? []), from]);
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
  return layers;
}

/** Layers with a way-point wherever an edge crosses one, the links between neighbours, and each edge as its chain. */
function withWaypoints(
  ids: readonly string[],
  edges: readonly (readonly [string, string])[],
  layerOf: ReadonlyMap<string, number>,
) {
  const layer = (id: string) => layerOf.get(id) ?? 0;
  const layers: string[][] = Array.from({ length: 1 + Math.max(0, ...ids.map(layer)) }, () => []);
  for (const id of ids) layers[layer(id)]?.push(id);
  const links: [string, string][] = [];
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

/** One sweep: order each layer by the mean place of its neighbours in the layer before (or after). */
function sortLayers(
  layers: string[][],
  links: readonly (readonly [string, string])[],
  isDown: boolean,
): void {
  const neighbours = new Map<string, string[]>();
  for (const [from, to] of links) {
    const [id, other] = isDown ? [to, from] : [from, to];
    neighbours.set(id, [...(neighbours.get(id) ?? []), other]);
  }
  const order = isDown ? layers : layers.toReversed();
  order.forEach((layer, number) => {
    const before = order[number - 1];
    if (!before) return;
    const slots = new Map(before.map((id, at) => [id, at - (before.length - 1) / 2]));
    const weight = new Map(
      layer.map((id, at) => {
        const near = (neighbours.get(id) ?? []).flatMap((other) => slots.get(other) ?? []);
        const mean = near.reduce((sum, slot) => sum + slot, 0) / near.length;
        return [id, near.length > 0 ? mean : at - (layer.length - 1) / 2];
      }),
    );
    layer.sort((a, b) => (weight.get(a) ?? 0) - (weight.get(b) ?? 0));
  });
}
