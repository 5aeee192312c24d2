"use client";

import { type FormEvent, type ReactNode, useEffect, useRef, useState } from "react";
import { api, RequestFailure } from "../client/api";
import { clerkSessionToken, mountClerkSignIn } from "../client/clerk";
import type { AppConfig, User } from "../shared/types";
import { Mark } from "./icons";
import { Veranda } from "./Veranda";

interface Props {
  config: AppConfig;
  why: string | null;
  onSignedIn: (user: User) => void;
}

export function SignIn(props: Props): ReactNode {
  return (
    <main className="sign-in">
      <div className="sign-in-picture">
        <Veranda />
      </div>
      <div className="sign-in-panel">
        <div className="brand brand-large">
          <Mark size={34} />
          <span>
            Engawa Chat <span lang="ja">縁側</span>
          </span>
        </div>
        <h1>
          <span>Sit down.</span> <span>Ask your documents.</span>
        </h1>
        <p className="lead">Bring notes, manuals and tables, in English or Japanese, and talk them over. Everything here is yours alone.</p>
        {props.why && (
          <p className="alert" role="alert">
            {props.why}
          </p>
        )}
        {props.config.auth === "clerk" ? <ClerkSignIn {...props} /> : <LocalSignIn {...props} />}
      </div>
    </main>
  );
}

function LocalSignIn({ onSignedIn }: Props): ReactNode {
  const [error, setError] = useState<string | null>(null);
  const [isBusy, setIsBusy] = useState(false);

  const submit = (event: FormEvent<HTMLFormElement>): void => {
    event.preventDefault();
    const form = new FormData(event.currentTarget);
    setIsBusy(true);
    setError(null);
    api.signIn({ name: String(form.get("name")), email: String(form.get("email")) }).then(onSignedIn, (failure: unknown) => {
      setError(failure instanceof RequestFailure ? failure.message : "Signing in failed. Try again.");
      setIsBusy(false);
    });
  };

  return (
    <form className="form" onSubmit={submit} data-testid="sign-in-form">
      <label>
        <span>Name</span>
        <input name="name" autoComplete="name" required maxLength={80} data-testid="sign-in-name" />
      </label>
      <label>
        <span>E-mail</span>
        <input name="email" type="email" autoComplete="email" required maxLength={254} data-testid="sign-in-email" />
      </label>
      {error && (
        <p className="alert" role="alert" data-testid="sign-in-error">
          {error}
        </p>
      )}
      <button className="button button-primary" disabled={isBusy} data-testid="sign-in-submit">
        {isBusy ? "One moment…" : "Come in"}
      </button>
      <p className="hint">No password: your address opens only in this browser. The session ends after a day without a visit.</p>
    </form>
  );
}

function ClerkSignIn({ config, onSignedIn }: Props): ReactNode {
  const holder = useRef<HTMLDivElement>(null);
  const [error, setError] = useState<string | null>(null);

  useEffect(() => {
    let isCurrent = true;
    const run = async (): Promise<void> => {
      if (!config.clerkPublishableKey) throw new Error("Sign-in is not complete here: CLERK_PUBLISHABLE_KEY is not set beside CLERK_SECRET_KEY.");
      if (!holder.current) return;
      await mountClerkSignIn(config.clerkPublishableKey, holder.current);
      const token = await clerkSessionToken();
      const user = await api.signIn({ token });
      if (isCurrent) onSignedIn(user);
    };
    run().catch((failure: unknown) => {
      if (isCurrent) setError(failure instanceof Error ? failure.message : "Signing in failed. Reload the page to try again.");
    });
    return () => {
      isCurrent = false;
    };
  }, [config.clerkPublishableKey, onSignedIn]);

  return (
    <>
      {error && (
        <p className="alert" role="alert">
          {error}
        </p>
      )}
      <div ref={holder} data-testid="clerk-sign-in" />
    </>
  );
}
