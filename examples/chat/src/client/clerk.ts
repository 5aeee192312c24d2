/** Clerk's own script, loaded from the instance that the publishable key names, only when Clerk is configured. */

interface ClerkBrowser {
  load(): Promise<void>;
  mountSignIn(element: HTMLElement): void;
  unmountSignIn(element: HTMLElement): void;
  signOut(): Promise<void>;
  addListener(listener: (state: { session?: { getToken(): Promise<string | null> } | null }) => void): () => void;
  session?: { getToken(): Promise<string | null> } | null;
}

const clerk = (): ClerkBrowser | undefined => (window as unknown as { Clerk?: ClerkBrowser }).Clerk;

export async function mountClerkSignIn(publishableKey: string, element: HTMLElement): Promise<void> {
  await loadScript(publishableKey);
  const instance = clerk();
  if (!instance) throw new Error("Clerk did not start. Reload the page to try again.");
  await instance.load();
  if (!instance.session) instance.mountSignIn(element);
}

/** Resolves when somebody has signed in. */
export function clerkSessionToken(): Promise<string> {
  return new Promise((resolve, reject) => {
    const instance = clerk();
    if (!instance) return reject(new Error("Clerk did not start. Reload the page to try again."));
    let isDone = false;
    const take = (session: { getToken(): Promise<string | null> } | null | undefined): void => {
      if (isDone || !session) return;
      isDone = true;
      session.getToken().then((token) => (token ? resolve(token) : reject(new Error("Clerk gave no token. Sign in again."))), reject);
    };
    instance.addListener(({ session }) => take(session));
    take(instance.session);
  });
}

/** Without this, Clerk would sign the same person in again at once. */
export async function clerkSignOut(): Promise<void> {
  await clerk()?.signOut();
}

function loadScript(publishableKey: string): Promise<void> {
  if (clerk()) return Promise.resolve();
  return new Promise((resolve, reject) => {
    // pk_test_<base64 of "host$">
    const host = atob(publishableKey.split("_")[2] ?? "").replace(/\$$/, "");
    if (!/^[a-z0-9.-]+$/i.test(host)) return reject(new Error("CLERK_PUBLISHABLE_KEY is not a publishable key of Clerk."));
    const script = document.createElement("script");
    script.src = `https://${host}/npm/@clerk/clerk-js@5/dist/clerk.browser.js`;
    script.async = true;
    script.crossOrigin = "anonymous";
    script.dataset["clerkPublishableKey"] = publishableKey;
    script.onload = () => resolve();
    script.onerror = () => reject(new Error("Clerk's sign-in could not be loaded. Check your connection, then reload the page."));
    document.head.append(script);
  });
}
