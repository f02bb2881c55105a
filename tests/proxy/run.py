#!/usr/bin/env python3
"""Counts what refused uploads do to other clients of one reverse proxy.

nginx keeps connections to the example server open, and reuses the connection of a refused upload for another client. If the
server closes such a connection without saying so, the other client gets a 502, and nginx must not repeat a POST by itself.
Here some clients send valid POSTs, and others send uploads of 20 to 200 kB that are refused. The valid POSTs that do not get
a 200 are counted; there must be none.

    cargo build --example server
    tests/proxy/run.py [--posts 10000]

SERVER sets another program than target/debug/examples/server, NGINX another nginx. Needs only Python and nginx.
"""

import argparse
import collections
import http.client
import json
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Nothing here takes this long unless it hangs.
PATIENCE = 20

NGINX = """
daemon off;
{user}
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    client_max_body_size 16m;
    upstream api {{
        server {upstream};
        keepalive 8;
    }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://api;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_request_buffering {buffering};
        }}
    }}
}}
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(port):
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.05)
    sys.exit("nginx does not listen")


class Server:
    """The example server, on a fresh store and a free port."""

    def __init__(self, folder):
        target = os.environ.get("CARGO_TARGET_DIR", ROOT / "target")
        program = os.environ.get("SERVER", f"{target}/debug/examples/server")
        fixture = folder / "fixture.json"
        # Throttling is not part of this test; it would refuse requests before the layer does.
        own = {"ADDR": "127.0.0.1:0", "DB": str(folder / "keys.db"), "FIXTURE": str(fixture), "FAILURES": "1000000/s"}
        self.process = subprocess.Popen([program], env={**os.environ, **own}, stdout=subprocess.PIPE, text=True)
        for line in self.process.stdout:
            if line.startswith("Stop with Ctrl-C."):
                break
        else:
            sys.exit("the server has ended")
        said = json.loads(fixture.read_text())
        self.address, self.keys = said["address"], said["keys"]


class Clients:
    """Clients that send one request after the other, each on its own connection to nginx."""

    def __init__(self, port, keys, posts):
        self.port, self.keys = port, keys
        self.left = posts
        self.lock = threading.Lock()
        self.good = collections.Counter()
        self.refused = collections.Counter()

    def take(self):
        with self.lock:
            self.left -= 1
            return self.left >= 0

    def send(self, connection, path, headers, body, count):
        try:
            connection.request("POST", path, body, headers)
            response = connection.getresponse()
            response.read()
            with self.lock:
                count[response.status] += 1
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            with self.lock:
                count[type(error).__name__] += 1

    def well(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        by_bearer = {"Authorization": f"Bearer {self.keys['alice']}", "Content-Type": "text/plain"}
        by_body = {"Content-Type": "application/json"}
        body = json.dumps({"apiKey": self.keys["alice"], "userId": "alice", "projectId": "p1"}).encode()
        while self.take():
            if random.random() < 0.5:
                self.send(connection, "/v1/charges", by_bearer, b"x" * 100, self.good)
            else:
                self.send(connection, "/pixelStripeApi/projects/status", by_body, body, self.good)

    def badly(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        revoked = self.keys["revoked"]
        kinds = [
            # Refused by the store, with the key in a header and in a body.
            ("/v1/charges", {"Authorization": f"Bearer {revoked}", "Content-Type": "text/plain"}),
            ("/migrate/echo", {"X-API-Key": revoked, "X-Project-ID": "p1", "Content-Type": "application/json"}),
            # Refused because of the head.
            ("/migrate/echo", {"Content-Type": "text/plain"}),
            ("/pixelStripeApi/projects/status", {"Content-Type": "text/plain"}),
            # Refused by a route, after the layer has accepted the key.
            ("/v1/api-keys", {"Authorization": f"Bearer {self.keys['carol']}", "Content-Type": "application/json"}),
            ("/v1/api-keys", {"Authorization": f"Bearer {self.keys['alice']}", "Content-Type": "application/json"}),
            ("/v1/api-keys/self-revoke", {"Content-Type": "application/json"}),
        ]
        while self.left > 0:
            path, headers = random.choice(kinds)
            body = b" " * random.randrange(20_000, 200_000)
            self.send(connection, path, headers, body, self.refused)


def measure(server, posts, buffering, folder):
    folder.mkdir()
    port = free_port()
    config = folder / "nginx.conf"
    # If started as root, nginx's workers run as another user, who could not read this folder.
    user = "user root;" if os.geteuid() == 0 else ""
    text = NGINX.format(user=user, folder=folder, upstream=server.address, port=port, buffering=buffering)
    config.write_text(text)
    # It is not on every user's path.
    nginx = os.environ.get("NGINX") or shutil.which("nginx") or "/usr/sbin/nginx"
    proxy = subprocess.Popen([nginx, "-p", str(folder), "-c", str(config)], stderr=subprocess.DEVNULL)
    try:
        wait_for(port)
        clients = Clients(port, server.keys, posts)
        threads = [threading.Thread(target=work) for work in [clients.well] * 4 + [clients.badly] * 4]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        proxy.send_signal(signal.SIGTERM)
        proxy.wait(PATIENCE)
    foreign = sum(count for status, count in clients.good.items() if status != 200)
    print(f"proxy_request_buffering {buffering}: {posts} good POSTs {dict(clients.good)}; "
          f"refused uploads {dict(clients.refused)}; foreign failures: {foreign}", flush=True)
    return foreign


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--posts", type=int, default=10_000, help="good POSTs to send (default: 10000)")
    posts = parser.parse_args().posts
    folder = pathlib.Path(tempfile.mkdtemp(prefix="proxy-"))
    server = Server(folder)
    try:
        halves = [(posts + 1) // 2, posts // 2]
        kinds = zip(["on", "off"], halves)
        foreign = sum(measure(server, count, kind, folder / kind) for kind, count in kinds)
    finally:
        server.process.kill()
        shutil.rmtree(folder, ignore_errors=True)
    if foreign:
        sys.exit(f"{foreign} good requests were not answered by 200, because others were refused before them")


main()
