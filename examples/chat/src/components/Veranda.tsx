import type { ReactNode } from "react";

/** An engawa at the edge of a garden: eaves, paper doors, the moon over a pine, the long boards. */
export function Veranda(): ReactNode {
  return (
    <svg className="veranda" viewBox="0 0 600 800" preserveAspectRatio="xMidYMax slice" aria-hidden="true">
      <rect width="600" height="800" className="v-sky" />
      <circle cx="418" cy="250" r="62" className="v-moon" />
      <path d="M0 520 C 120 430 210 470 300 440 S 500 400 600 450 V 640 H 0Z" className="v-hill-far" />
      <path d="M0 560 C 90 520 170 540 270 520 S 470 500 600 530 V 660 H 0Z" className="v-hill" />
      <g className="v-pine">
        <path d="M512 560 C 506 500 520 470 500 420 C 494 400 504 380 498 360" className="v-trunk" />
        <ellipse cx="492" cy="352" rx="62" ry="17" />
        <ellipse cx="540" cy="398" rx="56" ry="16" />
        <ellipse cx="462" cy="420" rx="50" ry="14" />
        <ellipse cx="528" cy="456" rx="62" ry="16" />
      </g>
      <g className="v-stones">
        <ellipse cx="420" cy="604" rx="52" ry="14" />
        <ellipse cx="520" cy="618" rx="34" ry="10" />
        <ellipse cx="352" cy="622" rx="26" ry="8" />
      </g>
      <g className="v-door">
        <rect x="-10" y="92" width="252" height="556" className="v-paper" />
        <path d="M0 92V648M80 92V648M161 92V648M242 92V648M-10 92H242M-10 185H242M-10 278H242M-10 371H242M-10 464H242M-10 556H242M-10 648H242" />
      </g>
      <path d="M0 0H600V66H0z" className="v-beam" />
      <path d="M0 66H600V92H0z" className="v-eave" />
      <rect x="566" y="92" width="20" height="556" className="v-eave" />
      <path d="M0 648H600V800H0z" className="v-boards" />
      <path d="M0 648H600M0 680H600M0 716H600M0 756H600" className="v-seams" />
      <g className="v-cup">
        <path d="M300 664h40l-4 24c-1 6-5 8-9 8h-14c-4 0-8-2-9-8z" />
        <path d="M312 652c-4-7 4-10 0-18M326 652c-4-7 4-10 0-18" className="v-steam" />
      </g>
    </svg>
  );
}
