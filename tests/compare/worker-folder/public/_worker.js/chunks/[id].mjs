export const answer = 'parameter';
