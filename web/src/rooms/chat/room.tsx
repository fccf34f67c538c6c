/** The chat: conversations on the left, the thread in the middle, settings or a receipt on the right. */
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useNavigate, useParams, useSearch } from "@tanstack/react-router";
import { PanelLeft, Plus, SlidersHorizontal } from "lucide-react";
import { Dialog } from "radix-ui";
import { useCallback, useEffect, useRef, useState } from "react";
import { modelsQuery } from "../../api/queries";
import { Choice } from "../../parts/filter";
import { useTitle } from "../../parts/title";
import "./chat.css";
import { Conversations, NewChatLink } from "./conversations";
import { ReceiptPanel } from "./receipt-panel";
import { replies } from "./replies";
import { chooseModel, countChanged, loadSampling, type Sampling, saveSampling } from "./sampling";
import { SamplingPanel } from "./sampling-panel";
import { Thread } from "./thread";
import { useChat } from "./use-chat";

type Panel = { kind: "sampling" } | { kind: "receipt"; receiptId: string } | null;

export function ChatRoom() {
  const { conversationId = null } = useParams({ strict: false });
  const { model: wanted, knowledge: asked, message: openAt } = useSearch({ from: "/house/chat" });
  const models = useQuery(modelsQuery);
  const navigate = useNavigate();
  const [sampling, setSampling] = useSampling(conversationId);
  // A link from a collection chooses it; from then on the choice counts.
  useEffect(() => {
    if (!asked) return;
    setSampling({ ...loadSampling(conversationId), knowledge: asked });
    void navigate({ to: ".", search: ({ knowledge: _, ...rest }) => rest, replace: true });
  }, [asked, conversationId, setSampling, navigate]);
  const [panel, setPanel] = useState<Panel>(null);
  const [isListOpen, setListOpen] = useState(false);

  const client = useQueryClient();
  const names = models.data?.map(({ id }) => id) ?? [];
  const chosen = chooseModel(wanted, sampling.model, names);
  // A first question may be quicker than the list of models.
  const findModel = async () => {
    const list = await client.ensureQueryData(modelsQuery);
    return chooseModel(
      wanted,
      sampling.model,
      list.map(({ id }) => id),
    );
  };
  const chat = useChat(conversationId, sampling, findModel);
  useTitle(chat.conversation?.title ?? "Chat");
  useKeepOnLeave();

  const opened = useRef<string | undefined>(undefined);
  const onOpened = useCallback(() => {
    opened.current = openAt;
    void navigate({ to: ".", search: ({ message: _, ...rest }) => rest, replace: true });
  }, [navigate, openAt]);
  const closePanel = useCallback(() => setPanel(null), []);
  const changed = countChanged(sampling);

  return (
    <div className="chat" data-panel={panel ? "open" : undefined}>
      <aside className="chat-list" aria-label="Conversations">
        <Conversations currentId={conversationId} />
      </aside>
      <section className="chat-main" aria-label="Conversation">
        <header className="chat-head">
          <Dialog.Root
            open={isListOpen}
            onOpenChange={(isOpen) => {
              opened.current = undefined;
              setListOpen(isOpen);
            }}
          >
            <Dialog.Trigger className="icon-button narrow-only" aria-label="Conversations">
              <PanelLeft size={18} aria-hidden />
            </Dialog.Trigger>
            <Dialog.Portal>
              <Dialog.Overlay className="veil" />
              <Dialog.Content
                className="drawer"
                aria-describedby={undefined}
                onCloseAutoFocus={(event) => {
                  // A message that was found has the keyboard, not the button that opened the list.
                  const wanted = openAt ?? opened.current;
                  if (wanted === undefined) return;
                  event.preventDefault();
                  document.getElementById(wanted)?.focus({ preventScroll: true });
                }}
              >
                <Dialog.Title className="hidden-visually">Conversations</Dialog.Title>
                <Conversations currentId={conversationId} onChosen={() => setListOpen(false)} />
              </Dialog.Content>
            </Dialog.Portal>
          </Dialog.Root>
          <h1 className="chat-title clip">{chat.conversation?.title ?? "New chat"}</h1>
          {names.length > 0 ? (
            <Choice
              label="Model"
              value={chosen}
              onChange={(model) => {
                setSampling({ ...sampling, model });
                // From here on the choice counts, not the link that led here.
                if (wanted) void navigate({ to: ".", search: {}, replace: true });
              }}
              options={names.map((name) => [name, name] as const)}
            />
          ) : null}
          <button
            type="button"
            className="icon-button"
            aria-expanded={panel?.kind === "sampling"}
            aria-label={changed ? `Sampling, ${changed} changed` : "Sampling"}
            title="Sampling"
            onClick={() => setPanel(panel?.kind === "sampling" ? null : { kind: "sampling" })}
          >
            <SlidersHorizontal size={17} aria-hidden />
            {changed ? <span className="badge">{changed}</span> : null}
          </button>
          <NewChatLink className="icon-button narrow-only" label="New chat">
            <Plus size={18} aria-hidden />
          </NewChatLink>
        </header>
        <Thread
          key={conversationId ?? "new"}
          chat={chat}
          conversationId={conversationId}
          models={models}
          onReceipt={(receiptId) => setPanel({ kind: "receipt", receiptId })}
          knowledge={sampling.knowledge}
          onKnowledge={(knowledge) => setSampling({ ...sampling, knowledge })}
          openAt={openAt}
          onOpened={onOpened}
        />
      </section>
      {panel?.kind === "sampling" ? (
        <SamplingPanel sampling={sampling} onChange={setSampling} onClose={closePanel} />
      ) : null}
      {panel?.kind === "receipt" ? <ReceiptPanel receiptId={panel.receiptId} onClose={closePanel} /> : null}
    </div>
  );
}

function useSampling(conversationId: string | null) {
  const [state, setState] = useState({ id: conversationId, sampling: loadSampling(conversationId) });
  if (state.id !== conversationId) setState({ id: conversationId, sampling: loadSampling(conversationId) });
  const setSampling = useCallback(
    (sampling: Sampling) => {
      saveSampling(conversationId, sampling);
      setState({ id: conversationId, sampling });
    },
    [conversationId],
  );
  return [state.sampling, setSampling] as const;
}

/** A closed tab must not cost the half of a reply that had arrived. */
function useKeepOnLeave(): void {
  useEffect(() => {
    const onLeave = () => replies.leave();
    addEventListener("pagehide", onLeave);
    return () => removeEventListener("pagehide", onLeave);
  }, []);
}
