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

  useEffect(() => {
    const box = scroller.current;
    const text = content.current;
    if (!box || !text) return;
    let lastTop = box.scrollTop;
    const distance = () => box.scrollHeight - box.scrollTop - box.clientHeight;
    const onScroll = () => {
      // Only a move upwards is the reader's doing; the text growing below moves nothing.
      if (box.scrollTop < lastTop - 1 && distance() > NEAR_PX) isStuck.current = false;
      if (distance() <= NEAR_PX) isStuck.current = true;
      lastTop = box.scrollTop;
      setAway(!isStuck.current);
    };
    const follow = () => {
      if (isStuck.current) box.scrollTop = box.scrollHeight;
      else setAway(distance() > NEAR_PX);
    };
    const sizes = new ResizeObserver(follow);
    sizes.observe(text);
    sizes.observe(box);
    box.addEventListener("scroll", onScroll, { passive: true });
    return () => {
      sizes.disconnect();
      box.removeEventListener("scroll", onScroll);
    };
  }, [scroller, content]);

  return { isAway, toEnd };
}
