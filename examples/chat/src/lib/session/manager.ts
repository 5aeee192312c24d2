import type { Theme } from "../../shared/types";
import type { UsageRecorder } from "../cost/monitor";

export interface DeviceInfo {
  userAgent: string;
  country: string | null;
}

export interface UserPreferences {
  theme: Theme;
}

export interface SessionData {
  userId: string;
  /** Clerk's session id; "local" for a session without Clerk. */
  clerkSessionId: string;
  deviceInfo: DeviceInfo;
  lastActivityAt: string;
  preferences: UserPreferences;
}

export const SESSION_TTL_S = 86400;

/**
 * A session is written again at most this often, since KV counts writes by the day: it then ends
 * between 23¾ and 24 hours after the last visit.
 */
const REFRESH_AFTER_MS = 15 * 60 * 1000;

export class SessionManager {
  constructor(
    private readonly kv: KVNamespace,
    private readonly usage?: UsageRecorder,
    private readonly now: () => number = Date.now,
  ) {}

  async storeSession(sessionId: string, data: SessionData): Promise<void> {
    this.usage?.add("kvWrites", 1);
    await this.kv.put(`session:${sessionId}`, JSON.stringify(data), { expirationTtl: SESSION_TTL_S });
  }

  async getSession(sessionId: string): Promise<SessionData | null> {
    this.usage?.add("kvReads", 1);
    return await this.kv.get<SessionData>(`session:${sessionId}`, { type: "json" });
  }

  async invalidateSession(sessionId: string): Promise<void> {
    this.usage?.add("kvWrites", 1);
    await this.kv.delete(`session:${sessionId}`);
  }

  async refreshSession(sessionId: string): Promise<void> {
    const session = await this.getSession(sessionId);
    if (session) {
      session.lastActivityAt = new Date(this.now()).toISOString();
      await this.storeSession(sessionId, session);
    }
  }

  /** Whether enough time has passed for `refreshSession` to be worth a write. */
  needsRefresh(session: SessionData): boolean {
    return this.now() - Date.parse(session.lastActivityAt) >= REFRESH_AFTER_MS;
  }
}
