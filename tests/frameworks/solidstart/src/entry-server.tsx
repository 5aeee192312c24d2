// @refresh reload
import { createHandler, StartServer } from '@solidjs/start/server';

// 'async': while it streams, SolidStart sends the status before a route's module has been loaded,
// and a 404 that the route sets comes too late.
export default createHandler(
  () => (
    <StartServer
      document={({ assets, children, scripts }) => (
        <html lang="en">
          <head>
            <meta charset="utf-8" />
            <title>SolidStart</title>
            {assets}
          </head>
          <body>
            <div id="app">{children}</div>
            {scripts}
          </body>
        </html>
      )}
    />
  ),
  { mode: 'async' },
);
