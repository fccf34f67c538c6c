import { shortDigest } from "../format";
import { CopyButton } from "./copy";

/** A digest in short, with the whole of it to copy. */
export function Digest({ digest }: { digest: string }) {
  return (
    <span className="digest above">
      <span title={digest}>{shortDigest(digest)}</span>
      <CopyButton text={digest} label={`Copy the digest ${shortDigest(digest)}`} />
    </span>
  );
}
