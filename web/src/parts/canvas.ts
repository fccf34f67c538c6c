/** What drawings on a canvas need of the page around them: its width and its colours. */
import { type RefObject, useEffect, useState } from "react";

export function useWidth(box: RefObject<HTMLElement | null>): number {
  const [width, setWidth] = useState(0);
  useEffect(() => {
    if (!box.current) return;
    const sizes = new ResizeObserver(([entry]) => setWidth(Math.floor(entry?.contentRect.width ?? 0)));
    sizes.observe(box.current);
    return () => sizes.disconnect();
  }, [box]);
  return width;
}

/** A colour as the browser paints it now: canvas does not know var() or light-dark(). */
export function painted(near: HTMLElement, css: string): string {
  const probe = document.createElement("span");
  probe.style.color = css;
  near.append(probe);
  const { color } = getComputedStyle(probe);
  probe.remove();
  return color;
}
