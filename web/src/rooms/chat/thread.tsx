/** The turns of a conversation, the reply being written, and the box to write in. */
import type { UseQueryResult } from "@tanstack/react-query";
import { ArrowDown } from "lucide-react";
import { type ClipboardEvent, type DragEvent, useRef, useState } from "react";
import { told } from "../../api/client";
import type { ModelEntry, Turn } from "../../api/types";
import { Problem, Skeleton } from "../../parts/problem";
import { notify } from "../../parts/toasts";
import { Announcer } from "./announcer";
import { AttachButton, AttachedList } from "./attachments";
import { Composer } from "./composer";
import { Empty } from "./empty";
import { KnowledgeChoice } from "./knowledge-choice";
import { LiveTurn } from "./live-turn";
import { withResults } from "./tool-results";
import { TurnView } from "./turn";
import type { Chat } from "./use-chat";
import { useOpenAt } from "./use-open-at";
import { useStick } from "./use-stick";

interface ThreadProps {
  chat: Chat;
  conversationId: string | null;
  models: UseQueryResult<ModelEntry[]>;
  onReceipt: (receiptId: string) => void;
  knowledge: string;
  onKnowledge: (name: string) => void;
  /** A turn to go to. */
  openAt: string | undefined;
  onOpened: () => void;
}

export function Thread(props: ThreadProps) {
  const { chat, conversationId, models, onReceipt, knowledge, onKnowledge } = props;
  const [editing, setEditing] = useState<string | null>(null);
  const scroller = useRef<HTMLDivElement>(null);
  const content = useRef<HTMLDivElement>(null);
  const { isAway, toEnd, letGo } = useStick(scroller, content);
  useOpenAt(props.openAt, chat, letGo, props.onOpened);
  const { path, reply } = chat;
  const last = path.at(-1)?.turn;
  const lastUser = path.findLast((step) => step.turn.role === "user")?.turn;
  const shown = withResults(path.map(({ turn }) => turn)).flatMap(({ isAnswer, turn, results }, at) =>
    isAnswer ? [] : [{ turn, results, siblings: path[at]?.siblings ?? [] }],
  );
  const hasNoModel = models.isSuccess && models.data.length === 0;
  const isEmpty = path.length === 0 && !chat.isLoading && !chat.loadError;

  const send = async (text: string) => {
    toEnd();
    await chat.send(text);
  };
  const attach = (files: readonly File[]) => {
    if (files.length > 0) tellFailure(chat.attach(files));
  };
  const answer = (userTurnId: string) => tellFailure(chat.answer(userTurnId));

  return (
    <>
      <div className="thread-scroll" ref={scroller}>
        <div className="thread" ref={content}>
          {chat.isLoading ? <Skeleton lines={6} label="Loading the conversation" /> : null}
          {chat.loadError ? <Problem error={chat.loadError} what="The conversation did not load" /> : null}
          {models.isError ? (
            <Problem error={models.error} what="No models" onRetry={() => void models.refetch()} />
          ) : null}
          {isEmpty ? (
            <Empty
              hasNoModel={hasNoModel}
              knowledge={knowledge}
              onChoose={(text) => tellFailure(send(text))}
            />
          ) : null}
          {shown.map(({ turn, siblings, results }) => (
            <TurnView
              key={turn.id}
              turn={turn}
              results={results}
              siblings={siblings}
              conversationId={conversationId}
              isLast={turn === last && !reply}
              isBusy={chat.isBusy}
              isEditing={editing === turn.id}
              onEdit={() => setEditing(turn.id)}
              onEditDone={(text) => {
                setEditing(null);
                if (text !== null) tellFailure(chat.edit(turn, text).then(toEnd));
              }}
              onShow={chat.show}
              onAnswer={answerOf(turn, answer)}
              onReceipt={onReceipt}
            />
          ))}
          {reply ? <LiveTurn reply={reply} onRetry={() => answer(reply.parentId)} /> : null}
          {!reply && (last?.role === "user" || last?.role === "tool") && !chat.isLoading ? (
            <p className="unanswered">
              No reply was kept.
              <button type="button" className="button" onClick={() => answer(last.id)}>
                Ask again
              </button>
            </p>
          ) : null}
        </div>
      </div>
      <Announcer reply={reply} />
      <div className="chat-foot" {...takingFiles(attach)}>
        {isAway ? (
          <button type="button" className="button to-end" onClick={toEnd}>
            <ArrowDown size={15} aria-hidden />
            Latest
          </button>
        ) : null}
        <Composer
          conversationId={conversationId}
          isBusy={chat.isBusy}
          isDisabled={hasNoModel || chat.loadError !== null}
          onSend={send}
          onStop={chat.stop}
          onEditLast={() => setEditing(lastUser?.id ?? null)}
        >
          <AttachedList conversationId={conversationId} onKnowledge={onKnowledge} />
          <div className="composer-tools">
            <AttachButton onFiles={attach} />
            <KnowledgeChoice value={knowledge} onChange={onKnowledge} />
          </div>
        </Composer>
      </div>
    </>
  );
}

/** Files that are dropped or pasted; a pasted text stays one. */
function takingFiles(onFiles: (files: readonly File[]) => void) {
  const take = (event: DragEvent | ClipboardEvent, files: FileList | undefined) => {
    if (!files?.length) return;
    event.preventDefault();
    onFiles([...files]);
  };
  return {
    onDragOver: (event: DragEvent) => event.preventDefault(),
    onDrop: (event: DragEvent) => take(event, event.dataTransfer.files),
    onPaste: (event: ClipboardEvent) => take(event, event.clipboardData.files),
  };
}

/** What has no place of its own for an error says it in a notice. */
function tellFailure(work: Promise<void>): void {
  work.catch((error: unknown) => notify(told(error)));
}

/** Answering a reply's question again makes a sibling of the reply. */
function answerOf(turn: Turn, answer: (userTurnId: string) => void): (() => void) | null {
  const { parent_id } = turn;
  return turn.role === "assistant" && parent_id !== null ? () => answer(parent_id) : null;
}
