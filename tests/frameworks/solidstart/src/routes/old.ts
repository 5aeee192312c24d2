import { redirect } from '@solidjs/router';

export const GET = () => redirect('/about', 308);
