"""What tests do with the page in a browser: wait for its answer, drop a file, draw."""

import base64
from pathlib import Path
from typing import Any

from fedlite.serve.predict import predict

SECONDS = 60_000  # milliseconds that a slow machine may take


def answered(page: Any) -> dict[str, float]:
    """Probabilities by class, once the page is done with the newest input."""
    page.locator("#bars[aria-busy=false] li").first.wait_for(timeout=SECONDS)
    rows = page.locator("#bars li")
    found = rows.evaluate_all("all => all.map(x => [x.dataset.label, x.dataset.probability])")
    return {label: float(probability) for label, probability in found}


def expected(bundle: Path, file: Path, *, invert: bool = False) -> dict[str, float]:
    """What Python answers."""
    (prediction,) = predict(bundle, file, invert=invert)
    return dict(prediction.probabilities)


def drop(page: Any, file: Path) -> None:
    """Drop a file on the stage, as the mouse would."""
    page.locator("#bars").evaluate("bars => bars.setAttribute('aria-busy', 'true')")
    transfer = page.evaluate_handle(
        """([name, content]) => {
            const bytes = Uint8Array.from(atob(content), (c) => c.charCodeAt(0));
            const transfer = new DataTransfer();
            transfer.items.add(new File([bytes], name));
            return transfer;
        }""",
        [file.name, base64.b64encode(file.read_bytes()).decode()],
    )
    page.locator("#stage").dispatch_event("drop", {"dataTransfer": transfer})


def draw(page: Any, at: list[tuple[float, float]], *, lift: bool = True) -> None:
    """Draw through points, as shares of the canvas's size; ``lift`` ends the stroke."""
    page.evaluate("scrollTo(0, 0)")
    box = page.locator("#input").bounding_box()
    points = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in at]
    page.locator("#bars").evaluate("bars => bars.setAttribute('aria-busy', 'true')")
    page.mouse.move(*points[0])
    page.mouse.down()
    for point in points[1:]:
        page.mouse.move(*point, steps=5)
    if lift:
        page.mouse.up()


def canvas_of(page: Any, path: Path) -> Path:
    """The large canvas as a PNG file."""
    content = page.locator("#input").evaluate("canvas => canvas.toDataURL('image/png')")
    path.write_bytes(base64.b64decode(content.split(",")[1]))
    return path
