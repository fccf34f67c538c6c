/** A conversation as the room shows it, and everything a reader can do to it. */
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { useCallback, useMemo, useState, useSyncExternalStore } from "react";
import { sendJson } from "../../api/client";
import type { ChatMessage } from "../../api/completions";
import { conversationQuery, storeTurn } from "../../api/queries";
import type { Conversation, NewTurn, Turn } from "../../api/types";
import { titleFrom } from "../../format";
import { recall, remember } from "../../storage";
import { attaching, spoken } from "./attaching";
import { isWorthKeeping, type Reply, replies } from "./replies";
import { type Sampling, toWire } from "./sampling";
import { asMessages, withResults } from "./tool-results";
import { ancestry, type Picks, pathOf, picksTowards, type Step } from "./tree";

const NO_TURNS: readonly Turn[] = [];

export interface Chat {
  conversation: Conversation | undefined;
  isLoading: boolean;
  loadError: unknown;
  path: Step[];
  reply: Reply | undefined;
  isBusy: boolean;
  send: (text: string) => Promise<void>;
  answer: (userTurnId: string) => Promise<void>;
  edit: (turn: Turn, text: string) => Promise<void>;
  stop: () => void;
  /** Put files beside the next message. */
  attach: (files: readonly File[]) => Promise<void>;
  show: (turn: Turn) => void;
}

export function useReply(conversationId: string | null): Reply | undefined {
  return useSyncExternalStore(replies.subscribe, () =>
    conversationId === null ? undefined : replies.of(conversationId),
  );
}

export function useChat(
  conversationId: string | null,
  sampling: Sampling,
  findModel: () => Promise<string>,
): Chat {
  const client = useQueryClient();
  const navigate = useNavigate();
  const query = useQuery({ ...conversationQuery(conversationId ?? ""), enabled: conversationId !== null });
  const turns = query.data?.messages ?? NO_TURNS;
  const reply = useReply(conversationId);
  const isBusy = reply !== undefined && reply.phase !== "failed";
  const [picks, setPicks] = usePicks(conversationId);

  const path = useMemo(() => {
    // While a reply is written, or has failed, the branch that it belongs to is the one on show.
    if (!reply) return pathOf(turns, picks);
    const steps = pathOf(turns, picksTowards(turns, picks, reply.parentId));
    const asked = steps.findIndex((step) => step.turn.id === reply.parentId);
    const isKept =
      reply.phase === "failed" &&
      !isWorthKeeping(reply) &&
      steps[asked + 1] !== undefined &&
      hasNewer(turns, reply);
    return isKept ? steps : steps.slice(0, asked + 1);
  }, [turns, picks, reply]);

  const ask = useCallback(
    async (id: string, parentId: string, model: string) => {
      const stored = client.getQueryData(conversationQuery(id).queryKey)?.messages ?? [];
      const messages: ChatMessage[] = [];
      for (const { turn, results, isResult } of withResults(ancestry(stored, parentId))) {
        const content = turn.attachments.length > 0 ? await spoken(client, turn) : turn.content;
        if (!isResult) messages.push(...asMessages(turn, content, results));
      }
      const system = sampling.system.trim();
      if (system) messages.unshift({ role: "system", content: system });
      setPicks(id, (now) => without(now, parentId));
      replies.dismiss(id);
      void replies.start(client, id, parentId, {
        model,
        messages,
        sampling: toWire(sampling),
        knowledge: sampling.knowledge,
      });
    },
    [client, sampling, setPicks],
  );

  const send = async (text: string) => {
    const model = await findModel();
    const attached = attaching.ready(conversationId);
    // Their text is at hand before the message is stored: one that is lost by now is told of first.
    await spoken(client, { content: text, attachments: attached });
    let id = conversationId;
    if (id === null) {
      const body = { title: titleFrom(text), model };
      const created = await sendJson<Conversation>("POST", "/api/conversations", body);
      id = created.id;
      client.setQueryData(conversationQuery(id).queryKey, { ...created, messages: [] });
    }
    const parentId = path.at(-1)?.turn.id ?? null;
    const turn: NewTurn = { role: "user", content: text, parent_id: parentId };
    if (attached.length > 0) turn.attachments = attached.map((each) => each.id);
    const stored = await storeTurn(client, id, turn);
    attaching.clear(conversationId, id);
    await ask(id, stored.id, model);
    if (conversationId === null) {
      await navigate({ to: "/chat/$conversationId", params: { conversationId: id }, replace: true });
    }
  };

  const edit = async (turn: Turn, text: string) => {
    if (conversationId === null) return;
    const model = await findModel();
    const sibling: NewTurn = { role: "user", content: text, parent_id: turn.parent_id };
    if (turn.attachments.length > 0) sibling.attachments = turn.attachments.map((each) => each.id);
    const stored = await storeTurn(client, conversationId, sibling);
    setPicks(conversationId, (now) => without(now, turn.parent_id ?? ""));
    await ask(conversationId, stored.id, model);
  };

  return {
    conversation: query.data,
    isLoading: query.isPending && conversationId !== null,
    loadError: query.error,
    path,
    reply,
    isBusy,
    send,
    edit,
    answer: async (userTurnId) => {
      if (conversationId !== null) await ask(conversationId, userTurnId, await findModel());
    },
    stop: () => {
      if (conversationId !== null) replies.stop(conversationId);
    },
    attach: async (files) => attaching.add(conversationId, files, await findModel()),
    show: (turn) => {
      if (conversationId !== null) setPicks(conversationId, (now) => picksTowards(turns, now, turn.id));
    },
  };
}

/** Whether the part of a broken reply that had arrived was stored as a turn. */
function hasNewer(turns: readonly Turn[], reply: Reply): boolean {
  return (
    reply.pieces > 0 && turns.some((turn) => turn.parent_id === reply.parentId && turn.role === "assistant")
  );
}

function without(picks: Picks, parent: string): Picks {
  const { [parent]: _, ...rest } = picks;
  return rest;
}

/** The picked branches of a conversation, remembered by the browser. */
function usePicks(conversationId: string | null) {
  const [state, setState] = useState<{ id: string | null; picks: Picks }>({ id: null, picks: {} });
  const picks = useMemo(
    () => (state.id === conversationId ? state.picks : recall<Picks>(`picks.${conversationId}`, {})),
    [state, conversationId],
  );
  const setPicks = useCallback((id: string, change: (now: Picks) => Picks) => {
    setState((now) => {
      const next = change(now.id === id ? now.picks : recall<Picks>(`picks.${id}`, {}));
      remember(`picks.${id}`, next);
      return { id, picks: next };
    });
  }, []);
  return [picks, setPicks] as const;
}
