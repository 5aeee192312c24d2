import { NextResponse, type NextRequest } from 'next/server';

export function middleware(request: NextRequest) {
  if (request.nextUrl.pathname === '/old') return NextResponse.redirect(new URL('/about', request.url), 308);
  const response = NextResponse.next();
  response.headers.set('x-hook', 'next');
  return response;
}

export const config = { matcher: ['/old', '/notes', '/api/:path*'] };
