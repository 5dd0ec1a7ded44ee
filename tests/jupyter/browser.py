"""A headless browser that runs the widget's module on cards, as a notebook's frontend does."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

ASSETS = Path(__file__).parents[2] / "rxtasks" / "jupyter"

#: The browser, None where there is none.
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

_PAGE = """<!doctype html><meta charset="utf-8"><style>%(css)s</style><body><div id="cell"></div><pre id="report"></pre>
<script type="module">
const { default: widget } = await import("data:text/javascript;base64,%(module)s");
const cards = JSON.parse(new TextDecoder().decode(Uint8Array.from(atob("%(cards)s"), (c) => c.charCodeAt(0))));
const listeners = new Set();
let card = cards[0];
const model = {
  get: (name) => (name === "card" ? card : undefined),
  on: (what, listener) => what === "change:card" && listeners.add(listener),
  off: (what, listener) => what === "change:card" && listeners.delete(listener),
};
const cell = document.getElementById("cell");
const shown = [];
const clean = widget.render({ model, el: cell });
shown.push(cell.innerText);
for (card of cards.slice(1)) {
  for (const listener of listeners) listener();
  shown.push(cell.innerText);
}
const report = {
  shown,
  tags: [...new Set([...cell.querySelectorAll("*")].map((found) => found.tagName.toLowerCase()))],
  bars: [...cell.querySelectorAll("progress")].map((bar) => bar.value / bar.max),
  ran: window.ran === true,
};
clean();
report.listeners = listeners.size;
document.getElementById("report").textContent = JSON.stringify(report);
</script>"""


def drawn(cards: list[dict[str, Any]], directory: Path, picture: Path | None = None) -> dict[str, Any]:
    """Draw the cards one after the other in the browser; return what could be seen.

    `shown`: the text after each; `tags` and `bars`: the elements and the values of the progress bars at the end; `ran`:
    whether a script in a card ran; `listeners`: those left after the clean-up.
    """
    assert BROWSER is not None
    page = directory / "page.html"
    fields = {
        "css": (ASSETS / "widget.css").read_text("utf-8"),
        "module": base64.b64encode((ASSETS / "widget.js").read_bytes()).decode(),
        "cards": base64.b64encode(json.dumps(cards).encode()).decode(),
    }
    page.write_text(_PAGE % fields, "utf-8")
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--virtual-time-budget=5000",
        f"--user-data-dir={directory}/p",
    ]
    what = ["--dump-dom"] if picture is None else [f"--screenshot={picture}", "--window-size=900,300"]
    done = subprocess.run(
        [BROWSER, *flags, *what, page.as_uri()], capture_output=True, text=True, timeout=100, stdin=subprocess.DEVNULL
    )
    if picture is not None:
        return {}
    _, found, rest = done.stdout.partition('<pre id="report">')
    assert found, (done.stdout[-2000:], done.stderr[-2000:])
    from html import unescape

    report: dict[str, Any] = json.loads(unescape(rest.partition("</pre>")[0]))
    return report
