import { redirect } from 'react-router';

export const loader = () => redirect('/about', 308);
