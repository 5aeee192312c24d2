"use client";

import type { ReactNode } from "react";
import { useStore } from "../client/store";
import { Icon } from "./icons";

/** Files on their way: the bar is what has gone out, then the server reads what arrived. */
export function UploadList(): ReactNode {
  const { uploads, dismissUpload } = useStore();
  return (
    <ul className="uploads" aria-live="polite" data-testid="uploads">
      {uploads.map((upload) => (
        <li key={upload.key} className={upload.error ? "upload has-failed" : "upload"}>
          <span className="upload-name">{upload.name}</span>
          {upload.error ? (
            <>
              <span className="upload-state">{upload.error}</span>
              <button type="button" className="icon-button" aria-label={`Dismiss ${upload.name}`} onClick={() => dismissUpload(upload.key)}>
                <Icon name="close" size={16} />
              </button>
            </>
          ) : (
            <>
              <progress max={1} value={upload.share < 1 ? upload.share : undefined} aria-label={`Uploading ${upload.name}`} />
              <span className="upload-state">{upload.share < 1 ? `${Math.floor(upload.share * 100)} %` : "Reading…"}</span>
            </>
          )}
        </li>
      ))}
    </ul>
  );
}
