/** Where a file goes that is too long for a message: an own collection, or a new one. */
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { collectionsQuery, makeCollection } from "../../api/knowledge";
import type { Collection } from "../../api/types";
import { Choice } from "../../parts/filter";
import { FormModal } from "../../parts/form-modal";
import { TextField } from "../../parts/text-field";
import { MissingNote } from "../knowledge/list";
import { uploads } from "../knowledge/uploads";
import { nameFor } from "./naming";

interface IntoCollectionProps {
  name: string;
  file: File;
  onClose: () => void;
  onSent: (collection: Pick<Collection, "ref" | "name">) => void;
}

const NEW = "";

export default function IntoCollection({ name, file, onClose, onSent }: IntoCollectionProps) {
  const client = useQueryClient();
  const list = useQuery(collectionsQuery);
  const own = list.data?.collections.filter((each) => each.is_own) ?? [];
  const [ref, setRef] = useState(NEW);
  const [newName, setNewName] = useState(nameFor(name));
  const missing = list.data?.missing;
  const put = useMutation({
    mutationFn: async () => own.find((each) => each.ref === ref) ?? (await makeCollection({ name: newName })),
    onSuccess: (collection) => {
      if (ref === NEW) void client.invalidateQueries({ queryKey: collectionsQuery.queryKey });
      uploads.add(client, collection.ref, [{ file, name }]);
      onSent(collection);
    },
  });
  return (
    <FormModal
      title="Put it into a collection"
      does="Put it in"
      order={put}
      failed="Not put in"
      onClose={onClose}
      isReady={!missing && list.isSuccess && (ref !== NEW || newName.trim() !== "")}
    >
      {missing ? <MissingNote missing={missing} /> : null}
      <p className="soft">
        <strong>{name}</strong> is too long to be read with a message. In a collection it is read once, and
        each question is answered from the passages that matter.
      </p>
      <div>
        <span className="label">Collection</span>
        <Choice
          label="Collection"
          value={ref}
          onChange={setRef}
          options={[[NEW, "A new one"], ...own.map((each) => [each.ref, each.name] as const)]}
        />
      </div>
      {ref === NEW ? (
        <TextField label="Name of the new collection" maxLength={100} value={newName} onChange={setNewName} />
      ) : null}
      <p className="small soft">
        {ref === NEW ? "Only you see what is in it, until you share it. " : ""}
        Once the file is in, this chat asks the collection.
      </p>
    </FormModal>
  );
}
