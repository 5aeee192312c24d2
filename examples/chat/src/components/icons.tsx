import type { ReactNode } from "react";

/** Line icons, drawn in the text's colour. They are decoration: their button has the name. */
const PATHS = {
  plus: "M12 5v14M5 12h14",
  menu: "M4 7h16M4 12h16M4 17h16",
  close: "M6 6l12 12M18 6L6 18",
  send: "M12 19V5M6 11l6-6 6 6",
  stop: "M8 8h8v8H8z",
  attach: "M20 11.500l-8.200 8.200a5 5 0 0 1-7.100-7.100l8.500-8.500a3.300 3.300 0 0 1 4.700 4.700l-8.500 8.500a1.700 1.700 0 0 1-2.400-2.400l7.800-7.800",
  document: "M7 3h7l5 5v13H7zM14 3v5h5M10 13h6M10 17h6",
  search: "M11 4a7 7 0 1 1 0 14 7 7 0 0 1 0-14zM16.500 16.500L21 21",
  trash: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13M10.500 11v5.500M13.500 11v5.500",
  pencil: "M4 20l1-4.500L16 4.500l3.500 3.500L8.500 19z",
  chat: "M4 5h16v11H9.500L5.500 20v-4H4z",
  upload: "M12 16V5M7 9.500L12 4.500l5 5M4 16v4h16v-4",
  user: "M12 4a4 4 0 1 1 0 8 4 4 0 0 1 0-8zM4.500 20c.8-4 4-6 7.500-6s6.700 2 7.500 6",
} as const;

export function Icon({ name, size = 20 }: { name: keyof typeof PATHS; size?: number }): ReactNode {
  return (
    <svg className="icon" width={size} height={size} viewBox="0 0 24 24" aria-hidden="true">
      <path d={PATHS[name]} fill="none" stroke="currentColor" strokeWidth="1.7" strokeLinecap="round" strokeLinejoin="round" />
    </svg>
  );
}

/** The mark: a lattice door above the boards of a veranda. */
export function Mark({ size = 28 }: { size?: number }): ReactNode {
  return (
    <svg width={size} height={size} viewBox="0 0 32 32" aria-hidden="true" className="mark">
      <g fill="none" stroke="currentColor" strokeWidth="1.7">
        <path d="M6 5h20v13H6zM12.700 5v13M19.300 5v13M6 11.500h20" />
        <path d="M3 22h26M3 26.500h26" strokeLinecap="round" />
      </g>
    </svg>
  );
}
