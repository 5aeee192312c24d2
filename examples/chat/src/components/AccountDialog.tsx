"use client";

import { type ReactNode, useEffect, useRef, useState } from "react";
import { api } from "../client/api";
import { useStore } from "../client/store";
import type { Theme, UsageLine } from "../shared/types";
import { Icon } from "./icons";

const THEMES: [Theme, string][] = [
  ["system", "As the device"],
  ["light", "Light"],
  ["dark", "Dark"],
];

const NUMBER = new Intl.NumberFormat("en-US", { maximumFractionDigits: 2 });

export function AccountDialog({ onClose, onSignOut }: { onClose: () => void; onSignOut: () => void }): ReactNode {
  const { user, setTheme, report } = useStore();
  const [usage, setUsage] = useState<UsageLine[] | null>(null);
  const element = useRef<HTMLDialogElement>(null);

  useEffect(() => {
    if (!element.current?.open) element.current?.showModal();
    api.usage().then(setUsage, report);
  }, [report]);

  return (
    <dialog ref={element} className="dialog dialog-account" aria-labelledby="account-title" onCancel={onClose} onClose={onClose} data-testid="account-dialog">
      <div className="dialog-head">
        <h2 id="account-title">{user.name}</h2>
        <button type="button" className="icon-button" aria-label="Close" onClick={onClose}>
          <Icon name="close" />
        </button>
      </div>
      <p className="quiet">{user.email}</p>
      <fieldset className="segments">
        <legend>Appearance</legend>
        {THEMES.map(([theme, label]) => (
          <label key={theme}>
            <input type="radio" name="theme" checked={user.theme === theme} onChange={() => setTheme(theme)} />
            <span>{label}</span>
          </label>
        ))}
      </fieldset>
      <section aria-labelledby="usage-title">
        <h3 id="usage-title">Use of this site’s quotas</h3>
        {usage === null ? (
          <p className="quiet">Loading…</p>
        ) : (
          <ul className="usage">
            {usage.map((line) => (
              <li key={line.metric}>
                <span>{line.label}</span>
                <small>
                  {NUMBER.format(line.used)} of {NUMBER.format(line.limit)} {line.unit}
                  {line.period === "total" ? "" : ` a ${line.period}`}
                </small>
                <meter min={0} max={line.limit} high={line.limit * 0.8} value={Math.min(line.used, line.limit)} aria-label={line.label} />
              </li>
            ))}
          </ul>
        )}
      </section>
      <div className="dialog-actions">
        <button type="button" className="button" onClick={onSignOut} data-testid="sign-out">
          Sign out
        </button>
      </div>
    </dialog>
  );
}
