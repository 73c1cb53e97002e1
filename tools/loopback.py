"""A file server on this machine, for downloads that break off, are resumed, or bring the wrong
bytes.
"""

import contextlib
import http.server
import threading


@contextlib.contextmanager
def serve(folder):
    """Serve the files of `folder`, `Range` requests included, from 127.0.0.1; yields the server.

    `.address` is where; `.asked` lists (name, Range header) as asked for. `.hang_up` is after how
    many bytes a response breaks off, `.hang_ups` how often; `.resumable` says whether ranges are
    understood.
    """

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            name, asked = self.path.rsplit("/", 1)[-1], self.headers.get("Range")
            running.asked.append((name, asked))
            file = folder / name
            if not file.is_file():
                return self.send_error(404)
            start = int(asked[6:-1]) if asked and running.resumable else 0
            size = file.stat().st_size
            if start >= size:
                return self.send_error(416)
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(size - start))
            self.end_headers()
            breaks_off = running.hang_up is not None and running.hang_ups > 0
            running.hang_ups -= breaks_off
            with open(file, "rb") as content, contextlib.suppress(BrokenPipeError):
                content.seek(start)
                self.wfile.write(content.read(running.hang_up if breaks_off else -1))

        def log_message(self, *args):
            pass

    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    running.asked, running.hang_up, running.hang_ups, running.resumable = [], None, 1000, True
    running.address = f"http://127.0.0.1:{running.server_address[1]}"
    threading.Thread(target=running.serve_forever, daemon=True).start()
    try:
        yield running
    finally:
        running.shutdown()
        running.server_close()
