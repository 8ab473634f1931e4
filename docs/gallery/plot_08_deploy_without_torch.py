"""
Serve a model without torch
===========================

Training an encoder takes torch; predicting with a fitted ``DejaVidClassifier`` on the
CPU does not. This example saves a model, starts a small HTTP server in a process of its
own that loads it, sends it sequences as JSON, and measures the latency.

The server uses the standard library only. It
shows what is needed, and is no server for the internet: it has no encryption, no
authentication and no queue. The same few lines of prediction work in any framework.

To run it, ``pip install "skdejavid[plot]"``. The server alone needs no extra.
"""

import atexit
import http.client
import json
import re
import subprocess
import sys
import tempfile
import time
from importlib.metadata import requires
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from skdejavid import DejaVidClassifier
from skdejavid.datasets import load_japanese_vowels

folder = tempfile.TemporaryDirectory()

# %%
# What has to be installed
# ------------------------
#
# ``pip install skdejavid``, without extras, installs these packages and what they need:

for requirement in sorted(requires("skdejavid")):
    if "extra ==" not in requirement:
        print(re.match(r"[\w-]+", requirement)[0])

# %%
# Save a model
# ------------
#
# The file contains arrays and JSON, and no code. Loading it cannot run anything, unlike
# a pickle.

X_train, y_train, X_test, y_test = load_japanese_vowels()
clf = DejaVidClassifier(random_state=0).fit(X_train, y_train)
path = Path(folder.name, "model.safetensors")
clf.save(path)
print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")

# %%
# A server
# --------
#
# A request has a list of sequences, each a list of frames. The answer has a label and
# the probabilities for each sequence, and the time that the prediction took.
# ``predict_proba`` checks its input, and its error message goes back to the client.

SERVER = '''
import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np

from skdejavid import DejaVidClassifier

MODEL = DejaVidClassifier.load(sys.argv[1])
MOST_BYTES = 10_000_000


def answer_to(request):
    """Return the answer to a request, as something that JSON can express."""
    sequences = [np.asarray(x, dtype=np.float64) for x in request["sequences"]]
    begin = time.perf_counter()
    probabilities = MODEL.predict_proba(sequences)
    return {
        "milliseconds": 1000 * (time.perf_counter() - begin),
        "labels": MODEL.classes_[probabilities.argmax(axis=1)].tolist(),
        "probabilities": probabilities.tolist(),
    }


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # the connection stays open
    wbufsize = -1  # headers and body leave together

    def do_GET(self):
        self.reply(200, {"classes": MODEL.classes_.tolist(), "modules": sorted(sys.modules)})

    def do_POST(self):
        n_bytes = int(self.headers.get("Content-Length", 0))
        if n_bytes > MOST_BYTES:
            self.close_connection = True
            return self.reply(413, {"error": f"more than {MOST_BYTES} bytes"})
        try:
            self.reply(200, answer_to(json.loads(self.rfile.read(n_bytes))))
        except (KeyError, TypeError, ValueError) as error:
            self.reply(400, {"error": str(error)})

    def reply(self, status, content):
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass  # one line per request would fill the terminal


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)  # any free port
print(server.server_port, flush=True)
server.serve_forever()
'''
program = Path(folder.name, "server.py")
with open(program, "w") as file:
    file.write(SERVER)

# %%
# Start it
# --------
#
# It prints its port as soon as it can answer.

process = subprocess.Popen([sys.executable, program, path], stdout=subprocess.PIPE, text=True)
atexit.register(process.kill)  # also if a cell below fails
port = int(process.stdout.readline())
connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)


def ask(method, content=None):
    """Return the status and the decoded answer."""
    connection.request(method, "/", None if content is None else json.dumps(content))
    response = connection.getresponse()
    return response.status, json.load(response)


status, about = ask("GET")
print("classes:", about["classes"])
for name in ("sklearn", "torch", "matplotlib"):
    print(f"{name} is loaded in the server: {name in about['modules']}")

# %%
# Ask it
# ------
#
# JSON keeps every digit, so the answers are exactly those of the model in this process.

status, answer = ask("POST", {"sequences": [x.tolist() for x in X_test]})
print("status", status)
print("first labels:", answer["labels"][:5])
print("accuracy:", round(np.mean(answer["labels"] == y_test), 3))
print("the same bits:", np.array_equal(answer["probabilities"], clf.predict_proba(X_test)))

# %%
# A request that the model cannot answer gets an error with the reason, and the server
# keeps running:

print(*ask("POST", {"sequences": [X_test[0][:, :3].tolist()]}))
print(*ask("POST", {"sequences": [[[float("nan")] * 12]]}))

# %%
# Latency
# -------
#
# One request after the other, over the same connection, with 1, 10 and 100 sequences. A
# solid line shows how long the client waits, a dashed one the prediction alone. The
# times differ from machine to machine and from run to run.

figure, ax = plt.subplots(figsize=(8, 3.5), layout="constrained")
for size in (1, 10, 100):
    content = {"sequences": [x.tolist() for x in X_test[:size]]}
    waited, predicted = [], []
    for _ in range(60):
        begin = time.perf_counter()
        _, answer = ask("POST", content)
        waited.append(1000 * (time.perf_counter() - begin))
        predicted.append(answer["milliseconds"])
    curve = ax.ecdf(waited, label=f"{size} in a request")
    ax.ecdf(predicted, color=curve.get_color(), linestyle="--")
ax.plot([], [], color="gray", linestyle="--", label="prediction alone")
ax.set(
    xscale="log",
    xlabel="time (ms)",
    ylabel="fraction of the requests",
    title="latency of the server",
)
figure.legend(loc="outside right upper")
plt.show()

# %%
# With many sequences most of the wait is for JSON, which writes and reads every number
# as text, and not for the prediction. Where that matters, send arrays as bytes, for
# example with ``numpy.save``.

connection.close()
process.terminate()
process.wait()
folder.cleanup()
