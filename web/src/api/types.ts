/** The wire between page and server, by short names. All but the metrics line comes from the OpenAPI document. */
import type { components } from "./schema";

type Schemas = components["schemas"];

export type Session = Schemas["SessionInfo"];
export type Person = Schemas["PersonOut"];
export type Group = Schemas["GroupOut"];
export type Key = Schemas["KeyOut"];
export type MadeKey = Schemas["MadeKey"];
export type Account = Schemas["AccountOut"];
export type Setting = Schemas["SettingOut"];
export type OpenSession = Schemas["SessionOut"];
export type SignInWays = Schemas["SignInWays"];
export type AuditEntry = Schemas["AuditEntryOut"];
export type AuditPage = Schemas["AuditPage"];
export type AuditNames = Schemas["AuditNames"];
export type AuditVerdict = Schemas["AuditVerdict"];
export type PermissionEntry = Schemas["PermissionOut"];
export type ModelEntry = Schemas["ModelInfo"];
export type Memory = Schemas["MemoryInfo"];
export type ModelMemory = Schemas["ResidenceInfo"];
export type ConversationEntry = Schemas["ConversationSummary"];
export type Conversation = Schemas["Conversation"];
export type Folder = Schemas["Folder"];
export type FoundMessages = Schemas["FoundMessages"];
export type FoundMessage = Schemas["FoundMessage"];
export type Share = Schemas["Share"];
export type MadeShare = Schemas["MadeShare"];
export type ShareList = Schemas["ShareList"];
export type SharedConversation = Schemas["SharedConversation"];
export type SharedTurn = Schemas["SharedTurn"];
export type ConversationFile = Schemas["ConversationFile"];
export type Imported = Schemas["Imported"];
export type Prompt = Schemas["Prompt"];
export type Turn = Schemas["MessageOut"];
export type Attachment = Schemas["AttachmentOut"];
export type AttachmentText = Schemas["AttachmentText"];
export type NewTurn = Schemas["NewMessage"];
export type Citation = Schemas["FileCitation"];
export type StoredCitation = Schemas["StoredCitation"];
export type StoredSearch = Schemas["StoredSearch"];
export type SearchDone = Schemas["SearchDone"];
export type SentenceCheck = Schemas["SentenceCheck"];
export type Feedback = Schemas["Feedback"];
export type PreferenceList = Schemas["PreferenceList"];
export type NewFeedback = Schemas["NewFeedback"];
export type ArtifactEntry = Schemas["ArtifactSummary"];
export type ArtifactDetail = Schemas["ArtifactDetail"];
export type FileEntry = Schemas["ArtifactFile"];
export type Lineage = Schemas["LineageGraph"];
export type LineageNode = Schemas["LineageNode"];
export type RunEntry = Schemas["RunSummary"];
export type RunDetail = Schemas["RunDetail"];
export type Receipt = Schemas["ReceiptOut"];
export type Routes = Schemas["RoutesInfo"];
export type Route = Schemas["RouteInfo"];
export type RouteTarget = Schemas["TargetInfo"];
export type Collection = Schemas["CollectionOut"];
export type CollectionSettings = Schemas["CollectionSettings"];
export type Embedding = Schemas["EmbeddingOut"];
export type WorkAction = Schemas["WorkOrder"]["action"];
export type CollectionList = Schemas["CollectionList"];
export type DocumentEntry = Schemas["DocumentOut"];
export type DocumentList = Schemas["DocumentList"];
export type ChunkEntry = Schemas["Chunk"];
export type ChunkList = Schemas["ChunkList"];
export type DocumentText = Schemas["DocumentText"];
export type UploadEntry = Schemas["UploadOut"];
export type SearchHit = Schemas["SearchHit"];
export type UsageReport = Schemas["UsageReport"];
export type UsageLine = Schemas["UsageLine"];
export type UsageSums = Schemas["UsageSums"];
export type Limit = Schemas["Limit"];
export type LimitList = Schemas["LimitList"];
export type TraceList = Schemas["TraceList"];
export type TraceLine = Schemas["TraceLine"];
export type TraceDetail = Schemas["TraceDetail"];
export type TraceSpan = Schemas["TraceSpan"];
export type LimitBody = Schemas["LimitBody"];
export type ChatBody = Schemas["ChatCompletionRequest"];
export type ChatMessageBody = Schemas["MessageSpec"];
export type ToolCall = Schemas["ToolCallSpec"];
export type TokenLogprob = Schemas["ContentLogprob"];

/** A line of a run's `metrics.jsonl`: a file format, which the API passes on as it is. */
export interface MetricsLine {
  step: number;
  time: number;
  split: "train" | "validation";
  /** Null where the run diverged: JSON has no NaN. */
  loss: number | null;
  tokens: number;
  learning_rate?: number | null;
  grad_norm?: number | null;
  tokens_per_second?: number | null;
  utilisation?: number | null;
  bits_per_byte?: number | null;
}

export interface MetricsPage extends Omit<Schemas["MetricLines"], "lines"> {
  lines: MetricsLine[];
}
