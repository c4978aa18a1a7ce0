#!/usr/bin/env python3
"""Stands in for Ollama: the commands `serve` and `list`, and the paths of its HTTP API that they use."""

import http.server
import json
import os
import sys
import urllib.request

ANSWERS = {"/api/version": {"version": "0"}, "/api/tags": {"models": [{"name": "a-model"}]}}


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        answer = json.dumps(ANSWERS.get(self.path, {})).encode()
        self.send_response(200 if self.path in ANSWERS else 404)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)


host = os.environ["OLLAMA_HOST"]
if sys.argv[1:] == ["serve"]:
    address, port = host.split(":")
    http.server.HTTPServer((address, int(port)), Handler).serve_forever()
elif sys.argv[1:] == ["list"]:
    with urllib.request.urlopen(f"http://{host}/api/tags") as answer:
        for model in json.load(answer)["models"]:
            print(model["name"])
else:
    sys.exit(f"unknown command: {sys.argv[1:]}")
