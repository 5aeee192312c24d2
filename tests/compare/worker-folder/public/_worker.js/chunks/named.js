export const named = (words) => `named: ${words}`;
