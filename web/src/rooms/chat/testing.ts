/** Turns to try things with. */
import type { Turn } from "../../api/types";

export function turn(id: string, role: string, content: string, more: Partial<Turn> = {}): Turn {
  return {
    id,
    role,
    content,
    parent_id: null,
    receipt_id: null,
    feedback: null,
    annotations: [],
    sentences: [],
    search: null,
    tool_calls: [],
    tool_call_id: null,
    attachments: [],
    created_at: 0,
    ...more,
  };
}
