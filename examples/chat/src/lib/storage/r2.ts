import type { UsageRecorder } from "../cost/monitor";

export type FileType = "document" | "avatar" | "temp";

export class R2FileManager {
  constructor(
    private readonly bucket: R2Bucket,
    private readonly usage?: UsageRecorder,
  ) {}

  async uploadFile(key: string, file: File | ArrayBuffer, metadata?: Record<string, string>): Promise<void> {
    this.usage?.add("r2Requests", 1);
    const isFile = !(file instanceof ArrayBuffer);
    await this.bucket.put(key, file, {
      httpMetadata: {
        contentType: (isFile && file.type) || "application/octet-stream",
        // The key of a file never names other bytes, so a copy stays good. Private: files are the
        // owner's, and a cache that is shared must not keep them.
        cacheControl: "private, max-age=31536000",
      },
      customMetadata: metadata,
    });
    this.usage?.add("r2StorageBytes", isFile ? file.size : file.byteLength);
  }

  async getFile(key: string): Promise<R2ObjectBody | null> {
    this.usage?.add("r2Requests", 1);
    return await this.bucket.get(key);
  }

  /** As `getFile`, with the request's Range and If-… headers; without a body when they did not hold. */
  async getFileFor(key: string, headers: Headers): Promise<R2ObjectBody | R2Object | null> {
    this.usage?.add("r2Requests", 1);
    return await this.bucket.get(key, { range: headers, onlyIf: headers });
  }

  async deleteFile(key: string, sizeBytes = 0): Promise<void> {
    this.usage?.add("r2Requests", 1);
    await this.bucket.delete(key);
    this.usage?.add("r2StorageBytes", -sizeBytes);
  }

  async listFiles(prefix?: string, limit = 1000): Promise<R2Objects> {
    this.usage?.add("r2Requests", 1);
    return await this.bucket.list({ prefix, limit });
  }

  /** Where this application serves the file to its owner: the session is the signature. */
  fileUrl(key: string): string {
    return `/api/v1/files/${key.split("/").map(encodeURIComponent).join("/")}`;
  }
}

export interface FileNamingStrategy {
  generateKey(userId: string, fileType: FileType, originalName: string): string;
}

export class FileKeyGenerator implements FileNamingStrategy {
  constructor(
    private readonly now: () => number = Date.now,
    private readonly random: () => string = () => crypto.randomUUID().slice(0, 8),
  ) {}

  /** `document/<user>/<time>-<random>-<name>.<extension>`, in characters that every system takes. */
  generateKey(userId: string, fileType: FileType, originalName: string): string {
    const extension = this.getFileExtension(originalName);
    const base = extension === "" ? originalName : originalName.slice(0, -(extension.length + 1));
    const name = this.sanitizeFileName(base);
    const suffix = extension === "" ? "" : `.${extension.toLowerCase()}`;
    return `${fileType}/${this.sanitizeFileName(userId)}/${this.now()}-${this.random()}-${name}${suffix}`;
  }

  private sanitizeFileName(name: string): string {
    const safe = name
      .normalize("NFKC")
      .replace(/[^a-zA-Z0-9.-]/g, "_")
      .replace(/_{2,}/g, "_")
      .replace(/\.{2,}/g, ".")
      .replace(/^[._]+|[._]+$/g, "")
      .substring(0, 100);
    return safe === "" ? "file" : safe;
  }

  private getFileExtension(name: string): string {
    return /\.([a-zA-Z0-9]{1,10})$/.exec(name)?.[1] ?? "";
  }
}
