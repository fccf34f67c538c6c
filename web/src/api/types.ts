/** The wire between page and server. */

export interface Session {
  user_id: string;
  roles: string[];
}

export interface ModelEntry {
  id: string;
  created?: number;
  owned_by?: string;
}

export interface ConversationEntry {
  id: string;
  title: string;
  model: string;
  updated_at: number;
}

export interface Feedback {
  rating: number;
  comment?: string;
}

export interface Turn {
  id: string;
  role: string;
  content: string;
  parent_id: string | null;
  receipt_id: string | null;
  feedback: Feedback | null;
  created_at: number;
}

export interface Conversation extends ConversationEntry {
  messages: Turn[];
}

export interface ArtifactEntry {
  digest: string;
  kind: string;
  names: string[];
  created_at: number;
  size: number;
  metadata: Record<string, unknown>;
}

export interface FileEntry {
  path: string;
  size: number;
  sha256: string;
}

export interface ArtifactDetail extends ArtifactEntry {
  files: FileEntry[];
  parents: string[];
  card: string;
  run_id: string | null;
}

export interface LineageNode {
  digest: string;
  kind: string;
  names: string[];
  created_at: number;
}

export interface Lineage {
  nodes: LineageNode[];
  edges: [string, string][];
}

export interface RunEntry {
  run_id: string;
  recipe: string;
  stage: string;
  status: string;
  started_at: number;
  finished_at: number | null;
  output: string | null;
  error: string;
  parent_id: string | null;
}

export interface RunDetail extends RunEntry {
  config: Record<string, unknown>;
  inputs: string[];
  children: RunEntry[];
}

export interface MetricsLine {
  step: number;
  time: number;
  split: "train" | "validation";
  loss: number;
  tokens: number;
  learning_rate?: number | null;
  grad_norm?: number | null;
  tokens_per_second?: number | null;
  utilisation?: number | null;
  bits_per_byte?: number | null;
}

export interface MetricsPage {
  lines: MetricsLine[];
  next: number;
}

export interface Receipt {
  receipt_id: string;
  created_at: number;
  kind: string;
  model: string;
  artifact: string;
  prompt_token_ids: number[];
  sampling: Record<string, unknown>;
  outputs: number[][];
  finish_reasons: string[];
  runner: Record<string, unknown>;
  request: Record<string, unknown>;
}
