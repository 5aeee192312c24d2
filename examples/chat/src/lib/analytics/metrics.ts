import type { SearchType } from "../../shared/types";
import { sha256Hex } from "../text";

/** Analytics Engine stamps each point itself, so none is sent. */
export interface MetricEvent {
  blobs: string[];
  doubles: number[];
  /** Exactly one: Analytics Engine takes no more. docs: analytics limits */
  indexes: [string];
}

export class MetricsCollector {
  constructor(private readonly analytics: AnalyticsEngineDataset) {}

  async trackChatMessage(data: {
    userId: string;
    conversationId: string;
    messageLength: number;
    responseTime: number;
    model: string;
    hasRAG: boolean;
  }): Promise<void> {
    this.write({
      blobs: [data.userId, data.conversationId, data.model, data.hasRAG ? "rag" : "normal"],
      doubles: [data.messageLength, data.responseTime],
      indexes: ["chat_message"],
    });
  }

  async trackSearchQuery(data: {
    userId: string;
    query: string;
    resultCount: number;
    searchTime: number;
    searchType: SearchType;
  }): Promise<void> {
    this.write({
      blobs: [data.userId, data.searchType, await this.hashQuery(data.query)],
      doubles: [data.resultCount, data.searchTime],
      indexes: ["search_query"],
    });
  }

  async trackFileUpload(data: {
    userId: string;
    fileSize: number;
    fileType: string;
    processingTime: number;
  }): Promise<void> {
    this.write({
      blobs: [data.userId, data.fileType],
      doubles: [data.fileSize, data.processingTime],
      indexes: ["file_upload"],
    });
  }

  private write(event: MetricEvent): void {
    this.analytics.writeDataPoint(event);
  }

  /** The same words give the same hash whatever their case; the words themselves are never kept. */
  private async hashQuery(query: string): Promise<string> {
    return await sha256Hex(query.trim().toLowerCase());
  }
}
