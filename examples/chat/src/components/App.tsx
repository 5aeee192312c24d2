"use client";

import { type ReactNode, useCallback, useEffect, useState } from "react";
import { api, RequestFailure } from "../client/api";
import { applyTheme, StoreProvider } from "../client/store";
import type { AppConfig, User } from "../shared/types";
import { Mark } from "./icons";
import { Shell } from "./Shell";
import { SignIn } from "./SignIn";

type State =
  | { phase: "loading" }
  | { phase: "failed"; message: string }
  | { phase: "signed-out"; config: AppConfig; why: string | null }
  | { phase: "signed-in"; config: AppConfig; user: User };

/** Finds out who is here, then shows the door or the house. */
export function App({ children }: { children: ReactNode }): ReactNode {
  const [state, setState] = useState<State>({ phase: "loading" });

  const load = useCallback(() => {
    setState({ phase: "loading" });
    Promise.all([api.config(), api.session()]).then(
      ([config, user]) => setState(user ? { phase: "signed-in", config, user } : { phase: "signed-out", config, why: null }),
      (error: unknown) => setState({ phase: "failed", message: error instanceof RequestFailure ? error.message : "The page could not start." }),
    );
  }, []);
  useEffect(load, [load]);

  const onSignedOut = useCallback((why: string | null) => {
    applyTheme("system");
    setState((current) => ("config" in current ? { phase: "signed-out", config: current.config, why } : current));
  }, []);

  switch (state.phase) {
    case "loading":
      return (
        <div className="splash" role="status">
          <Mark size={44} />
          <span className="visually-hidden">Loading</span>
        </div>
      );
    case "failed":
      return (
        <main className="splash">
          <Mark size={44} />
          <p role="alert">{state.message}</p>
          <button type="button" className="button" onClick={load}>
            Try again
          </button>
        </main>
      );
    case "signed-out":
      return <SignIn config={state.config} why={state.why} onSignedIn={(user) => setState({ phase: "signed-in", config: state.config, user })} />;
    case "signed-in":
      return (
        <StoreProvider config={state.config} user={state.user} onSignedOut={onSignedOut}>
          <Shell>{children}</Shell>
        </StoreProvider>
      );
  }
}
