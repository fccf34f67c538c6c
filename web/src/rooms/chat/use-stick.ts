/** Keeps the end of a growing text in view, and lets go as soon as the reader scrolls up. */
import { type RefObject, useCallback, useEffect, useRef, useState } from "react";

const NEAR_PX = 48;

export function useStick(scroller: RefObject<HTMLElement | null>, content: RefObject<HTMLElement | null>) {
  const isStuck = useRef(true);
  const [isAway, setAway] = useState(false);

  const toEnd = useCallback(() => {
    const box = scroller.current;
    isStuck.current = true;
    setAway(false);
    if (box) box.scrollTop = box.scrollHeight;
  }, [scroller]);

  /** Stay where the reader is put next. */
  const letGo = useCallback(() => {
    isStuck.current = false;
  }, []);

  useEffect(() => {
    const box = scroller.current;
    const text = content.current;
    if (!box || !text) return;
    let lastTop = box.scrollTop;
    let lastHeight = box.scrollHeight;
    const distance = () => box.scrollHeight - box.scrollTop - box.clientHeight;
    const onScroll = () => {
      // A move upwards is the reader's doing, unless the text became shorter; text that grows below moves
      // nothing. The first pixels must count: to follow the end would break off a movement that has begun.
      const isShorter = box.scrollHeight < lastHeight;
      if (box.scrollTop < lastTop - 1 && !isShorter) isStuck.current = false;
      else if (distance() <= NEAR_PX && (box.scrollTop > lastTop || isShorter)) isStuck.current = true;
      lastTop = box.scrollTop;
      lastHeight = box.scrollHeight;
      setAway(!isStuck.current);
    };
    const onWheel = (event: WheelEvent) => {
      if (event.deltaY < 0 && distance() < box.scrollHeight - box.clientHeight) isStuck.current = false;
    };
    const follow = () => {
      if (isStuck.current) box.scrollTop = box.scrollHeight;
      else setAway(distance() > NEAR_PX);
    };
    const sizes = new ResizeObserver(follow);
    sizes.observe(text);
    sizes.observe(box);
    box.addEventListener("scroll", onScroll, { passive: true });
    box.addEventListener("wheel", onWheel, { passive: true });
    return () => {
      sizes.disconnect();
      box.removeEventListener("scroll", onScroll);
      box.removeEventListener("wheel", onWheel);
    };
  }, [scroller, content]);

  return { isAway, toEnd, letGo };
}
