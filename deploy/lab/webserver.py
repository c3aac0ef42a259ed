"""The plain HTTP server of the LAN host: answers a GET with the address the request came from.

GET /endless answers with that address, a line every LINE_S, until one of the two ends it.
"""

import contextlib
import socket
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LINE_S = 0.01


class Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = self.client_address[0].removeprefix("::ffff:").encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        if self.path == "/endless":
            self.end_headers()
            self._go_on(body + b"\n")
            return
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _go_on(self, line: bytes) -> None:
        with contextlib.suppress(OSError):
            while True:
                self.wfile.write(line)
                time.sleep(LINE_S)


class DualStack(ThreadingHTTPServer):
    address_family = socket.AF_INET6

    def server_bind(self) -> None:
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()


if __name__ == "__main__":
    DualStack(("::", int(sys.argv[1])), Answer).serve_forever()
