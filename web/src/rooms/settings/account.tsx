/** Who is signed in, what they may do, and the way out. */
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { accountQuery, permissionsQuery, useMay } from "../../api/identity";
import { sessionQuery } from "../../api/queries";
import { formatMoment } from "../../format";
import { AuditLink } from "../../parts/audit-link";
import { QueryState } from "../../parts/query-state";
import { Tags } from "../../parts/tags";
import { signOut } from "../sign-out";

export function Account() {
  const found = useQuery(accountQuery);
  const session = useQuery(sessionQuery).data;
  const client = useQueryClient();
  const navigate = useNavigate();
  const account = found.data;
  return (
    <section className="section" aria-labelledby="account">
      <h2 id="account">Account</h2>
      <div className="settings-row">
        <span>
          Signed in as <strong>{session?.user_id}</strong>
        </span>
        <button type="button" className="button" onClick={() => void signOut(client, navigate)}>
          Sign out
        </button>
      </div>
      <QueryState query={found} what="Your account" lines={4} />
      {account ? (
        <dl className="facts">
          {account.display_name ? <Fact name="Name">{account.display_name}</Fact> : null}
          {account.email ? <Fact name="E-mail address">{account.email}</Fact> : null}
          <Fact name="Roles">
            <Tags names={account.roles} />
          </Fact>
          <Fact name="Groups">
            {account.groups.length > 0 ? (
              <Tags names={account.groups} />
            ) : (
              <span className="faint">none</span>
            )}
          </Fact>
          <Fact name="Since">{formatMoment(account.created_at)}</Fact>
          <Fact name="May">
            <Permissions />
          </Fact>
        </dl>
      ) : null}
      {session ? <AuditLink only={{ actor: session.user_id }} label="What you changed" isText /> : null}
    </section>
  );
}

function Fact({ name, children }: { name: string; children: React.ReactNode }) {
  return (
    <>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </>
  );
}

function Permissions() {
  const may = useMay();
  const held = (useQuery(permissionsQuery).data ?? []).filter(({ name }) => may(name));
  return (
    <details>
      <summary className="soft">{held.length} kinds of things</summary>
      <ul className="settings-may">
        {held.map(({ name, meaning }) => (
          <li key={name}>{meaning}</li>
        ))}
      </ul>
    </details>
  );
}
