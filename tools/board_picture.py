# SPDX-License-Identifier: Apache-2.0
"""Takes the picture of docs/monitoring.md: a training, TensorBoard, and a browser that looks at it.

    .venv/bin/python tools/board_picture.py docs/images/board.png

Needs, besides what `make bench` sets up, Chromium (`apt-get install chromium`) and TensorBoard (`pip install
tensorboard`, which may be in another environment: `--tensorboard PATH`).
"""

import argparse
import json
import socket
import subprocess
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from PIL import Image

import damo_tf

EPOCHS, STEPS, BATCH = 10, 40, 1024
GROUPS = {"user": 0, "item": 1}
#: What the picture shows, in rows of three.
SCALARS = (
    *("rows/0/rows", "rows/0/new", "rows/0/hit_rate"),
    *("rows/0/lookup_ms", "rows/0/apply_ms", "rows/0/dirty"),
    *("rows/1/rows", "rows/1/blocked", "rows/redo_bytes"),
)
HISTOGRAMS = ("rows/0/norm", "rows/0/updates", "rows/1/updates")
RUN = "defaultExperimentId/store"  # TensorBoard's name of the log directory's subdirectory `store`
WINDOW = (1900, 1810)
COLORS = 64  # of the PNG
SECONDS_TO_DRAW = 40


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description="Takes the picture of docs/monitoring.md.")
    parser.add_argument("picture", type=Path, help="the PNG file to write")
    parser.add_argument("--tensorboard", default="tensorboard", help="command of TensorBoard")
    parser.add_argument("--browser", default="chromium", help="command of Chromium or Chrome")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        train(folder)
        with board(arguments.tensorboard, folder / "log") as address:
            take(arguments.browser, address, folder)
        with Image.open(folder / "window.png") as window:
            window.convert("RGB").quantize(COLORS).save(arguments.picture, optimize=True)


def train(folder: Path) -> None:
    """Trains on users and items, few of which come often and many once. Items get rows when they are back."""
    keras.utils.set_random_seed(0)
    store = damo_tf.Store(folder / "rows")
    inputs = [keras.Input((1,), dtype="int64", name=name) for name in GROUPS]
    layers = [
        damo_tf.Embedding(16, store=store, group=GROUPS["user"], optimizer="adam"),
        damo_tf.Embedding(16, store=store, group=GROUPS["item"], optimizer="adam", min_count=2),
    ]
    vectors = [layer(ids) for layer, ids in zip(layers, inputs, strict=True)]
    hidden = keras.layers.Flatten()(keras.layers.Concatenate()(vectors))
    hidden = keras.layers.Dense(32, activation="relu")(hidden)
    model = keras.Model(inputs, keras.layers.Dense(1, activation="sigmoid")(hidden))
    model.compile("adam", "binary_crossentropy")
    metrics = damo_tf.callbacks.StoreMetrics(folder / "log", update_freq=10)
    model.fit(impressions(), epochs=EPOCHS, steps_per_epoch=STEPS, callbacks=[metrics], verbose=2)
    store.close()


def impressions() -> tf.data.Dataset:
    """Batches in which each example is new, though most ids are not."""
    rng = np.random.default_rng(0)
    ids = {name: rng.zipf(1.3, (EPOCHS * STEPS * BATCH, 1)) for name in GROUPS}
    clicks = (ids["user"] % 5 + ids["item"] % 7) % 2
    return tf.data.Dataset.from_tensor_slices((ids, clicks)).batch(BATCH)


@contextmanager
def board(command: str, log_dir: Path) -> Iterator[str]:
    """TensorBoard, serving `log_dir` at the address that is yielded, until the end of the block."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    with subprocess.Popen(
        [command, "--logdir", log_dir, "--port", str(port)], stderr=subprocess.DEVNULL
    ) as process:
        try:
            address = f"http://localhost:{port}"
            while not has_tags(address):
                if process.poll() is not None:
                    raise RuntimeError(f"'{command}' has ended with status {process.returncode}")
                time.sleep(1)
            yield address
        finally:
            process.terminate()


def has_tags(address: str) -> bool:
    """Whether TensorBoard is up and has read the logs."""
    try:
        with urllib.request.urlopen(f"{address}/data/plugin/histograms/tags") as response:
            return bool(json.load(response))
    except OSError:
        return False


def take(browser: str, address: str, folder: Path) -> None:
    """Writes `window.png`, what the browser shows of the board."""
    pinned = [{"plugin": "scalars", "tag": tag} for tag in SCALARS]
    pinned += [{"plugin": "histograms", "tag": tag, "runId": RUN} for tag in HISTOGRAMS]
    query = urllib.parse.urlencode({"pinnedCards": json.dumps(pinned), "smoothing": 0, "darkMode": "false"})
    subprocess.run(
        [
            browser,
            *("--headless=new", "--no-sandbox", "--hide-scrollbars", "--disable-gpu"),
            "--disable-3d-apis",  # curves are SVG then; a picture of WebGL may miss them
            f"--user-data-dir={folder / 'browser'}",
            f"--window-size={WINDOW[0]},{WINDOW[1]}",
            f"--virtual-time-budget={1000 * SECONDS_TO_DRAW}",
            f"--screenshot={folder / 'window.png'}",
            f"{address}/?{query}#timeseries",
        ],
        check=True,
    )


if __name__ == "__main__":
    main()
