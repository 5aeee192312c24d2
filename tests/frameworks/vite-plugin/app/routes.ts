import { index, route, type RouteConfig } from '@react-router/dev/routes';

export default [
  index('routes/home.tsx'),
  route('about', 'routes/about.tsx'),
  route('old', 'routes/old.ts'),
  route('notes', 'routes/notes.tsx'),
  route('notes/:key', 'routes/note.tsx'),
  route('api/notes', 'routes/api-notes.ts'),
  route('api/notes/:key', 'routes/api-note.ts'),
  route('api/stream', 'routes/api-stream.ts'),
] satisfies RouteConfig;
