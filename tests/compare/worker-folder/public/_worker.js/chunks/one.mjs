export const answer = 'one';
